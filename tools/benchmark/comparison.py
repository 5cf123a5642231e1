"""Shoal beside other task runtimes: the same work, run after run in turn, on one machine with two executors each."""

from __future__ import annotations

import os
import statistics
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import peers
from cluster import ClusterError
from peers import LINKS, SHOAL, Peer, PeerError
from picture import Bar, Group, bar_chart
from report import Options, number, seconds

LABEL_WIDTH = 46
COLUMN_WIDTH = 12
WIDTH = 116
DETAIL = "… "  # begins the label of a line that continues the one above


@dataclass(frozen=True)
class Measure:
    """One line of the table. Figures that are given for LINKS tasks name the size that they were measured with."""

    key: str
    label: str
    unit: str
    size: str = ""

    @property
    def is_rate(self) -> bool:
        """True for figures of which more is better."""
        return self.unit.endswith("/s")


MEASURES = (
    Measure("rate", "no-op Python tasks with results", "tasks/s"),
    Measure("cpu", "… processor time a task, all processes", "us"),
    Measure("p50", "one task there and back", "ms"),
    Measure("p99", "… 99th percentile", "ms"),
    Measure("chain", f"{LINKS:,} tasks, each with the result before", "s", "chain"),
    Measure("fan_in", f"{LINKS:,} tasks, then one with their results", "s", "fan"),
    Measure("cold", "from nothing to the first result", "s"),
    Measure("put", "large numpy array handed over", "ms"),
    Measure("use", "… read by a task on this host", "ms"),
    Measure("spawn", "/bin/true as tasks", "tasks/s"),
)


@dataclass
class Result:
    """What is known of one runtime."""

    peer: Peer
    version: str = ""
    trouble: str = ""
    runs: int = 0
    values: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, run: dict[str, Any], sizes: peers.Sizes) -> None:
        """The figures of one more run."""
        self.version = run["version"]
        self.missing = run["missing"]
        self.runs += 1
        for measure in MEASURES:
            if measure.key in run["figures"]:
                scale = LINKS / getattr(sizes, measure.size) if measure.size else 1
                self.values.setdefault(measure.key, []).append(run["figures"][measure.key] * scale)

    def median(self, measure: Measure) -> float | None:
        """The figure that is printed; None for what was not measured."""
        values = self.values.get(measure.key)
        return statistics.median(values) if values else None


class Comparison:
    """The results of all runtimes, Shoal's first."""

    def __init__(self, quick: bool, runs: int) -> None:
        self.what = "tasks"
        self.quick = quick
        self.runs = runs
        self.results: dict[str, Result] = {}
        self.spawn_floor: list[float] = []

    def ratio(self, measure: Measure, name: str) -> float | None:
        """How many times better Shoal is than that peer; None without two figures."""
        own, other = self.results[SHOAL.name].median(measure), self.results[name].median(measure)
        if not own or not other:  # a processor time of a tiny run can be 0
            return None
        return own / other if measure.is_rate else other / own

    @property
    def measured(self) -> list[str]:
        """Names of the runtimes that there are figures of."""
        return [name for name, result in self.results.items() if result.runs]

    @property
    def posix_spawn(self) -> float:
        """Processes a second without a runtime: the floor of tasks that are programs."""
        return statistics.median(self.spawn_floor)

    def data(self) -> dict[str, object]:
        """The comparison for JSON."""
        rows = []
        for measure in MEASURES:
            row: dict[str, Any] = {"key": measure.key, "label": measure.label, "unit": measure.unit, "figures": {},
                                   "ratios": {}, "missing": {}}
            for name in self.measured:
                values = self.results[name].values.get(measure.key)
                if values:
                    row["figures"][name] = {"median": statistics.median(values), "min": min(values), "max": max(values),
                                            "runs": len(values)}
                    if name != SHOAL.name:
                        row["ratios"][name] = self.ratio(measure, name)
                else:
                    row["missing"][name] = self.results[name].missing.get(measure.key, "not measured")
            rows.append(row)
        about = {name: {"version": result.version or None, "runs": result.runs, "trouble": result.trouble or None,
                        "note": result.peer.note, "sizes": asdict(peers.sizes_of(result.peer, self.quick))}
                 for name, result in self.results.items()}
        return {"what": self.what, "runs": self.runs, "against": about, "rows": rows,
                "floors": {"posix_spawn": {"unit": "processes/s", "median": self.posix_spawn}}}

    def table(self) -> str:
        """The comparison for people."""
        lines = [f"tasks beside other runtimes, two executors each (median of {self.runs} runs)",
                 f"  {'':{LABEL_WIDTH}}" + "".join(f"{name:>{COLUMN_WIDTH}}" for name in self.measured)]
        for measure in MEASURES:
            figures = [self.results[name].median(measure) for name in self.measured]
            ratios = [None if name == SHOAL.name else self.ratio(measure, name) for name in self.measured]
            cells = "".join(f"{'-' if value is None else number(value):>{COLUMN_WIDTH}}" for value in figures)
            lines.append(f"  {measure.label + ', ' + measure.unit:{LABEL_WIDTH}}{cells}")
            if any(ratio is not None for ratio in ratios):
                cells = "".join(f"{'' if ratio is None else times(ratio):>{COLUMN_WIDTH}}" for ratio in ratios)
                lines.append(f"  {'':{LABEL_WIDTH}}{cells}".rstrip())
        for line in self.legend():
            lines += textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="      ")
        return "\n".join(lines) + "\n"

    def legend(self) -> list[str]:
        """What the table does not say."""
        lines = ["41x: Shoal is 41 times as fast or needs a 41st; -: the runtime does not have it",
                 f"large: {peers.array_bytes(self.quick) // 1_000_000} MB",
                 f"/bin/true by posix_spawn, without a runtime, two at a time: {number(self.posix_spawn)}/s"]
        for name, result in self.results.items():
            if not result.runs:
                lines.append(f"{name}: {result.trouble}")
                continue
            sizes = peers.sizes_of(result.peer, self.quick)
            scaled = ", ".join(f"{measure.key.replace('_', '-')} of {getattr(sizes, measure.size)}" for measure in MEASURES
                               if measure.size and getattr(sizes, measure.size) != LINKS)
            notes = [result.peer.note, f"{scaled}, scaled" if scaled else "",
                     f"{result.runs} runs, then: {result.trouble}" if result.trouble else ""]
            lines.append(f"{name} {result.version}: {sizes.tasks:,} tasks" + "".join(f"; {note}" for note in notes if note))
        return lines

    def picture(self, about: str) -> str:
        """The ratios as a bar chart in SVG; `about` says on what they were measured."""
        groups = []
        subject = ""
        for measure in MEASURES:
            if measure.label.startswith(DETAIL):
                label = f"{subject}, {measure.label[len(DETAIL):]}"
            else:
                label = subject = measure.label
            bars = [Bar(name, ratio, times(ratio)) for name in self.measured
                    if name != SHOAL.name and (ratio := self.ratio(measure, name)) is not None]
            own = self.results[SHOAL.name].median(measure)
            if bars and own is not None:
                groups.append(Group(f"{label} (Shoal: {number(own)} {measure.unit})", bars))
        return bar_chart("How many times better Shoal is", about, groups)


def times(ratio: float) -> str:
    """A ratio for people."""
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.1f}x" if ratio >= 1 else f"{ratio:.2g}x"


def compare(options: Options, wanted: list[Peer], say: Callable[[str], None]) -> Comparison:
    """Installs the peers, then measures Shoal and all of them in turn, `options.runs` times.

    A peer that cannot be installed or fails is left out from then on. ClusterError when Shoal fails or no peer is left.
    """
    comparison = Comparison(options.quick, options.runs)
    with peers.all_ended():
        pythons: dict[str, Path] = {}
        for peer in [SHOAL, *wanted]:
            result = comparison.results[peer.name] = Result(peer)
            try:
                pythons[peer.name] = peers.interpreter(peer, say)
            except PeerError as error:
                result.trouble = str(error)
                say(f"{peer.name}: {error}")
        for run in range(options.runs):
            comparison.spawn_floor.append(posix_spawn_per_s(options.size(1_000, 20)))
            for peer in [SHOAL, *wanted]:
                result = comparison.results[peer.name]
                if result.trouble:
                    continue
                say(f"run {run + 1} of {options.runs}: {peer.name}")
                try:
                    figures = peers.measure(peer, pythons[peer.name], options.binaries, options.quick)
                    result.add(figures, peers.sizes_of(peer, options.quick))
                except PeerError as error:
                    if peer is SHOAL:
                        raise ClusterError(f"Shoal could not be measured: {error}") from None
                    result.trouble = str(error)
                    say(f"{peer.name}: {error}")
    if comparison.measured == [SHOAL.name]:
        troubles = "; ".join(f"{peer.name}: {comparison.results[peer.name].trouble}" for peer in wanted)
        raise ClusterError(f"no peer could be measured: {troubles}")
    return comparison


def posix_spawn_per_s(count: int) -> float:
    """How many processes /bin/true a second this one can start and wait for, two at a time."""
    def spawn() -> None:
        running: list[int] = []
        for _ in range(count):
            if len(running) == 2:
                os.waitpid(running.pop(0), 0)
            running.append(os.posix_spawn("/bin/true", ["/bin/true"], {}))
        for pid in running:
            os.waitpid(pid, 0)

    return count / seconds(spawn)
