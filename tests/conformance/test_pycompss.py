# Goal: the pycompss names exist, mean the same, and what is missing says so by name when it is used.
# Method: import every path of docs/client-protocol.md's compatibility list; run what can run.

import importlib
import logging
import os
import subprocess
import sys
import time

import pytest

import shoal
from shoal import _runtime
from shoal.errors import NotSupportedError

PARAMETER_NAMES = """
IN OUT INOUT CONCURRENT COMMUTATIVE IN_DELETE
OBJECT_TO_FILE FILE_TO_OBJECT FILE_TO_COLLECTION COLLECTION_TO_OBJECT COLLECTION_TO_FILE OBJECT_TO_DIRECTORY
DIRECTORY_TO_OBJECT COLLECTION_TO_DIRECTORY
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

# Every module of pycompss.api, with all spellings of its names.
MODULES = {
    "task": "task Task",
    "constraint": "constraint Constraint",
    "on_failure": "on_failure onFailure OnFailure",
    "implement": "implement Implement",
    "binary": "binary Binary",
    "local": "local Local",
    "IO": "IO Io",
    "reduction": "reduction Reduction",
    "data_transformation": "data_transformation dt DT DataTransformation dto DTO DTObject",
    "prolog": "prolog Prolog",
    "epilog": "epilog Epilog",
    "ompss": "ompss OmpSs Ompss",
    "decaf": "decaf Decaf",
    "julia": "julia Julia",
    "opencl": "opencl OpenCL Opencl",
    "mpi": "mpi Mpi MPI",
    "mpmd_mpi": "mpmd_mpi MpmdMPI Mpmd_mpi",
    "multinode": "multinode MultiNode Multinode",
    "compss": "compss COMPSs Compss",
    "container": "container Container",
    "http": "http HTTP Http",
    "software": "software Software",
    "exceptions": "COMPSsException",
    "api": "barrier",
    "parameter": "IN",
}
MISSING = ["mpi", "mpmd_mpi", "multinode", "compss", "container", "http", "software"]


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
    for module, names in MODULES.items():
        found = importlib.import_module(f"pycompss.api.{module}")
        assert [name for name in names.split() if not hasattr(found, name)] == [], module


@pytest.mark.parametrize("name", MISSING)
def test_missing_decorators_refuse_by_name_at_decoration(name):
    module = importlib.import_module(f"pycompss.api.{name}")
    for spelling in MODULES[name].split():
        decorator = getattr(module, spelling)
        with pytest.raises(NotSupportedError, match=f"@{name} .* is not supported by this version of Shoal"):
            decorator(anything=1)
        with pytest.raises(NotSupportedError, match=f"@{name} "):
            decorator(lambda: 0)


@pytest.mark.parametrize("call", ["compss_request_resources", "compss_free_resources"])
def test_elasticity_refuses_with_an_agent_and_is_nothing_without(call, session, monkeypatch):
    function = getattr(importlib.import_module("pycompss.api.api"), call)
    with pytest.raises(NotSupportedError, match=rf"{call} \(elasticity\) is not supported"):
        function(1, "group")
    monkeypatch.setattr(_runtime, "current", None)
    monkeypatch.setattr(_runtime, "_may_attach", False)
    assert function(num_resources=1, group_name="group") is None


def test_resources_logger_and_snapshot(session, monkeypatch):
    from pycompss.api import api

    assert api.compss_get_number_of_resources() == 1
    api.compss_snapshot()
    api.compss_add_logger("a.program")
    api.compss_add_logger("a.program")
    assert len(logging.getLogger("a.program").handlers) == 1
    monkeypatch.setattr(_runtime, "current", None)
    monkeypatch.setattr(_runtime, "_may_attach", False)
    assert api.compss_get_number_of_resources() == 1
    with pytest.raises(shoal.ShoalError, match="needs the runtime"):
        api.compss_add_logger("a.program")


def test_groups_by_keyword_nest(session):
    from pycompss.api import api
    from pycompss.api.exceptions import COMPSsException

    with api.TaskGroup(group_name="outer", implicit_barrier=False), api.TaskGroup("inner", False):
        value = plus(1, 2)
        raising()
    with pytest.raises(COMPSsException, match="inside"):
        api.compss_barrier_group(group_name="inner")
    assert api.compss_wait_on(value) == 3
    api.compss_cancel_group(group_name="outer")


@shoal.task()
def raising():
    raise shoal.COMPSsException("inside")


WALL_CLOCK = """
import sys, time
from pycompss.api.api import compss_set_wall_clock, compss_wait_on
from pycompss.api.task import task

@task(returns=1)
def forever(path):
    time.sleep(60)
    open(path, "w").close()

compss_set_wall_clock(wall_clock_limit=1)
value = forever(sys.argv[1])
try:
    compss_wait_on(value)
    time.sleep(60)
except Exception:
    print("caught")
print("not reached")
"""


@pytest.mark.parametrize("with_agent", [True, False])
def test_wall_clock_cancels_the_tasks_and_stops_the_run(agent, tmp_path, with_agent):
    (tmp_path / "app.py").write_text(WALL_CLOCK)
    source = os.path.dirname(os.path.dirname(shoal.__file__))
    environment = {**os.environ, "PYTHONPATH": source}
    if with_agent:
        environment["SHOAL_SOCKET"] = agent.socket
    command = [sys.executable, "-m", "shoal", str(tmp_path / "app.py"), str(tmp_path / "made")]
    begin = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert time.monotonic() - begin < 20
    assert (done.returncode, done.stdout) == (1, "")
    assert "the wall clock limit of 1 s is over; the tasks are cancelled and the program stops" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "made").exists()


def test_wall_clock_can_be_taken_back(sequential):
    from pycompss.api.api import compss_set_wall_clock

    compss_set_wall_clock(0.2)
    compss_set_wall_clock(0)
    time.sleep(0.3)
    with pytest.raises(ValueError, match="cannot be negative"):
        compss_set_wall_clock(-1)


def test_wait_on_a_container_that_holds_itself(session):
    ring = [plus(1, 1)]
    ring.append(ring)
    found = shoal.wait_on(ring)
    assert found[0] == 2
    plain = {"a": 1}
    plain["self"] = plain
    assert shoal.wait_on(plain) is plain


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
