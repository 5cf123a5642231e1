# Goal: the pycompss names exist, mean the same, and what is missing says so by name when it is used.
# Method: import every path of docs/client-protocol.md's compatibility list; run what can run.

import importlib

import pytest

import shoal
from shoal.errors import NotSupportedError

PARAMETER_NAMES = """
IN OUT INOUT CONCURRENT COMMUTATIVE IN_DELETE
FILE FILE_IN FILE_OUT FILE_INOUT FILE_CONCURRENT FILE_COMMUTATIVE FILE_STDIN FILE_STDOUT FILE_STDERR
FILE_IN_STDIN FILE_OUT_STDIN FILE_INOUT_STDIN FILE_CONCURRENT_STDIN FILE_COMMUTATIVE_STDIN
FILE_IN_STDOUT FILE_OUT_STDOUT FILE_INOUT_STDOUT FILE_CONCURRENT_STDOUT FILE_COMMUTATIVE_STDOUT
FILE_IN_STDERR FILE_OUT_STDERR FILE_INOUT_STDERR FILE_CONCURRENT_STDERR FILE_COMMUTATIVE_STDERR
DIRECTORY DIRECTORY_IN DIRECTORY_OUT DIRECTORY_INOUT
COLLECTION COLLECTION_IN COLLECTION_OUT COLLECTION_INOUT COLLECTION_IN_DELETE
COLLECTION_FILE COLLECTION_FILE_IN COLLECTION_FILE_OUT COLLECTION_FILE_INOUT
DICTIONARY DICTIONARY_IN DICTIONARY_OUT DICTIONARY_INOUT DICTIONARY_IN_DELETE
STREAM_IN STREAM_OUT
Type Direction StdIOStream Prefix Depth Weight Keep_rename Cache
TYPE DIRECTION IOSTREAM STDIN STDOUT STDERR PREFIX block_count block_length stride
""".split()

API_NAMES = """
compss_start compss_stop compss_wait_on compss_wait_on_file compss_wait_on_directory compss_open compss_barrier
compss_barrier_group TaskGroup compss_cancel_group compss_delete_object compss_delete_file compss_file_exists compss_snapshot
compss_get_number_of_resources compss_request_resources compss_free_resources compss_set_wall_clock compss_add_logger
""".split()

MISSING = [
    ("implement", "implement"),
    ("mpi", "mpi"),
    ("mpi", "MPI"),
    ("mpmd_mpi", "mpmd_mpi"),
    ("multinode", "multinode"),
    ("ompss", "ompss"),
    ("compss", "compss"),
    ("decaf", "decaf"),
    ("julia", "julia"),
    ("opencl", "opencl"),
    ("container", "container"),
    ("http", "http"),
    ("software", "software"),
    ("prolog", "prolog"),
    ("epilog", "epilog"),
    ("data_transformation", "dt"),
    ("data_transformation", "dto"),
]


@pytest.mark.parametrize("module", ["pycompss.api.parameter", "shoal", "shoal.parameter"])
def test_all_parameter_names(module):
    scope = {}
    exec(f"from {module} import *", scope)
    assert [name for name in PARAMETER_NAMES if name not in scope] == []


def test_values_of_directions():
    from pycompss.api.parameter import DIRECTION

    assert [int(DIRECTION[n]) for n in ("IN", "OUT", "INOUT", "CONCURRENT", "COMMUTATIVE", "IN_DELETE")] == list(range(6))


def test_all_functions():
    api = importlib.import_module("pycompss.api.api")
    assert [name for name in API_NAMES if not hasattr(api, name)] == []
    for module, names in {
        "task": "task Task",
        "constraint": "constraint Constraint",
        "on_failure": "on_failure onFailure OnFailure",
        "binary": "binary Binary",
        "local": "local Local",
        "IO": "IO",
        "reduction": "reduction Reduction",
        "exceptions": "COMPSsException",
    }.items():
        found = importlib.import_module(f"pycompss.api.{module}")
        assert [name for name in names.split() if not hasattr(found, name)] == []


@pytest.mark.parametrize(("module", "name"), MISSING)
def test_missing_decorators_refuse_by_name(module, name):
    decorator = getattr(importlib.import_module(f"pycompss.api.{module}"), name)
    with pytest.raises(NotSupportedError, match="is not supported by this version of Shoal"):
        decorator(anything=1)


@pytest.mark.parametrize("call", ["compss_request_resources", "compss_free_resources", "compss_set_wall_clock"])
def test_missing_functions_refuse_by_name(call):
    with pytest.raises(NotSupportedError, match=call):
        getattr(importlib.import_module("pycompss.api.api"), call)(1)


def test_multi_node_tasks_refuse():
    with pytest.raises(NotSupportedError, match="computing_nodes > 1"):
        shoal.task(computing_nodes=2)(lambda: 0)


@shoal.task(returns=1)
def plus(a, b):
    return a + b


@shoal.task(returns=1)
def sum3(*parts):
    return sum(parts)


def test_functions(session):
    from pycompss.api.api import compss_wait_on
    from pycompss.functions.data import chunks, generator
    from pycompss.functions.elapsed_time import timeit
    from pycompss.functions.map import map as task_map
    from pycompss.functions.reduce import merge_n_reduce, merge_reduce

    assert compss_wait_on(merge_reduce(plus, range(10))) == 45
    assert compss_wait_on(merge_n_reduce(sum3, 3, list(range(10)))) == 45
    assert compss_wait_on(task_map(plus, [1, 2], [10, 20])) == [11, 22]
    assert list(chunks([1, 2, 3], 2)) == [[1, 2], [3]]
    assert [len(c) for c in chunks(list(range(7)), 3, balanced=True)] == [3, 2, 2]
    data = generator((10, 2), 5, seed=1)
    assert (len(data), len(data[0]), len(data[0][0])) == (5, 2, 2)
    result, seconds = timeit()(lambda: 3)()
    assert result == 3
    assert seconds >= 0
    assert compss_wait_on(plus(1, 1), plus(2, 2), mode="r") == [2, 4]


def test_serializer(tmp_path):
    from pycompss.util.serialization.serializer import deserialize_from_file, serialize_to_file

    serialize_to_file({"a": [1, 2]}, str(tmp_path / "f"))
    assert deserialize_from_file(str(tmp_path / "f")) == {"a": [1, 2]}
