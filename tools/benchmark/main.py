"""Measures Shoal beside what the machine and its libraries can do, in one run.

Every figure is the median of repeated runs; the runs of a floor (raw ZeroMQ, RocksDB, librdkafka, memcpy, a file) and
of Shoal alternate, so that both see the same machine. `cost` is how many times the floor's cost Shoal has. With --vs, the
same tasks are run by Shoal and by other runtimes. Nothing passes or fails here.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/cluster"))
sys.path.insert(0, str(ROOT / "sdk/python"))
sys.path.insert(1, str(ROOT / "tools/benchmark/peer_programs"))

from cluster import ClusterError  # noqa: E402
from comparison import Comparison, compare  # noqa: E402
from peers import PEERS, chosen  # noqa: E402
from report import Options, Report  # noqa: E402

# Modules; imported once the SDK's C half is where it can be found.
MEASURES = ("tasks", "flow", "store", "streams", "idle", "placement")
PROGRAMS = ["shoal", "shoald", "shoal-bench-floors", "shoal-bench-tasks"]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(MEASURES)} (default: all of them)")
    parser.add_argument("--vs", metavar="PEER,…", help=f"tasks only: beside other runtimes, which are installed below "
                        f"build/bench-peers: {', '.join(PEERS)}")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="with --vs: draw how many times better Shoal is")
    parser.add_argument("--runs", type=int, help="repetitions of each figure (default 5, 3 with --vs; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--kafka", nargs="?", const="start", metavar="HOST:PORT",
                        help="measure Kafka too: at HOST:PORT, or at a broker started for it by tools/kafka/run.sh")
    parser.add_argument("--build", type=Path, help="build tree to use and bring up to date (default build/release)")
    parser.add_argument("--bin", type=Path, metavar="DIR", help="directory of ready programs to use; nothing is built")
    parser.add_argument("-o", dest="output", choices=["table", "json"], default="table", help="how to print (default table)")
    given = parser.parse_args()
    unknown = [what for what in given.what if what not in MEASURES]
    if unknown:
        parser.error(f"'{unknown[0]}' is not measured here: choose from {', '.join(MEASURES)}")
    if given.runs is not None and given.runs < 1:
        parser.error("--runs is at least 1")
    if given.build is not None and given.bin is not None:
        parser.error("--build and --bin are two answers to one question")
    if given.picture is not None and given.vs is None:
        parser.error("--picture shows what --vs measures")
    if given.picture is not None and not given.picture.parent.is_dir():  # said now and not after minutes of measuring
        parser.error(f"--picture: there is no directory {given.picture.parent}")
    if given.vs is not None:
        if given.what not in ([], ["tasks"]):
            parser.error("--vs compares tasks only: tools/bench tasks --vs …")
        try:
            given.vs = chosen(given.vs)
        except ValueError as error:
            parser.error(f"--vs: {error}")
    return given


def build(tree: Path | None) -> Path:
    """Brings the programs up to date; returns their directory."""
    environment = os.environ | {"CCACHE_BASEDIR": str(ROOT), "CCACHE_NOHASHDIR": "1"}
    commands = [] if tree is not None else [["cmake", "--preset", "release"]]
    tree = tree or ROOT / "build/release"
    commands.append(["cmake", "--build", str(tree), "--target", *PROGRAMS])
    for command in commands:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    # The SDK's hot path in C is no target where the interpreter's headers are missing; Shoal works without, slower.
    subprocess.run(["cmake", "--build", str(tree), "--target", "shoal_native"], cwd=ROOT, env=environment,
                   capture_output=True, check=False)
    return tree / "bin"


def ready(directory: Path) -> Path:
    """The directory, if the programs are there."""
    for program in PROGRAMS:
        if not os.access(directory / program, os.X_OK):
            raise ClusterError(f"there is no program {program} in {directory}")
    return directory.resolve()


def say(text: str) -> None:
    """Progress, which is no part of the result."""
    print(text, file=sys.stderr, flush=True)


def machine() -> dict[str, str | int | float]:
    """What the figures were measured on."""
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    return {"cpu": model, "cores": os.cpu_count() or 1, "kernel": platform.release(),
            "python": platform.python_version(), "load_before": round(os.getloadavg()[0], 2)}


def described(about: dict[str, str | int | float]) -> str:
    """The machine for people."""
    return f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, load before {about['load_before']}"


def measure(given: argparse.Namespace, about: dict[str, str | int | float]) -> list[Report | Comparison]:
    """Every benchmark that was asked for; tables are printed as they come."""
    binaries = ready(given.bin) if given.bin else build(given.build)
    runs = given.runs or (1 if given.quick else 3 if given.vs else 5)
    options = Options(binaries, runs, given.quick, given.kafka)
    reports: list[Report | Comparison] = []
    if given.vs:
        comparison = compare(options, given.vs, say)
        reports.append(comparison)
        if given.output == "table":
            print(comparison.table(), flush=True)
        if given.picture:
            given.picture.write_text(comparison.picture(f"median of {runs} runs, two executors each; {described(about)}"))
        return reports
    sys.path.append(str(binaries.parent / "python"))
    for what in given.what or MEASURES:
        report = Report(what, runs)
        importlib.import_module(what).measure(options, report)
        reports.append(report)
        if given.output == "table":
            print(report.table(), flush=True)
    return reports


def main() -> int:
    """Measures, prints."""
    given = arguments()
    about = machine()
    try:
        reports = measure(given, about)
    except ClusterError as error:
        print(f"tools/bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if given.output == "json":
        print(json.dumps({"machine": about, "reports": [report.data() for report in reports]}, indent=1))
    else:
        print(described(about))
    return 0


if __name__ == "__main__":
    sys.exit(main())
