"""Goal: PyCOMPSs programs that use the whole surface run over several agents, started by the commands they know.
Method: one program of checks over two agents; the front doors against an agent started by one of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from cluster import Cluster, wait_until

ROOT = Path(__file__).resolve().parents[2]
BINARIES = Path(os.environ.get("SHOAL_BIN", ROOT / "build/dev/bin"))

PROGRAM = """
import os, sys, time
import pycompss.interactive as ipycompss
from pycompss.api.api import *
from pycompss.api.binary import binary
from pycompss.api.constraint import constraint
from pycompss.api.data_transformation import *
from pycompss.api.epilog import epilog
from pycompss.api.exceptions import COMPSsException
from pycompss.api.implement import implement
from pycompss.api.IO import IO
from pycompss.api.on_failure import on_failure
from pycompss.api.parameter import *
from pycompss.api.prolog import prolog
from pycompss.api.reduction import reduction
from pycompss.api.task import task
from pycompss.dds import DDS

@task(returns=int)
def increment(x):
    return x + 1

@reduction(chunk_size="3")
@task(returns=1, parts=COLLECTION_IN)
def total(parts):
    return sum(parts)

assert compss_wait_on(total([increment(i) for i in range(20)])) == 210

@implement(source_class="__main__", method="slow")
@task(returns=1)
def quick(x):
    return "quick"

@task(returns=1)
def slow(x):
    time.sleep(0.3)
    return "slow"

chosen = [compss_wait_on(slow(0)) for _ in range(2)]
time.sleep(0.6)
assert sorted(chosen) == ["quick", "slow"], chosen
assert compss_wait_on([slow(i) for i in range(6)]) == ["quick"] * 6

@prolog(binary="mkdir", args="-p {{where}}/made")
@epilog(binary="touch", args="{{where}}/after")
@task(returns=1)
def inside(where):
    return os.path.isdir(where + "/made")

assert compss_wait_on(inside(os.getcwd())) is True
assert os.path.exists("after")

@prolog(binary="cp", args="{{source}} {{copy}}")
@binary(binary="sed", args="s/a/b/ {{copy}}")
@task(source=FILE_IN, out=FILE_OUT_STDOUT)
def edited(source, copy, out):
    pass

open("in.txt", "w").write("a file\\n")
edited("in.txt", os.path.abspath("copy.txt"), "out.txt")
with compss_open("out.txt") as file:
    assert file.read() == "b file\\n"

@dt("path", lambda text, path: open(path, "w").write(text) and None, type=OBJECT_TO_FILE)
@task(returns=1, path=FILE_IN)
def read(path):
    return open(path).read()

assert compss_wait_on(read("written")) == "written"

@IO()
@task(returns=1)
def io_bound():
    return "io"

assert compss_wait_on([io_bound() for _ in range(4)]) == ["io"] * 4

@on_failure(management="CANCEL_SUCCESSORS")
@task(returns=1)
def fails():
    raise ValueError("on purpose")

assert compss_wait_on(increment(fails())) is None

try:
    with TaskGroup("outer"):
        @task()
        def raiser():
            raise COMPSsException("stop")
        raiser()
    raise AssertionError("the group did not raise")
except COMPSsException as error:
    assert error.message == "stop"

words = "the quick brown fox jumps over the lazy dog the end".split()
counts = DDS().load(words, 4).map(lambda w: (w, 1)).reduce_by_key(lambda a, b: a + b).collect_as_dict()
assert counts["the"] == 3 and len(counts) == 9
assert compss_get_number_of_resources() == 2
table = str(ipycompss.resources_status())
assert "one" in table and "two" in table
assert "->" in str(ipycompss.complete_task_graph())
print("all is well", sys.argv[1:])
"""


def test_the_whole_surface_over_two_agents(cluster: Cluster, program, tmp_path: Path) -> None:
    first = cluster.found("one", computing_units=2)
    cluster.join("two", first, computing_units=2)
    path = program(f"import os\nos.chdir({str(tmp_path)!r})\n{PROGRAM}")
    done = first.shoal("run", "--quiet", path, "a", "--b", timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "all is well ['a', '--b']"


def test_every_kind_of_parameter_over_two_agents(cluster: Cluster, program, tmp_path: Path) -> None:
    first = cluster.found("one", computing_units=2)
    cluster.join("two", first, computing_units=2)
    path = program((Path(__file__).parent / "parameter_program.py").read_text())
    done = subprocess.run(
        [str(BINARIES / "shoal"), "--home", str(first.home), "run", "--quiet", path, "x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "all is well ['x']"


TEST_CASE = """
import sys, unittest
from pycompss.api.task import task
from pycompss.api.api import compss_wait_on

class Sums(unittest.TestCase):
    def setUp(self):
        self.base = 3

    @task(returns=int)
    def plus(self, x):
        self.assertGreater(x, 0)
        return x + self.base

    def test_plus(self):
        self.assertEqual(compss_wait_on([self.plus(4), self.plus(5)]), [7, 8])

    def test_an_assertion_in_a_task_fails_the_test(self):
        with self.assertRaises(AssertionError):
            compss_wait_on(self.plus(0))

done = unittest.TextTestRunner(stream=sys.stdout).run(unittest.defaultTestLoader.loadTestsFromTestCase(Sums))
print(done.testsRun, len(done.failures), len(done.errors), flush=True)
"""


def test_tasks_of_a_test_case(cluster: Cluster, program) -> None:
    agent = cluster.found("one", computing_units=2)
    done = agent.shoal("run", "--quiet", program(TEST_CASE), timeout=60, check=False)
    assert "2 0 0" in done.stdout.splitlines(), done.stdout + done.stderr


LATE_SUCCESSOR = """
import os
from pycompss.api.api import compss_open, compss_wait_on
from pycompss.api.on_failure import on_failure
from pycompss.api.parameter import FILE_OUT
from pycompss.api.task import task

@task(returns=1, on_failure="CANCEL_SUCCESSORS")
def fails():
    raise ValueError("on purpose")

@task(returns=1)
def after(x):
    return x + 1

@on_failure(management="IGNORE", path="default.txt")
@task(path=FILE_OUT)
def writes(path):
    raise ValueError("on purpose")

failed = fails()
assert compss_wait_on(failed) is None
assert compss_wait_on(after(failed)) is None, "called after the failure, and cancelled all the same"
os.chdir(os.path.dirname(os.path.abspath(__file__)))
open("default.txt", "w").write("default")
writes("out.txt")
with compss_open("out.txt") as file:
    assert file.read() == "default", "of the main program's directory"
print("all is well")
"""


def test_failures_leave_what_was_said(cluster: Cluster, program) -> None:
    agent = cluster.found("one", computing_units=2)
    done = agent.shoal("run", "--quiet", program(LATE_SUCCESSOR), timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "all is well\n"


def test_the_wall_clock_cancels_tasks_on_agents(cluster: Cluster, program) -> None:
    agent = cluster.found("one", computing_units=1)
    path = program(
        "import time\nfrom pycompss.api.task import task\nfrom pycompss.api.api import compss_set_wall_clock, compss_wait_on\n"
        "@task(returns=1)\ndef forever():\n    time.sleep(600)\n    return 1\n"
        "compss_set_wall_clock(1)\ncompss_wait_on(forever())\n"
    )
    done = agent.shoal("run", "--quiet", path, timeout=60, check=False)
    assert done.returncode == 1
    assert "the wall clock limit of 1 s is over" in done.stderr
    wait_until(lambda: not agent.json("status")["attempts_running"], 20, "the task is gone")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def door(tmp_path: Path):
    """Calls a front door; starts agents with `door.start(port)` and ends them afterwards."""
    paths = os.pathsep.join([str(ROOT / "sdk/python"), str(ROOT / "sdk/python/compat")])
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SHOAL_", "PYTHON"))}
    variables = kept | {"PYTHONPATH": paths, "SHOAL_BIN": str(BINARIES), "COMPSS_AGENT_HOME": str(tmp_path / "agents"),
                        "HOME": str(tmp_path)}  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []

    def command(module: str, function: str, *words: str) -> list[str]:
        text = f"import sys; from pycompss._doors import {module}; sys.exit({module}.{function}(sys.argv[1:]))"
        return [sys.executable, "-c", text, *words]

    class Door:
        def call(self, module: str, function: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(command(module, function, *words), env=variables | more, capture_output=True, text=True,
                                  timeout=60, check=False, cwd=tmp_path)  # fmt: skip

        def start(self, port: int, *more: str) -> subprocess.Popen[bytes]:
            words = ["--hostname=localhost", f"--rest_port={port}", "--project=/opt/project.xml", *more]
            with (tmp_path / f"{port}.log").open("wb") as log:
                process = subprocess.Popen(command("agent", "start", *words), env=variables, stdout=log, stderr=log)
            started.append(process)
            wait_until((tmp_path / "agents" / str(port) / "run/ready").exists, 20, f"the agent at {port} is ready")
            return process

    yield Door()
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


APPLICATION = (
    "import sys\nfrom pycompss.api.task import task\nfrom pycompss.api.api import compss_wait_on\n"
    "@task(returns=1)\ndef double(x):\n    return 2 * x\n"
    "def main(n='3'):\n    print('result', compss_wait_on([double(i) for i in range(int(n))]))\n"
    "def takes_a_list(words):\n    print('given a', repr(type(words).__name__), 'of', len(words))\n"
    "if __name__ == '__main__':\n    main(*sys.argv[1:])\n"
)


def answers(port: int) -> bool:
    """What the scripts of COMPSs wait for."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/COMPSs/test", timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_agents_by_the_commands_that_scripts_call(door, program, tmp_path: Path) -> None:
    program(APPLICATION, "simple.py")
    first, second = free_port(), free_port()
    one = door.start(first, f"--pythonpath={tmp_path}")
    two = door.start(second, f"--pythonpath={tmp_path}")
    log = tmp_path / f"{first}.log"
    assert "--project has no meaning here" in log.read_text()
    wait_until(lambda: answers(first) and answers(second), 20, "the agents answer")
    assert "test invoked\n" in log.read_text()
    here = f"{socket.gethostname().split('.')[0]}-{second}"
    target = f"--agent_port={first}"
    added = door.call("agent", "add_resources", target, "--cpu=1", "127.0.0.1", f"Port={second}")
    assert added.returncode == 0, added.stderr
    assert f"{here} is in the region already" in added.stdout
    absent = door.call("agent", "add_resources", target, "elsewhere")
    assert absent.returncode == 1
    assert "`shoal token create`" in absent.stderr
    assert "gets no more tasks" in door.call("agent", "reduce_resources", target, here).stdout
    assert "given tasks again" in door.call("agent", "add_resources", target, here).stdout
    assert "it still answers" in door.call("agent", "lost_resources", target, here).stdout
    master = ["--master_node=127.0.0.1", f"--master_port={first}", "--lang=PYTHON"]
    shoal = [str(BINARIES / "shoal"), "--home", str(tmp_path / "agents" / str(first))]

    def output(*words: str) -> str:
        """What an application wrote that was started so, once it has ended."""
        called = door.call("agent", "call_operation", *master, *words)
        assert called.returncode == 0, called.stderr
        assert called.stdout.strip().isdigit()
        command = [*shoal, "attach", called.stdout.strip()]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert "result [0, 2, 4, 6]" in output("--method_name=main", "simple", "4")
    assert "result [0, 2, 4]" in output("simple")
    assert "result [0, 2]" in output("--method_name=main", str(tmp_path / "simple.py"), "2")
    assert "given a 'list' of 2" in output("--array", "--method_name=takes_a_list", "simple", "x & <y>", "")
    refused = door.call("agent", "call_operation", *master, "--method_name=no-name", "simple")
    assert refused.returncode == 1
    assert "methodName" in refused.stderr
    nobody = door.call("agent", "call_operation", f"--master_port={free_port()}", "simple")
    assert nobody.returncode == 1
    assert "no agent answers at 127.0.0.1" in nobody.stderr
    last = door.call("agent", "call_operation", *master, "--stop", f"--forward_to=127.0.0.1:{second}", "simple")
    assert last.returncode == 0, last.stderr
    assert one.wait(20) == 0
    assert two.wait(20) == 0


def test_runcompss_finds_the_agent_of_this_machine(door, program, tmp_path: Path) -> None:
    path = program(APPLICATION + "import os\nprint(os.environ['MINE'], 'SHOAL_SOCKET' in os.environ)\n")
    alone = door.call("runcompss", "main", "-d", path, "2", MINE="yes")
    assert (alone.returncode, alone.stdout) == (0, "result [0, 2]\nyes False\n"), alone.stderr
    assert "the program runs sequentially" in alone.stderr
    shoal = [str(BINARIES / "shoal")]
    variables = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run([*shoal, "up", "--computing-units", "1"], env=variables, check=True, capture_output=True)
    try:
        done = door.call("runcompss", "main", "-d", path, "2", MINE="yes")
        assert (done.returncode, done.stdout) == (0, "result [0, 2]\nyes True\n"), done.stderr
        assert "sequentially" not in done.stderr
        begin = time.monotonic()
        limited = program("import time\ntime.sleep(60)\n", "sleeps.py")
        stopped = door.call("runcompss", "main", "--wall_clock_limit=1", limited)
        assert stopped.returncode == 1, stopped.stderr
        assert "the wall clock limit of 1 s is over" in stopped.stderr
        assert time.monotonic() - begin < 20
    finally:
        subprocess.run([*shoal, "down"], env=variables, check=True, capture_output=True)
