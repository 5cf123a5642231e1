"""What was measured: figures of repeated runs, their floors, and how they are printed."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cluster import run


@dataclass(frozen=True)
class Options:
    """What every benchmark needs to know."""

    binaries: Path
    runs: int
    quick: bool
    kafka: str | None

    def size(self, full: int, tiny: int) -> int:
        """How many: `tiny` with --quick."""
        return tiny if self.quick else full

    def floor(self, *arguments: str | int) -> dict[str, float]:
        """One run of a native floor."""
        command = [str(self.binaries / "shoal-bench-floors"), *(str(argument) for argument in arguments)]
        return json.loads(run(command, timeout=300).stdout)


@dataclass
class Row:
    """One figure. `floor` is the key of the row it is compared with; rates are better when higher."""

    key: str
    label: str
    unit: str
    floor: str | None = None
    bar: str = ""
    values: list[float] = field(default_factory=list)

    @property
    def is_rate(self) -> bool:
        """True for figures of which more is better."""
        return self.unit.endswith("/s")

    @property
    def median(self) -> float:
        """The figure that is printed."""
        return statistics.median(self.values)


class Report:
    """The rows of one benchmark."""

    def __init__(self, what: str, runs: int) -> None:
        self.what = what
        self.runs = runs
        self.rows: dict[str, Row] = {}

    def row(self, key: str, label: str, unit: str, floor: str | None = None, bar: str = "") -> None:
        """Declares a row; every declared row is printed, and an unmeasured one is a mistake."""
        self.rows[key] = Row(key, label, unit, floor, bar)

    def add(self, **figures: float) -> None:
        """One run's figures, by row."""
        for key, value in figures.items():
            self.rows[key].values.append(value)

    def cost(self, row: Row) -> float | None:
        """How many times the floor's cost the row has; None without a floor."""
        if row.floor is None:
            return None
        floor = self.rows[row.floor].median
        return floor / row.median if row.is_rate else row.median / floor

    def data(self) -> dict[str, object]:
        """The report for JSON."""
        rows = [{"key": row.key, "label": row.label, "unit": row.unit, "median": row.median, "min": min(row.values),
                 "max": max(row.values), "runs": len(row.values), "floor": row.floor, "cost": self.cost(row),
                 "bar": row.bar or None} for row in self.rows.values()]
        return {"what": self.what, "runs": self.runs, "rows": rows}

    def table(self) -> str:
        """The report for people."""
        lines = [f"{self.what} (median of {self.runs} runs)",
                 f"  {'':52}{'median':>12} {'unit':10}{'min … max':>23}  {'cost':>7}  bar"]
        for row in self.rows.values():
            cost = self.cost(row)
            label = row.label if row.floor is None else f"  {row.label}"
            spread = f"{number(min(row.values))} … {number(max(row.values))}"
            times = "" if cost is None else f"{cost:.1f}x" if cost >= 1 else f"{cost:.2g}x"
            lines.append(f"  {label:52}{number(row.median):>12} {row.unit:10}{spread:>23}  {times:>7}  {row.bar}".rstrip())
        return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def seconds(action: Callable[[], object]) -> float:
    """How long it takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def each_us(action: Callable[[int], object], count: int) -> list[float]:
    """Microseconds of each call, one after the other, sorted."""
    times = []
    for i in range(count):
        begin = time.perf_counter_ns()
        action(i)
        times.append((time.perf_counter_ns() - begin) / 1000)
    return sorted(times)


def percentile(times: list[float], percent: int) -> float:
    """Of sorted values."""
    return times[(len(times) - 1) * percent // 100]
