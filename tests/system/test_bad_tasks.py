"""Goal: whatever a task does, its error names it, its function, its agent and where its output is; nothing else is harmed.
Method: one evil at a time among well-behaved tasks of the same program on a real agent, which then runs another program."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
from cluster import Agent, Cluster, wait_until
from conftest import Keeper

# Well-behaved tasks before, beside and after the evil one; what it raises is printed, and the program goes on.
PROGRAM = """
import ctypes, os, signal, sys, threading, time, traceback
from shoal import COLLECTION_IN, COLLECTION_INOUT, INOUT, constraint, on_failure, task, wait_on

@task(returns=int)
def bystander(i):
    return i * i

{definitions}

before = [bystander(i) for i in range(20)]
for attempt in ({calls},):
    try:
        print("value:", repr(wait_on(attempt()))[:200])
    except Exception as error:
        print("raised:", type(error).__name__)
        traceback.print_exc(file=sys.stdout)
print("bystanders:", sum(wait_on(before)), sum(wait_on([bystander(i) for i in range(20)])))
"""
UNHARMED = "bystanders: 2470 2470\n"


def run(keeper: Keeper, definitions: str, *calls: str, agent: Agent | None = None) -> str:
    """What the program prints. It ends well, its other tasks have their values, and the agent is as before."""
    path = keeper.directory / "evil.py"
    path.write_text(PROGRAM.format(definitions=definitions, calls=", ".join(f"lambda: {call}" for call in calls)))
    done = (agent or keeper.agent).shoal("run", str(path), timeout=90)
    assert done.stdout.endswith(UNHARMED), done.stdout + done.stderr
    keeper.check()
    return done.stdout


def names(agent: Agent, text: str, function: str, output: str | None = None, ran_on: Agent | None = None) -> None:
    """The text names a task of that function, where it ran, and the command that shows what the task printed."""
    assert re.search(rf"task \d+ \(__main__\.{function}\)", text), text
    assert f"on agent {(ran_on or agent).json('status')['agent'][:8]}" in text, text
    place = re.search(r"`shoal logs (\w+) (\d+)` shows its output", text)
    assert place is not None, text
    assert f"task {place[2]} (__main__.{function})" in text, text
    logged = agent.shoal("logs", place[1], place[2])
    if output is not None:
        assert output in logged.stdout + logged.stderr


# ---- values ----


def test_arguments_that_cannot_be_pickled(keeper: Keeper) -> None:
    said = run(
        keeper,
        """
class Odd:
    def __reduce__(self):
        raise ZeroDivisionError("reduce says no")
@task(returns=int)
def bad(first, value):
    return 1
@task(value=INOUT)
def write(value):
    pass
""",
        "bad(1, threading.Lock())",
        "bad(1, Odd())",
        "bad(1, value={'deep': [Odd()]})",
        "write([Odd()])",
    )
    assert said.count("raised: TypeError") == 4
    assert said.count("argument 'value' of task __main__.bad cannot be sent to an executor") == 3
    assert "argument 'value' of task __main__.write cannot be sent to an executor" in said
    assert "a lock that cannot be pickled" in said
    assert "Odd that cannot be pickled (reduce says no)" in said
    assert 'raise ZeroDivisionError("reduce says no")' in said  # where it was raised
    assert said.count("Task 21 was not submitted") == 4


def test_arguments_that_hold_themselves(keeper: Keeper) -> None:
    said = run(
        keeper,
        """
class Node:
    pass
def ring(kind):
    if kind is Node:
        node = Node()
        node.me = node
        return node
    value = kind()
    value.update(me=value) if kind is dict else value.append(value)
    return value
@task(returns=int)
def look(value):
    if isinstance(value, dict):
        return int(value["me"] is value)
    return int((value.me if isinstance(value, Node) else value[0]) is value)
@task(returns=int, values=COLLECTION_IN)
def read(values):
    return 1
@task(values=COLLECTION_INOUT)
def bad(values):
    pass
@task(value=INOUT)
def extend(value):
    value.append(2)
def extended():
    value = ring(list)
    extend(value)
    value = wait_on(value)
    return [value[0][0] is value[0], value[1], value[0][1]]
""",
        "look(ring(list))",
        "look(ring(dict))",
        "look(ring(Node))",
        "extended()",
        "read(ring(list))",
        "bad(ring(list))",
    )
    assert said.count("value: 1\n") == 4
    assert "value: [True, 2, 2]\n" in said
    # One that is written is followed to its elements, and has none.
    assert "parameter 'values' of task __main__.bad is a collection that holds itself, or is nested too deeply" in said


def test_results_that_cannot_be_pickled(keeper: Keeper) -> None:
    said = run(
        keeper,
        """
class Odd:
    def __reduce__(self):
        raise ZeroDivisionError("reduce says no")
@task(returns=object)
def bad(what):
    print("making it")
    return {"lock": threading.Lock, "odd": Odd, "module": lambda: sys}[what]()
@task(returns=2)
def second():
    return 1, threading.Lock()
""",
        "bad('lock')",
        "bad('odd')",
        "second()",
    )
    assert said.count("raised: TypeError") == 3
    assert "the result of the task cannot be sent: a lock that cannot be pickled" in said
    assert "Odd that cannot be pickled (reduce says no)" in said
    assert "result 1 of the task cannot be sent: a lock" in said
    names(keeper.agent, said[: said.index("reduce says no")], "bad", "making it")
    names(keeper.agent, said[said.index("result 1 of") - 1500 :], "second")


def test_results_that_are_not_what_returns_says(keeper: Keeper) -> None:
    said = run(
        keeper,
        "@task(returns=3)\ndef bad(values):\n    print('returning')\n    return values\n",
        "bad((1, 2))",
        "bad((1, 2, 3, 4))",
        "bad(None)",
        "bad(7)",
        "bad([1, 2, 3])",
    )
    for what in ("returned 2", "returned 4", "returned None", "returned one int"):
        assert f"the task __main__.bad declares 3 results but {what}" in said
    assert "value: [1, 2, 3]" in said
    for part in said.split("raised: ")[1:]:
        names(keeper.agent, part, "bad", "returning")


# ---- declarations ----

# What stands above `def bad(a)`, and what is said about it.
DECLARATIONS = [
    ("@task(retunrs=int)", "'retunrs' is neither .*did you mean 'returns'.*parameters: a; options: .*returns"),
    ("@task(b=INOUT)", "'b' is neither a parameter of the function nor an option of @task.*parameters: a;"),
    ("@task(a='INOUT')", "a='INOUT' is not a direction .*did you mean 'INOUT'.*FILE_IN, .*INOUT"),
    ("@task(a={Direction: 17})", "Direction must be IN, OUT, INOUT, CONCURRENT, COMMUTATIVE or IN_DELETE, not 17"),
    ("@task(on_failure='SHRUG')", "unknown failure policy 'SHRUG'.*RETRY, FAIL, IGNORE, CANCEL_SUCCESSORS"),
    ("@task(time_out='soon')", "time_out must be a number of seconds, not 'soon'"),
    ("@task(returns=-2)", "returns=-2 says neither how many results .* it is a number from 0, a type"),
    ("@task()\n@constraint(computing_units=2)", "wrong order: @constraint goes above @task; from top to bottom: "),
    ("@task()\n@binary(binary='true')", "wrong order: @binary goes above @task; from top to bottom: "),
    ("@task()\n@on_failure(management='IGNORE')", "wrong order: @on_failure goes above @task; from top to bottom: "),
    ("@task()\n@classmethod", "wrong order: @classmethod goes above @task"),
    ("@task()\n@task()", "has @task twice"),
]


@pytest.mark.parametrize("surface", ["shoal", "pycompss"])
def test_declarations_that_cannot_be_right(keeper: Keeper, surface: str) -> None:
    """They are refused where they stand, before anything runs; the program sees them all and goes on."""
    imports = {
        "shoal": "from shoal import *\nfrom shoal import binary, constraint, on_failure, task, wait_on\n",
        "pycompss": "from pycompss.api.task import task\nfrom pycompss.api.parameter import *\n"
        "from pycompss.api.binary import binary\nfrom pycompss.api.constraint import constraint\n"
        "from pycompss.api.on_failure import on_failure\nfrom pycompss.api.api import compss_wait_on as wait_on\n",
    }[surface]
    path = keeper.directory / "declarations.py"
    path.write_text(
        f"{imports}import json\nfor text in {[text for text, _ in DECLARATIONS]!r}:\n    try:\n"
        "        exec(text + '\\ndef bad(a):\\n    pass\\n')\n"
        "    except (TypeError, ValueError) as error:\n        print(json.dumps(str(error)))\n    else:\n"
        "        print(json.dumps('nothing is wrong'))\n"
        "@task(returns=int)\ndef good(i):\n    return i\nprint(wait_on(good(5)))\n"
    )
    *said, last = keeper.agent.shoal("run", str(path)).stdout.splitlines()
    assert last == "5"
    for (text, pattern), message in zip(DECLARATIONS, said, strict=True):
        assert re.search(pattern, json.loads(message)), f"{text}\n{message}"
        assert "bad" in json.loads(message), message
    path.write_text(f"{imports}{DECLARATIONS[0][0]}\ndef bad(a):\n    pass\n")
    refused = keeper.agent.shoal("run", str(path), check=False)
    assert refused.returncode == 1
    assert "__main__.bad" in refused.stderr and "declarations.py" in refused.stderr
    keeper.check()


# ---- processes ----


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("sys.exit(3)", ["RuntimeError", "the task ended with SystemExit: 3"]),
        ("raise KeyboardInterrupt", ["the task ended with KeyboardInterrupt"]),
        ("os._exit(3)", ["TaskFailedError", "exited with code 3", "ended its executor 3 times"]),
        ("ctypes.string_at(0)", ["TaskFailedError", "killed by signal 11 (Segmentation fault)"]),
        ("os.kill(os.getpid(), signal.SIGKILL)", ["TaskFailedError", "killed by signal 9 (Killed)"]),
        ("os.closerange(3, 1024)", ["TaskFailedError", "ended its executor 3 times"]),
    ],
    ids=["sys.exit", "interrupt", "os._exit", "segfault", "killed", "closes-everything"],
)
def test_tasks_that_end_their_process(keeper: Keeper, body: str, words: list[str]) -> None:
    head = "@task(returns=int, on_failure='FAIL')\ndef bad():\n    print('last words', flush=True)\n"
    said = run(keeper, f"{head}    {body}\n    return 1\n", "bad()")
    for word in ["raised: ", *words]:
        assert word in said, said
    names(keeper.agent, said, "bad", "last words")


def test_the_error_of_a_nested_task_leads_to_its_own_output(keeper: Keeper) -> None:
    said = run(
        keeper,
        """
@task(returns=int, on_failure="FAIL")
def bad(how):
    print("deep words", flush=True)
    if how == "exit":
        os._exit(3)
    raise ValueError("from below")
@task(returns=int, on_failure="FAIL")
def above(how):
    return wait_on(bad(how))
""",
        "above('raise')",
        "above('exit')",
    )
    raised, ended = said.split("raised: ")[1:]
    assert "ValueError: from below" in raised and "exited with code 3" in ended
    for part in (raised, ended):
        names(keeper.agent, part, "above")
        names(keeper.agent, part[part.index("(__main__.bad)") - 30 :], "bad", "deep words")


def test_a_task_that_forks_and_whose_child_comes_back(keeper: Keeper) -> None:
    said = run(
        keeper,
        """
@task(returns=object)
def bad(i, waits):
    child = os.fork()
    if child and waits:
        return i, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return i, bytes(50_000) and os.getppid() and "self" if child == 0 else "parent"
""",
        "[bad(i, True) for i in range(12)]",
        "[bad(i, False) for i in range(12)]",
    )
    assert f"value: {[(i, 0) for i in range(12)]!r}" in said
    assert f"value: {[(i, 'parent') for i in range(12)]!r}"[:200] in said
    app = keeper.agent.json("apps")["apps"]
    evil = next(row for row in app if "evil" in row["name"])["app"]
    logged = keeper.agent.shoal("logs", evil, "all")
    assert "forked by task 21, returned from the task's function and ends" in logged.stdout + logged.stderr


def test_tasks_that_close_their_standard_output(keeper: Keeper) -> None:
    said = run(
        keeper,
        """
@task(returns=int, on_failure="FAIL")
def bad(how):
    if how == "descriptor":
        os.close(1)
    elif how == "stream":
        sys.stdout.close()
    else:
        os.close(1)
        print("lost")
    return 1
@task(returns=int)
def speak(i):
    print("still heard", i)
    return i
""",
        "bad('descriptor')",
        "[speak(i) for i in range(8)]",
        "bad('stream')",
        "bad('print')",
        "[speak(i) for i in range(8, 16)]",
    )
    assert said.count("raised: RuntimeError") == 2 and said.count("raised: OSError") == 1
    assert said.count("the task closed its standard output or standard error") == 4
    for part in said.split("raised: ")[1:]:
        names(keeper.agent, part, "bad")
    evil = next(row for row in keeper.agent.json("apps")["apps"] if "evil" in row["name"])["app"]
    logged = keeper.agent.shoal("logs", evil, "all").stdout
    assert all(f"still heard {i}\n" in logged for i in range(16))
    assert "lost" not in logged


def test_a_task_that_takes_more_memory_than_there_is(keeper: Keeper) -> None:
    """The agent's executors inherit its limit of address space; what the task asks for is never touched."""
    assert keeper.agent.process is not None
    pid = keeper.agent.process.pid
    used = int(re.search(r"VmSize:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) << 10  # type: ignore[index]
    resource.prlimit(pid, resource.RLIMIT_AS, (used + (1 << 30), used + (1 << 30)))
    said = run(
        keeper,
        """
@constraint(memory_size=0.1)
@task(returns=int, on_failure="FAIL")
def bad():
    print("greedy")
    kept = []
    while True:
        kept.append(bytearray(64 << 20))
""",
        "bad()",
        "bad()",
    )
    assert said.count("raised: MemoryError") == 2
    names(keeper.agent, said, "bad", "greedy")


# ---- time ----


def test_a_task_that_never_ends(keeper: Keeper) -> None:
    said = run(
        keeper,
        """
@task(returns=int, on_failure="FAIL", time_out=0.5)
def bad():
    print("begins")
    while True:
        time.sleep(1)
""",
        "bad()",
    )
    assert "raised: TaskTimeoutError" in said and "ran longer than its time_out of 0.5 s" in said
    names(keeper.agent, said, "bad", "begins")


STUBBORN = """
@task(returns=int, on_failure="FAIL", time_out={time_out})
def bad():
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGUSR2, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    print("not listening", flush=True)
    while True:
        try:
            time.sleep(1)
        except BaseException:
            pass
"""


def test_a_task_that_ignores_sigterm_is_killed_at_its_time_out(keeper: Keeper) -> None:
    said = run(keeper, STUBBORN.format(time_out=0.5), "bad()")
    assert re.search(r"task 21 \(__main__\.bad\) ran longer than its time-out of 500 ms", said)
    place = re.search(r"`shoal logs (\w+) 21` shows its output", said)
    assert place is not None
    assert keeper.agent.shoal("logs", place[1], "21").stdout == "not listening\n"


def test_the_error_of_a_task_killed_at_its_time_out_names_its_agent(keeper: Keeper) -> None:
    said = run(keeper, STUBBORN.format(time_out=0.5), "bad()")
    assert "raised: TaskTimeoutError" in said
    names(keeper.agent, said, "bad", "not listening")


def test_a_task_that_ignores_sigterm_is_killed_when_it_is_cancelled(keeper: Keeper) -> None:
    path = keeper.directory / "stubborn.py"
    path.write_text(PROGRAM.format(definitions=STUBBORN.format(time_out=0), calls="lambda: bad()"))
    app = keeper.agent.shoal("submit", str(path)).stdout.strip()
    wait_until(lambda: "not listening" in keeper.agent.shoal("logs", app, "all", check=False).stdout, 20, "the task runs")
    keeper.agent.shoal("cancel", app)
    wait_until(lambda: not keeper.agent.json("status")["attempts_running"], 20, "the task is gone")
    wait_until(lambda: keeper.agent.json("status")["apps_running"] == 0, 20, "its driver is gone")
    keeper.check()


# ---- agents that differ ----


def two_agents(cluster: Cluster, directory: Path, python_path: Path) -> tuple[Keeper, Agent]:
    """One agent, and a second one whose interpreter finds more modules."""
    keeper = Keeper(cluster.found("a", computing_units=1, labels={"which": "a"}), directory)
    second = cluster.join("b", keeper.agent, start=False, computing_units=1, labels={"which": "b"})
    second.variables = {"PYTHONPATH": str(python_path)}
    second.start()
    wait_until(lambda: keeper.agent.json("status")["members"] == 2, 15, "two members")
    return keeper, second


def test_a_module_that_only_one_agent_has(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra/only_there.py").write_text("ANSWER = 42\n")
    keeper, _ = two_agents(cluster, tmp_path, tmp_path / "extra")
    said = run(
        keeper,
        """
@task(returns=int)
def moves():
    import only_there
    return only_there.ANSWER
@constraint(labels={"which": "a"})
@task(returns=int, on_failure="FAIL")
def bad():
    print("looking for it")
    import only_there
    return only_there.ANSWER
""",
        "wait_on(before) and moves()",
        "moves()",
        "bad()",
    )
    # With retries the task goes where the module is; the error of one that may not says which agent lacks it.
    assert said.count("value: 42") == 2
    assert "ModuleNotFoundError: No module named 'only_there'" in said
    names(keeper.agent, said, "bad", "looking for it")


# There is one interpreter on the test machine: another one says that it is older, before anything is imported.
OLDER = "import sys\nsys.version_info = (3, 9, 2, 'final', 0)\n"

OTHER_PYTHON = """
from shoal import constraint, task, wait_on
@constraint(labels={"which": "b"})
@task(returns=int, on_failure="FAIL")
def bad():
    return 1
@constraint(labels={"which": "a"})
@task(returns=int)
def good(i):
    return i
@task(returns=int)
def anywhere(i):
    return i
"""


def test_an_agent_with_another_python(cluster: Cluster, tmp_path: Path) -> None:
    """Byte code of one version crashes another: it is refused before it is loaded."""
    (tmp_path / "older").mkdir()
    (tmp_path / "older/sitecustomize.py").write_text(OLDER)
    keeper, second = two_agents(cluster, tmp_path, tmp_path / "older")
    path = tmp_path / "other.py"
    path.write_text(
        OTHER_PYTHON + "goods = [good(i) for i in range(20)]\ntry:\n    wait_on(bad())\nexcept RuntimeError as error:\n"
        "    print(error, error.__cause__)\nprint(sum(wait_on(goods)))\n"
    )
    said = keeper.agent.shoal("run", str(path)).stdout
    assert said.endswith("190\n")
    assert re.search(r"sent by a program that runs Python 3\.\d+, and this agent runs tasks with Python 3\.9 .*--python", said)
    names(keeper.agent, said, "bad", ran_on=second)
    # Modules of the installation are found by name, in whatever version is there.
    path.write_text(
        "import os.path\nfrom shoal import constraint, task, wait_on\n"
        "base = constraint(labels={'which': 'b'})(task(returns=str)(os.path.basename))\nprint(wait_on(base('x/y')))\n"
    )
    assert keeper.agent.shoal("run", str(path)).stdout == "y\n"


def test_tasks_wait_for_the_agent_where_the_python_fits(cluster: Cluster, tmp_path: Path) -> None:
    """The one that fits is busy for a while: longer than the other needs to fail every task with all its retries."""
    (tmp_path / "older").mkdir()
    (tmp_path / "older/sitecustomize.py").write_text(OLDER)
    keeper, _ = two_agents(cluster, tmp_path, tmp_path / "older")
    path, gate = tmp_path / "other.py", tmp_path / "gate"
    path.write_text(
        OTHER_PYTHON
        + f"""
import os, time
@constraint(labels={{"which": "a"}})
@task(returns=int)
def busy():
    print("busy", flush=True)
    while not os.path.exists({str(gate)!r}):
        time.sleep(0.01)
    return 1
base = constraint(labels={{"which": "b"}})(task(returns=str)(os.path.basename))
held = busy()
wait_on(base("x/started"))
results = [anywhere(i) for i in range(10)]
for i in range(20):  # one after the other: the agent that cannot is through with the tasks above
    wait_on(base("x/y"))
open({str(gate)!r}, "w").close()
print(wait_on(held), sum(wait_on(results)))
"""
    )
    assert keeper.agent.shoal("run", str(path)).stdout == "1 45\n"


# ---- drivers ----


def test_a_driver_that_is_killed_before_it_waits(keeper: Keeper) -> None:
    path = keeper.directory / "killed.py"
    path.write_text(
        "import time\nfrom shoal import task, wait_on\n@task(returns=int)\ndef slow(i):\n    time.sleep(600)\n    return i\n"
        "futures = [slow(i) for i in range(50)]\ntime.sleep(600)\nwait_on(futures)\n"
    )
    app = keeper.agent.shoal("submit", str(path)).stdout.strip()

    def row() -> dict[str, Any]:
        return next(row for row in keeper.agent.json("apps")["apps"] if row["app"] == app)

    wait_until(lambda: len(keeper.agent.json("status")["attempts_running"]) == 2, 20, "tasks run")
    wait_until(lambda: row()["tasks"] == 50, 20, "all are submitted")
    os.kill(row()["pid"], signal.SIGKILL)
    wait_until(lambda: not keeper.agent.json("status")["attempts_running"], 20, "its tasks are cancelled")
    wait_until(lambda: keeper.agent.json("status")["apps_running"] == 0, 20, "the application has ended")
    assert row()["state"] in ("failed", "cancelled"), row()
    assert row()["exit_code"] not in (0, None), row()
    keeper.check()


SECOND = """
import os, subprocess, sys
from shoal import task, wait_on
@task(returns=int)
def twice(i):
    return 2 * i
first = [twice(i) for i in range(5)]
wait_on(first[0])
if "second" in os.environ:
    print("second:", wait_on(twice(4)))
    raise SystemExit
variables = os.environ | {"second": ""} | %r
done = subprocess.run([sys.executable, "-m", "shoal", __file__], env=variables, text=True, capture_output=True)
print("code", done.returncode, done.stdout)
print(done.stderr)
print("first:", wait_on(first), wait_on(twice(21)))
"""


def test_two_drivers_with_one_application_id(keeper: Keeper, cluster: Cluster) -> None:
    path = keeper.directory / "second.py"
    path.write_text(SECOND % {})
    done = keeper.agent.shoal("run", str(path))
    assert "code 1" in done.stdout and "already has a driver here; give this one its own id" in done.stdout
    assert done.stdout.endswith("first: [0, 2, 4, 6, 8] 42\n")
    keeper.check()
    # At another agent of the realm, too: either refused, or an application of its own.
    other = cluster.join("b", keeper.agent, computing_units=1)
    wait_until(lambda: keeper.agent.json("status")["members"] == 2, 15, "two members")
    path.write_text(SECOND % {"SHOAL_SOCKET": other.socket})
    done = keeper.agent.shoal("run", str(path))
    assert "already has a driver" in done.stdout or "second: 8" in done.stdout, done.stdout
    assert done.stdout.endswith("first: [0, 2, 4, 6, 8] 42\n")
    keeper.check()
