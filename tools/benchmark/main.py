"""Measures Shoal beside what the machine and its libraries can do, in one run.

Every figure is the median of repeated runs; the runs of a floor (raw ZeroMQ, RocksDB, librdkafka, memcpy, a file) and
of Shoal alternate, so that both see the same machine. `cost` is how many times the floor's cost Shoal has. Nothing
passes or fails here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/cluster"))
sys.path.insert(0, str(ROOT / "sdk/python"))

import idle  # noqa: E402
import store  # noqa: E402
import streams  # noqa: E402
import tasks  # noqa: E402
from cluster import ClusterError  # noqa: E402
from report import Options, Report  # noqa: E402

MEASURES = {"tasks": tasks.measure, "store": store.measure, "streams": streams.measure, "idle": idle.measure}
TARGETS = ["shoal", "shoald", "shoal-bench-floors"]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="WHAT", help="tasks, store, streams, idle (default: all of them)")
    parser.add_argument("--runs", type=int, help="repetitions of each figure (default 5; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--kafka", nargs="?", const="start", metavar="HOST:PORT",
                        help="measure Kafka too: at HOST:PORT, or at a broker started for it by tools/kafka/run.sh")
    parser.add_argument("--build", type=Path, help="build tree to use and bring up to date (default build/release)")
    parser.add_argument("-o", dest="output", choices=["table", "json"], default="table", help="how to print (default table)")
    given = parser.parse_args()
    unknown = [what for what in given.what if what not in MEASURES]
    if unknown:
        parser.error(f"'{unknown[0]}' is not measured here: choose from {', '.join(MEASURES)}")
    if given.runs is not None and given.runs < 1:
        parser.error("--runs is at least 1")
    return given


def build(tree: Path | None) -> Path:
    """Brings the programs up to date; returns their directory."""
    environment = os.environ | {"CCACHE_BASEDIR": str(ROOT), "CCACHE_NOHASHDIR": "1"}
    commands = [] if tree is not None else [["cmake", "--preset", "release"]]
    tree = tree or ROOT / "build/release"
    commands.append(["cmake", "--build", str(tree), "--target", *TARGETS])
    for command in commands:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return tree / "bin"


def machine() -> dict[str, str | int | float]:
    """What the figures were measured on."""
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    return {"cpu": model, "cores": os.cpu_count() or 1, "kernel": platform.release(),
            "python": platform.python_version(), "load_before": round(os.getloadavg()[0], 2)}


def main() -> int:
    """Measures, prints."""
    given = arguments()
    about = machine()
    try:
        options = Options(build(given.build), given.runs or (1 if given.quick else 5), given.quick, given.kafka)
        reports = []
        for what in given.what or MEASURES:
            report = Report(what, options.runs)
            MEASURES[what](options, report)
            reports.append(report)
            if given.output == "table":
                print(report.table(), flush=True)
    except ClusterError as error:
        print(f"tools/bench: {error}", file=sys.stderr)
        return 1
    if given.output == "json":
        print(json.dumps({"machine": about, "reports": [report.data() for report in reports]}, indent=1))
    else:
        print(f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, load before {about['load_before']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
