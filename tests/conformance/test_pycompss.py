# Goal: the pycompss names exist, mean the same, and what is missing says so by name when it is used.
# Method: import every path of docs/client-protocol.md's compatibility list; run what can run.

import importlib
import logging
import os
import re
import subprocess
import sys
import time
import unittest

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


def test_elasticity_asks_the_agent_says_once_what_is_missing_and_is_nothing_without(session, agent, monkeypatch, capsys):
    from pycompss.api import api

    monkeypatch.setattr(shoal.api, "_said", set())
    for _ in range(2):
        assert api.compss_request_resources(num_resources=3, group_name="group") is None
    assert api.compss_free_resources(2) is None
    assert agent.elastic == [("elastic.grow", 3, "group")] * 2 + [("elastic.shrink", 2, "")]
    assert capsys.readouterr().err.count("this agent makes none: set elastic_max\n") == 1
    agent.elastic_max = 2
    assert shoal.request_agents(3) == 2
    assert "3 more agents were asked for, 2 are made; this agent has at most 2" in capsys.readouterr().err
    assert shoal.request_agents(2) == 2
    assert shoal.free_agents(1, "group") == 1
    assert capsys.readouterr().err == ""
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match="whole number"):
            api.compss_request_resources(wrong)
    monkeypatch.setattr(_runtime, "current", None)
    monkeypatch.setattr(_runtime, "_may_attach", False)
    assert api.compss_request_resources(num_resources=1, group_name="group") is None
    assert api.compss_free_resources(1) is None


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


@shoal.on_failure(management="CANCEL_SUCCESSORS")
@shoal.task(returns=1, items=shoal.INOUT)
def breaks(items):
    items.append("left")
    raise ValueError("on purpose")


@shoal.task(items=shoal.INOUT)
def extend(items, more):
    items.append(more)


def test_results_of_cancelled_tasks_are_none(session):
    from pycompss.api.api import compss_barrier, compss_wait_on

    items, others = [], []
    result = breaks(items)
    later = plus(plus(result, 1), 1)
    extend(others, result)
    assert compss_wait_on([result, later], plus(1, 1)) == [[None, None], 2]
    assert compss_wait_on(items) == ["left"]
    assert compss_wait_on(others) is others
    assert others == []
    with pytest.raises(ValueError, match="on purpose"):
        shoal.wait_on(later)
    compss_barrier()


def test_returns_of_a_call(session):
    @shoal.task(returns=1)
    def parts(n):
        return list(range(n))

    assert shoal.wait_on(parts(3, returns=3)) == [0, 1, 2]
    assert shoal.wait_on(parts(3)) == [0, 1, 2]
    assert len(parts(3, returns="{{n}}")) == 3

    class Sized:
        def __init__(self):
            self.groups = 2

        @shoal.task(target_direction=shoal.IN, returns="value_of(self.groups)")
        def unfold(self):
            return list(range(self.groups))

    assert shoal.wait_on(Sized().unfold()) == [0, 1]


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
    assert [len(c) for c in chunks(list(range(8)), 3, balanced=True)] == [4, 4]
    assert [len(c) for c in chunks(list(range(7)), 3, balanced=True)] == [4, 3]
    assert [len(c) for c in chunks(list(range(7)), 3)] == [3, 3, 1]
    data = generator((11, 2), 5, seed=1, wait=True)
    assert [len(fragment) for fragment in data] == [3, 2, 2, 2, 2]
    assert len(data[0][0]) == 2
    assert compss_wait_on(generator((11, 2), 5, seed=1)) == data
    assert generator((4, 1), 2, distribution="normal", wait=True) != generator((4, 1), 2, distribution="uniform", wait=True)
    with pytest.raises(ValueError, match="distribution='even': it is one of random, normal, uniform"):
        generator((1, 1), 1, distribution="even")
    for decorator in (timeit(), timeit):
        result, seconds = decorator(lambda: 3)()
        assert (result, seconds >= 0) == (3, True)
    assert compss_wait_on(plus(1, 1), plus(2, 2), mode="r") == [2, 4]


def test_serializer(tmp_path):
    from pycompss.util.serialization.serializer import deserialize_from_file, serialize_to_file

    serialize_to_file({"a": [1, 2]}, str(tmp_path / "f"))
    assert deserialize_from_file(str(tmp_path / "f")) == {"a": [1, 2]}


def test_profile(tmp_path, capsys):
    from pycompss.functions.profile import Profile, profile

    @profile
    def grows():
        return bytearray(1 << 22)

    assert len(grows()) == 1 << 22
    assert re.search(r"grows: \d+\.\d+ s, .* allocated at most [4-9]\.\d MiB", capsys.readouterr().out)
    Profile(full_report=False, redirect_to=str(tmp_path / "f"))(lambda: 1)()
    assert "process peak" in (tmp_path / "f").read_text()


PROGRAM = """
import sys
import shoal
from pycompss.api.task import task
from pycompss.api.api import compss_wait_on
from pycompss.runtime.management.object_tracker import OT
from pycompss.api.parameter import INOUT

@task(returns=1, items=INOUT)
def push(items, item):
    items.append(item)
    return len(items)

def entry(count, start=0):
    items = []
    for i in range(int(count)):
        last = push(items, start + i)
    runs_in_tasks = shoal.session() is not None
    assert (OT.is_tracked(items) is not None) is OT.is_obj_to_synchronize(last) is runs_in_tasks
    last = compss_wait_on(last)
    items = compss_wait_on(items)
    assert OT.is_tracked(items) is None
    return last, items

if __name__ == "__main__":
    print(*entry(*sys.argv[1:2]), sys.argv[2:])
"""


def test_launch_and_object_tracker(session, tmp_path):
    from pycompss.runtime.launch import launch_pycompss_application
    from pycompss.runtime.management.classes import Future

    path = tmp_path / "launched.py"
    path.write_text(PROGRAM)
    assert launch_pycompss_application(str(path), "entry", 2, start=5, log_level="off") == (2, [5, 6])
    assert launch_pycompss_application(str(path), "entry", ["1"], {"start": 3}) == (1, [3])
    assert launch_pycompss_application(str(path), "entry", args=["1"], kwargs={"start": 4}) == (1, [4])
    with pytest.raises(AttributeError, match="has no function 'nothing'"):
        launch_pycompss_application(str(path), "nothing")
    with pytest.raises(FileNotFoundError, match="there is no program"):
        launch_pycompss_application(str(tmp_path / "none.py"), "entry")
    assert Future is shoal.Future


def run(words, agent=None, cwd=None, **variables):
    source = os.path.dirname(os.path.dirname(shoal.__file__))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SHOAL_")}
    paths = os.pathsep.join([source, os.path.join(source, "compat")])
    environment = {**kept, "PYTHONPATH": paths, "SHOAL_BIN": "/nonexistent", **variables}
    if agent is not None:
        environment["SHOAL_SOCKET"] = agent.socket
    return subprocess.run([sys.executable, "-m", *words], env=environment, capture_output=True, text=True, timeout=60,
                          check=False, cwd=cwd)  # fmt: skip


@pytest.mark.parametrize("door", [["pycompss"], ["pycompss._doors.runcompss"], ["pycompss._doors.cli", "run"]])
@pytest.mark.parametrize("with_agent", [True, False])
def test_doors_run_programs_with_the_options_that_scripts_pass(agent, tmp_path, door, with_agent):
    (tmp_path / "app.py").write_text(PROGRAM.replace("entry(*", "__import__('beside').f(entry)(*"))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "beside.py").write_text("import os\nf = lambda g: lambda *a: (os.environ['FROM_SCRIPT'], *g(*a))")
    (tmp_path / "env.sh").write_text("export FROM_SCRIPT=yes")
    scheduler = "es.bsc.compss.scheduler.lookahead.locality.LocalityTS"
    options = ["-d", "-g", "--lang=python", f"--scheduler={scheduler}", f"--pythonpath={tmp_path}/lib",
               f"--env_script={tmp_path}/env.sh", "--python_interpreter=" + sys.executable]  # fmt: skip
    done = run([*door, *options, str(tmp_path / "app.py"), "2", "--last", "-x"], agent if with_agent else None)
    assert (done.returncode, done.stdout) == (0, "yes 2 [0, 1] ['--last', '-x']\n"), done.stderr
    for text in ("--log_level has no meaning here; `shoal logs`", "--graph has no meaning"):
        assert done.stderr.count(text) == 1
    assert ("the program runs sequentially" in done.stderr) is (not with_agent)


def test_doors_refuse_what_is_wrong(tmp_path):
    done = run(["pycompss._doors.runcompss", "--wall_clock_limt=3", "app.py"])
    assert done.returncode == 2
    assert "unknown option --wall_clock_limt (did you mean 'wall_clock_limit'?)" in done.stderr
    assert "there is no program /nowhere.py" in run(["pycompss._doors.runcompss", "/nowhere.py"]).stderr
    (tmp_path / "a.py").write_text("")
    assert "only Python programs run here" in run(["pycompss._doors.runcompss", "--lang=java", str(tmp_path / "a.py")]).stderr
    assert run(["pycompss._doors.runcompss"]).returncode == 2
    assert run(["pycompss._doors.runcompss", "--help"]).stdout.startswith("usage: runcompss")
    assert "unknown command 'runn' (did you mean 'run'?)" in run(["pycompss._doors.cli", "runn"]).stderr
    assert run(["pycompss._doors.cli", "exec", "sh", "-c", "exit 7"]).returncode == 7
    assert "no agent; programs run sequentially" in run(["pycompss._doors.cli", "init"]).stdout
    assert run(["pycompss._doors.cli", "job", "list"]).returncode == 127
    assert "the command `shoal` is not installed" in run(["pycompss._doors.cli", "components", "list"]).stderr


def test_wall_clock_limit_of_the_command_line(tmp_path):
    (tmp_path / "app.py").write_text("import time; time.sleep(60)")
    done = run(["pycompss._doors.runcompss", "--wall_clock_limit=1", str(tmp_path / "app.py")])
    assert done.returncode == 1
    assert "the wall clock limit of 1 s is over" in done.stderr


def test_console_scripts_are_declared():
    root = os.path.dirname(os.path.dirname(os.path.abspath(shoal.__file__)))
    with open(os.path.join(root, "compat", "pyproject.toml")) as file:
        text = file.read()
    found = re.findall(r'^(\w+) = "([\w.]+):(\w+)"$', text, re.M)
    assert {name for name, _, _ in found} >= {"runcompss", "pycompss", "compss_agent_start", "compss_agent_call_operation"}
    for _, module, function in found:
        assert callable(getattr(importlib.import_module(module), function))


def test_interactive(session, capsys):
    import pycompss.interactive as ipycompss

    ipycompss.start(graph=True, trace=False, monitor=1000, verbose=True, debg=True)
    output = capsys.readouterr()
    assert f"application {session.app.hex()}" in output.out
    assert output.err == "pycompss.interactive.start: options without meaning here: debg\n"
    first = plus(1, 2)
    second = plus(first, 3)
    shoal.wait_on(second)
    assert re.search(r"test_pycompss.plus  2 +2 ", str(ipycompss.tasks_info()))
    assert re.search(r"done +2", str(ipycompss.tasks_status()))
    assert "fake   alive" in str(ipycompss.resources_status())
    assert "rss_bytes" in str(ipycompss.monitoring_information())
    assert re.search(r"fake +2", str(ipycompss.statistics()))
    graph = ipycompss.complete_task_graph()
    assert "t1 -> t2" in str(graph)
    assert "<td>" in ipycompss.tasks_status()._repr_html_()
    assert "t1" not in str(ipycompss.current_task_graph(refresh_rate=0.1, timeout=0.3))
    main = sys.modules["__main__"]
    main.left_over = [plus(5, 5)]
    try:
        ipycompss.stop(sync=True)
        assert main.left_over == [10]
    finally:
        del main.left_over
    ipycompss.stop()
    assert "nothing runs" in capsys.readouterr().out


def test_interactive_without_an_agent(sequential, capsys):
    import pycompss.interactive as ipycompss

    ipycompss.start()
    assert "tasks run when they are called" in capsys.readouterr().out
    with pytest.raises(shoal.ShoalError, match="nothing to look at without an agent"):
        ipycompss.tasks_info()
    ipycompss.stop(sync=True)


def test_names_of_test_programs(tmp_path):
    from pycompss.tests.outlog import create_logger
    from pycompss.util.serialization.serializer import (
        deserialize_from_bytes,
        deserialize_from_file,
        serialize_to_bytes,
        serialize_to_file,
    )

    logger = create_logger()
    assert create_logger() is logger
    serialize_to_file([1], str(tmp_path / "f"), logger)
    assert deserialize_from_file(str(tmp_path / "f"), logger) == [1]
    assert deserialize_from_bytes(serialize_to_bytes({"a": 1})) == {"a": 1}


@shoal.task(returns=2)
def where_am_i():
    from pycompss.util import context

    return context.in_master(), context.in_worker()


def test_context_and_deleted_objects(session, monkeypatch):
    from pycompss.api.api import compss_delete_object
    from pycompss.runtime.management.object_tracker import OT
    from pycompss.util.context import CONTEXT, in_master, in_worker

    assert (in_master(), in_worker(), CONTEXT.in_pycompss()) == (True, False, True)
    assert shoal.wait_on(where_am_i()) == [False, True]
    items = []
    extend(items, 1)
    assert OT.get_object_id(items) in OT.pending_to_synchronize
    assert compss_delete_object(items, [1]) == [True, True]
    assert OT.get_object_id(items) == ""
    monkeypatch.setattr(_runtime, "current", None)
    monkeypatch.setattr(_runtime, "_may_attach", False)
    assert CONTEXT.in_pycompss() is False
    assert compss_delete_object(items) is False
    assert OT.pending_to_synchronize == set()


def test_methods_of_test_cases_are_tasks(session):
    class Cases(unittest.TestCase):
        """Programs test themselves like this."""

        @shoal.task(returns=(int, list))
        def work(self, v, w=3, *args, **kwargs):
            return v * w + sum(args), sorted(kwargs)

        def test_work(self):
            first, second = self.work(1, 2, 3, x=4)
            self.assertEqual((shoal.wait_on(first), shoal.wait_on(second)), (5, ["x"]))

    result = unittest.TestResult()
    Cases("test_work").run(result)
    assert result.wasSuccessful(), result.errors + result.failures
