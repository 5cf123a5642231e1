"""Goal: what tasks print is found again, by task, stream and agent, wherever they ran.
Method: three levels of real agents, a program at the edge whose tasks run above it, one agent killed."""

from __future__ import annotations

import json
import subprocess

from cluster import Cluster, wait_until

PRINTS = """
import os, sys, time
from shoal import task, wait_on
@task(returns=str)
def speak(i):
    print("out", i)
    print("err", i, file=sys.stderr)
    time.sleep(0.05)
    return os.environ["SHOAL_SOCKET"]
homes = wait_on([speak(i) for i in range(40)])
print("driver says", len(homes))
print("driver warns", file=sys.stderr)
for number, path in enumerate(homes, 1):
    print(number, path.split("/")[-3])
"""


def lines_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_output_of_tasks_is_collected_from_the_agents_that_ran_them(three_levels: Cluster, program) -> None:
    edge = three_levels.agents["edge-1"]
    done = edge.shoal("run", "--task-output", program(PRINTS))
    ran_on = dict(line.split() for line in done.stdout.splitlines() if line[0].isdigit())
    assert len(ran_on) == 40 and len(set(ran_on.values())) > 1
    for number, name in ran_on.items():
        assert f"[{number} {name}] out {int(number) - 1}\n" in done.stdout
        assert f"[{number} {name}] err {int(number) - 1}\n" in done.stderr

    driver = edge.shoal("logs", "last")
    assert "driver says 40" in driver.stdout and driver.stderr == "driver warns\n" and "out" not in driver.stdout

    rows = lines_of(edge.shoal("logs", "--tasks", "-o", "jsonl").stdout)
    assert len(rows) == 80
    for row in rows:
        assert row["agent_name"] == ran_on[str(row["task"])]
        assert row["text"] == f"{'out' if row['stream'] == 1 else 'err'} {row['task'] - 1}"
    assert {row["task"] for row in lines_of(edge.shoal("logs", "last", "2-10:4", "-o", "jsonl").stdout)} == {2, 6, 10}

    single = edge.shoal("logs", "last", "7")
    assert (single.stdout, single.stderr) == ("out 6\n", "err 6\n")
    assert edge.shoal("logs", "last", "last").stdout == "out 39\n"

    victim = next(name for name in set(ran_on.values()) if name not in ("fog-1", "cloud-1"))
    three_levels.agents[victim].kill()
    left = edge.shoal("logs", "--tasks", "-o", "jsonl")
    assert f"the output of tasks on {victim} is missing" in left.stderr
    assert {row["agent_name"] for row in lines_of(left.stdout)} == set(ran_on.values()) - {victim}


def test_following_ends_with_the_application(cluster: Cluster, program, tmp_path) -> None:
    agent = cluster.found("one", computing_units=2)
    gate = tmp_path / "gate"
    app = agent.shoal(
        "submit",
        program(
            "import os, time\nfrom shoal import task, wait_on\n@task(returns=int)\ndef f(i):\n"
            "    print('line', i, flush=True)\n"
            f"    while i == 2 and not os.path.exists({str(gate)!r}):\n        time.sleep(0.02)\n    return i\n"
            "wait_on([f(i) for i in range(4)])\nprint('end')\n"
        ),
    ).stdout.strip()
    words = [str(cluster.bin / "shoal"), "--home", str(agent.home), "logs", app]
    tasks = subprocess.Popen([*words, "all", "-f"], stdout=subprocess.PIPE, text=True)
    driver = subprocess.Popen([*words, "-f"], stdout=subprocess.PIPE, text=True)
    assert tasks.stdout is not None and driver.stdout is not None
    seen = [tasks.stdout.readline() for _ in range(3)]
    assert tasks.poll() is None and driver.poll() is None
    gate.write_text("open")
    assert sorted(seen + tasks.stdout.readlines()) == [f"[{i + 1} one] line {i}\n" for i in range(4)]
    assert driver.stdout.read() == "end\n"
    assert tasks.wait(20) == 0 and driver.wait(20) == 0
    wait_until(lambda: agent.json("status")["apps_running"] == 0, 10, "it has ended")
