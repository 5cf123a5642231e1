# Goal: without an agent the same program runs sequentially and gives the same answers.
# Method: every function of the interface with no session; the end of real programs started both ways.

import os
import subprocess
import sys
import textwrap

import pytest

import shoal
from shoal import FILE_OUT, INOUT, COMPSsException, TaskGroup, on_failure, task, wait_on


@task(returns=int, items=INOUT)
def push(items, item):
    items.append(item)
    return len(items)


@on_failure(management="IGNORE", returns=5)
@task(returns=int)
def forgiving():
    raise ValueError


@task(path=FILE_OUT)
def write(path):
    with open(path, "w") as file:
        file.write("x")


def test_calls_are_calls(sequential, tmp_path):
    items = []
    assert push(items, 1) == 1
    assert wait_on(items) is items
    assert wait_on(push(items, 2), "other") == [2, "other"]
    assert forgiving() == 5
    shoal.barrier()
    shoal.barrier_group("any")
    shoal.cancel_group("any")
    write(tmp_path / "f")
    shoal.wait_on_file(tmp_path / "f")
    assert shoal.file_exists(tmp_path / "f") is True
    with shoal.open_file(tmp_path / "f") as file:
        assert file.read() == "x"
    assert shoal.delete_file(tmp_path / "f") is True
    assert shoal.file_exists(tmp_path / "f", tmp_path) == [False, True]
    assert shoal.delete_object(items) is False
    with pytest.raises(COMPSsException), TaskGroup("g"):
        raise COMPSsException("now")


def test_what_needs_an_agent_says_so(sequential):
    with pytest.raises(shoal.NotSupportedError, match="needs an agent: run the program with `shoal run`"):
        shoal.ObjectStream("s")._request("delete")
    with pytest.raises(shoal.ShoalError, match="set SHOAL_SOCKET"):
        shoal.connect()


PROGRAM = """
import sys
from helper import Counter, shift
from pycompss.api.task import task
from pycompss.api.parameter import *
from pycompss.api.api import compss_wait_on

class Local:
    def __init__(self, x): self.x = x

@task(returns=Local, c=INOUT)
def work(x, c):
    c.value += shift(x)
    return Local(x + 1)

@task(returns=1)
def fail():
    raise LookupError("on purpose")

@task(out=FILE_OUT)
def save(out):
    with open(out, "w") as f: f.write("saved")

if __name__ == "__main__":
    counter = Counter()
    local = work(1, counter)
    local = compss_wait_on(local)
    counter = compss_wait_on(counter)
    assert isinstance(local, Local) and isinstance(counter, Counter)
    print("result", local.x, counter.value, sys.argv[1:])
    save("out.txt")
    if "fail" in sys.argv: fail()
    if "exit" in sys.argv: sys.exit(7)
    if "raise" in sys.argv: raise OSError("main")
"""
HELPER = """
class Counter:
    value = 0
def shift(x):
    return x + 100
"""


@pytest.fixture
def program(tmp_path):
    (tmp_path / "app.py").write_text(textwrap.dedent(PROGRAM))
    (tmp_path / "helper.py").write_text(textwrap.dedent(HELPER))
    return tmp_path


def run(program, words, agent=None, module="shoal"):
    source = os.path.dirname(os.path.dirname(shoal.__file__))
    paths = [source] if module == "shoal" else [source, os.path.join(source, "compat")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if agent is not None:
        environment["SHOAL_SOCKET"] = agent.socket
        environment["SHOAL_APP"] = "ab" * 16
    launcher = ["-m", "shoal"] if module == "shoal" else []
    command = [sys.executable, *launcher, str(program / "app.py"), *words]
    return subprocess.run(command, cwd=program, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("module", ["shoal", "plain"])
@pytest.mark.parametrize("with_agent", [True, False])
def test_program(program, agent, with_agent, module):
    done = run(program, ["a", "b"], agent if with_agent else None, module)
    assert done.stderr == ""
    assert done.stdout == "result 2 101 ['a', 'b']\n"
    assert done.returncode == 0
    assert (program / "out.txt").read_text() == "saved"


@pytest.mark.parametrize("module", ["shoal", "plain"])
def test_a_tasks_failure_is_the_programs(program, agent, module):
    done = run(program, ["fail"], agent, module)
    assert done.returncode == 1
    assert "LookupError: on purpose" in done.stderr
    assert 'raise LookupError("on purpose")' in done.stderr


@pytest.mark.parametrize("module", ["shoal", "plain"])
@pytest.mark.parametrize(("word", "code"), [("exit", 7), ("raise", 1)])
def test_exit_code_of_the_program(program, agent, module, word, code):
    done = run(program, [word], agent, module)
    assert done.returncode == code
    if word == "raise":
        assert "OSError: main" in done.stderr
        assert "shoal/__main__" not in done.stderr


def test_missing_program():
    source = os.path.dirname(os.path.dirname(shoal.__file__))
    command = [sys.executable, "-m", "shoal", "/nonexistent/app.py"]
    environment = {**os.environ, "PYTHONPATH": source}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot read the program /nonexistent/app.py: No such file" in done.stderr


def test_forked_child_is_not_the_driver(session):
    assert wait_on(push([], 1)) == 1
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write_end, str(push([], 1)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read_end, 10) == b"1"
    assert wait_on(push([], 2)) == 1


def test_a_command_that_may_fail(sequential):
    @shoal.on_failure(management="IGNORE", returns=7)
    @shoal.binary(binary="false")
    @task(returns=int)
    def fails():
        pass

    assert wait_on(fails()) == 7
