"""An agent with nothing to do: memory, start-up, processor time and wake-ups."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from pathlib import Path

from cluster import Agent, Cluster, ClusterError
from report import Options, Report, seconds
from shoal._session import Session

START_PATIENCE_S = 20


def measure(options: Options, report: Report) -> None:
    """One agent alone in its realm, as `shoald` starts it; figures from /proc."""
    span = options.size(20, 1)
    report.row("process", "an empty process, started and ended", "ms")
    report.row("start", "start to first accepted request", "ms", "process", "≤ 100")
    report.row("rss", "resident memory", "MiB", None, "≤ 32")
    report.row("anonymous", "… of which anonymous", "MiB", None, "≤ 8")
    report.row("threads", "threads", "")
    report.row("cpu", f"processor time over {span} s idle", "% core", None, "≤ 0.3")
    report.row("switches", f"context switches over {span} s idle", "per s", None, "heartbeats only")
    with Cluster(binaries=options.binaries) as cluster:
        agent = cluster.found("bench", start=False)
        for _ in range(options.runs):
            report.add(process=seconds(lambda: subprocess.run(["/bin/true"], check=True)) * 1000,
                       start=seconds(lambda: start(agent)) * 1000)
            rest(agent, span, report)
            agent.stop()


def start(agent: Agent) -> None:
    """Starts the agent and returns when it answered a request."""
    ready = agent.home / "run/ready"
    ready.unlink(missing_ok=True)
    agent.start(wait=False)
    deadline = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < deadline:
        if ready.exists():
            with contextlib.suppress(json.JSONDecodeError, OSError):
                session = Session(agent.socket, role="cli")
                session.request("agent.status", {})
                session.finish()
                return
        time.sleep(0.0005)
    raise ClusterError(f"the agent did not answer within {START_PATIENCE_S} s:\n{agent.log_text()[-2000:]}")


def rest(agent: Agent, span: int, report: Report) -> None:
    """What the agent uses while nobody asks anything of it."""
    assert agent.process is not None
    process = Path(f"/proc/{agent.process.pid}")
    time.sleep(min(span, 3))  # what follows a start is over
    before, begin = usage(process), time.monotonic()
    time.sleep(span)
    after, passed = usage(process), time.monotonic() - begin
    fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    report.add(rss=int(fields["VmRSS"].split()[0]) / 1024, anonymous=int(fields["RssAnon"].split()[0]) / 1024,
               threads=int(fields["Threads"]), cpu=(after[0] - before[0]) / 1e9 / passed * 100,
               switches=(after[1] - before[1]) / passed)


def usage(process: Path) -> tuple[int, int]:
    """Nanoseconds on a processor and context switches so far, of all threads."""
    nanoseconds = switches = 0
    for thread in (process / "task").iterdir():
        nanoseconds += int((thread / "schedstat").read_text().split()[0])
        for line in (thread / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                switches += int(line.split()[1])
    return nanoseconds, switches
