"""Goal: a program submitted to any agent runs over all of them, and gives the same answer when agents die under it.
Method: real agents on loopback, programs run with `shoal run`, SIGKILL in the middle."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

from cluster import Cluster, wait_until

WHERE = """
import os, time
from shoal import task, wait_on
@task(returns=str)
def where(i):
    time.sleep(0.05)
    return os.environ["SHOAL_SOCKET"]
homes = {path.split("/")[-3] for path in wait_on([where(i) for i in range(40)])}
print(" ".join(sorted(homes)))
"""

CHAIN = """
import time
from shoal import task, wait_on
@task(returns=1)
def block(i):
    time.sleep(0.05)
    return list(range(i, i + 5000))
@task(returns=int)
def total(values):
    time.sleep(0.05)
    return sum(values)
@task(returns=int)
def add(a, b):
    return a + b
parts = [total(block(i)) for i in range(60)]
while len(parts) > 1:
    parts = [add(*parts[i:i + 2]) if i + 1 < len(parts) else parts[i] for i in range(0, len(parts), 2)]
print(wait_on(parts[0]))
"""
CHAIN_ANSWER = str(sum(sum(range(i, i + 5000)) for i in range(60)))


def test_tasks_of_an_agent_without_units_run_above_it(three_levels: Cluster, program) -> None:
    done = three_levels.agents["edge-1"].shoal("run", program(WHERE))
    homes = done.stdout.split()
    assert "edge-1" not in homes
    assert {"fog-1", "fog-2"} & set(homes)


def test_the_answer_is_the_same_when_workers_are_killed(three_levels: Cluster, program) -> None:
    edge = three_levels.agents["edge-1"]
    path = program(CHAIN)
    assert edge.shoal("run", path).stdout.strip() == CHAIN_ANSWER
    result: list[subprocess.CompletedProcess[str]] = []
    thread = threading.Thread(target=lambda: result.append(edge.shoal("run", path, timeout=90, check=False)))
    thread.start()
    for victim in ("fog-2", "cloud-2"):
        agent = three_levels.agents[victim]
        wait_until(lambda a=agent: a.json("status")["attempts_running"], 20, f"{victim} has work")
        agent.kill()
    thread.join()
    assert result[0].returncode == 0, result[0].stderr
    assert result[0].stdout.strip() == CHAIN_ANSWER


def test_the_exit_code_is_the_programs(cluster: Cluster, program) -> None:
    agent = cluster.found("one")
    assert agent.shoal("run", program("raise SystemExit(7)"), check=False).returncode == 7
    failing = program(
        "from shoal import task, wait_on\n@task(returns=int)\ndef f():\n    raise KeyError('gone')\nwait_on(f())\n"
    )
    done = agent.shoal("run", failing, check=False)
    assert done.returncode == 1
    assert "KeyError" in done.stderr and "gone" in done.stderr


def test_a_constraint_nobody_meets_is_refused_with_what_there_is(cluster: Cluster, program) -> None:
    agent = cluster.found("one", computing_units=1)
    done = agent.shoal(
        "run",
        program(
            "from shoal import task, wait_on, constraint\n@constraint(labels={'gpu': 'a100'})\n@task(returns=int)\n"
            "def f():\n    return 1\nwait_on(f())\n"
        ),
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "gpu" in done.stderr


def test_constraints_choose_the_agent(cluster: Cluster, program) -> None:
    plain = cluster.found("plain", computing_units=1)
    cluster.join("special", plain, computing_units=1, labels={"app_software": "blast+gromacs", "host_queues": "debug"})
    wait_until(lambda: len(plain.json("agents")["agents"]) == 2, 15, "both agents know each other")
    done = plain.shoal(
        "run",
        program("""
import os, platform
from pycompss.api.task import task
from pycompss.api.constraint import constraint
from pycompss.api.api import compss_wait_on
def home():
    return os.environ["SHOAL_SOCKET"].split("/")[-3]
@constraint(app_software=["gromacs", "blast"])
@task(returns=str)
def software(): return home()
@constraint(host_queues="debug", operating_system_type="Linux", storage_size=0.001)
@task(returns=str)
def queue(): return home()
@constraint(is_local=True)
@task(returns=str)
def local(): return home()
@constraint(processors=[{"ProcessorType": "CPU", "ComputingUnits": 1, "Architecture": platform.machine(), "Speed": 0.1}])
@task(returns=str)
def fast(): return home()
print(sorted(set(compss_wait_on([software() for _ in range(5)]))), sorted(set(compss_wait_on([queue() for _ in range(5)]))))
print(sorted(set(compss_wait_on([local() for _ in range(20)]))), len(compss_wait_on([fast() for _ in range(5)])))
"""),
    )
    assert done.stdout.splitlines() == ["['special'] ['special']", "['plain'] 5"]
    refused = plain.shoal(
        "run",
        program("""
from shoal import constraint, task, wait_on
@constraint(app_software="namd")
@task(returns=1)
def nowhere(): return 1
wait_on(nowhere())
"""),
        check=False,
    )
    assert refused.returncode != 0
    assert "app_software=namd" in refused.stderr
    assert "app_software=blast+gromacs" in refused.stderr


def test_tasks_for_every_agent_and_in_turn(cluster: Cluster, program, tmp_path: Path) -> None:
    first = cluster.found("one", computing_units=2)
    for name in ("two", "three"):
        cluster.join(name, first, computing_units=2)
    wait_until(lambda: len(first.json("agents")["agents"]) == 3, 15, "all agents know each other")
    done = first.shoal(
        "run",
        program(f"""
import collections, os
from pycompss.api.task import task
from pycompss.api.api import compss_barrier, compss_wait_on
from pycompss.api.parameter import FILE_OUT
def home():
    return os.environ["SHOAL_SOCKET"].split("/")[-3]
@task(is_replicated=True, returns=int)
def everywhere(values):
    open(f"{tmp_path}/ran on {{home()}}", "x").close()
    return sum(values)
@task(is_distributed=True, returns=str)
def in_turn(i):
    return home()
@task(path=FILE_OUT, is_replicated=True)
def writes(path):
    pass
print("result", compss_wait_on(everywhere([1, 2])))
compss_barrier()
counts = collections.Counter(compss_wait_on([in_turn(i) for i in range(30)]))
print("counts", sorted(counts.items()))
writes("/tmp/never-made")
try:
    compss_barrier()
except Exception as error:
    print("refused", "write files" in str(error))
"""),
        check=False,
    )
    lines = done.stdout.splitlines()
    assert sorted(path.name for path in tmp_path.glob("ran on *")) == ["ran on one", "ran on three", "ran on two"]
    assert "result 3" in lines
    assert "counts [('one', 10), ('three', 10), ('two', 10)]" in lines
    assert "may read anything and return values" in done.stderr + done.stdout


def test_files_objects_and_exceptions_travel(three_levels: Cluster, program, tmp_path) -> None:
    (tmp_path / "in.txt").write_text("hello")
    done = three_levels.agents["edge-1"].shoal(
        "run",
        program(f"""
import os
os.chdir({str(tmp_path)!r})
from shoal import task, wait_on, wait_on_file, FILE_IN, FILE_OUT, FILE_INOUT, INOUT
import numpy as np
@task(source=FILE_IN, target=FILE_OUT)
def copy(source, target):
    open(target, "w").write(open(source).read() + " world")
@task(path=FILE_INOUT)
def shout(path):
    text = open(path).read().upper()
    open(path, "w").write(text)
@task(values=INOUT)
def grow(values):
    values.append(len(values))
@task(returns=object)
def ones(n):
    return np.ones(n)
copy("in.txt", "out.txt")
shout("out.txt")
wait_on_file("out.txt")
print(open("out.txt").read())
numbers = [0]
for _ in range(3):
    grow(numbers)
print(wait_on(numbers))
print(int(wait_on(ones(100000)).sum()))
"""),
    )
    assert done.stdout.splitlines() == ["HELLO WORLD", "[0, 1, 2, 3]", "100000"]


def test_cancel_stops_the_driver_and_its_tasks(cluster: Cluster, program) -> None:
    agent = cluster.found("one", computing_units=1)
    app = agent.shoal(
        "submit",
        program(
            "import time\nfrom shoal import task, wait_on\n@task(returns=int)\ndef f():\n    time.sleep(600)\n"
            "    return 1\nwait_on(f())\n"
        ),
    ).stdout.strip()
    wait_until(lambda: agent.json("status")["attempts_running"], 20, "the task runs")
    agent.shoal("cancel", app)
    wait_until(lambda: not agent.json("status")["attempts_running"], 20, "the task is gone")
    wait_until(lambda: agent.json("status")["apps_running"] == 0, 20, "the driver is gone")


def test_pycompss_programs_run(cluster: Cluster, program) -> None:
    agent = cluster.found("one")
    done = agent.shoal(
        "run",
        program(
            "from pycompss.api.task import task\nfrom pycompss.api.parameter import *\n"
            "from pycompss.api.api import compss_wait_on, compss_barrier\n"
            "@task(returns=int)\ndef increment(value):\n    return value + 1\n"
            "value = 0\nfor _ in range(5):\n    value = increment(value)\ncompss_barrier()\nprint(compss_wait_on(value))\n"
        ),
    )
    assert done.stdout.strip() == "5"


def test_nested_tasks(cluster: Cluster, program) -> None:
    agent = cluster.found("one", computing_units=1)
    done = agent.shoal(
        "run",
        program(
            "from shoal import task, wait_on\n@task(returns=int)\ndef leaf(i):\n    return i * i\n"
            "@task(returns=int)\ndef tree(n):\n    return sum(wait_on([leaf(i) for i in range(n)]))\n"
            "print(wait_on([tree(5), tree(6)]))\n"
        ),
        timeout=60,
    )
    assert done.stdout.strip() == "[30, 55]"


def test_a_stopped_agent_leaves_no_process_behind(cluster: Cluster, program) -> None:
    agent = cluster.found("one")
    agent.shoal("run", program(WHERE))
    assert agent.process is not None
    pid = agent.process.pid
    started = time.monotonic()
    assert agent.stop() == 0
    assert time.monotonic() - started < 10
    left = subprocess.run(["pgrep", "-g", str(pid)], capture_output=True, text=True, check=False).stdout
    assert left == ""
