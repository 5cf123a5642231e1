"""From sensors to a model: the program of the demo.

Thermometers of two cities publish through MQTT brokers at the edge. In one program:

- edge stream tasks, each pinned to the agent that has the sensor, drop broken readings and form daily windows;
- a fog stream task gathers the days of each city into weekly blocks;
- ordinary tasks, anywhere, turn blocks into normal equations, add these up as a tree and solve for a seasonal model; others
  fit it again to weeks drawn at random, thousands of times, to tell how sure its yearly swing is;
- the model is made persistent under an alias.

Every stage commits its position only after the next stream's owner has what it made, and what may arrive twice has a key:
agents may be killed and uplinks cut, and the result is the same as that of a plain loop over the same readings.
Run `tools/demo` to see it on a hierarchy of agents.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from shoal import COLLECTION_IN, STREAM_IN, STREAM_OUT, ObjectStream, constraint, put, task, wait_on

FIRST_DAY = datetime(2010, 1, 1)
DAYS_A_WEEK = 7
HARMONICS = 2
DRAWS = 16  # tasks a city that draw weeks at random
ROUNDS = 2_000  # models each of them fits
ALIAS = "temperature-model"


# ---- what is computed: plain functions, the same in the tasks and in the sequential check ----
def parse_reading(payload: bytes) -> dict[str, Any] | None:
    """A reading {"t": time, "f": degrees Fahrenheit}, an end mark {"end": true}, or None for a broken one."""
    try:
        reading = json.loads(payload)
    except ValueError:
        return None
    if not isinstance(reading, dict):
        return None
    if reading.get("end"):
        return reading
    degrees = reading.get("f")
    if not isinstance(degrees, (int, float)) or not -60 <= degrees <= 140:
        return None
    reading["day"] = (datetime.strptime(reading["t"][:10], "%Y/%m/%d") - FIRST_DAY).days
    return reading


def close_window(city: str, day: int, degrees: list[float]) -> dict[str, Any]:
    """The daily window of one city, in Celsius."""
    celsius = [(value - 32) * 5 / 9 for value in degrees]
    return {"city": city, "day": day, "count": len(celsius), "mean": math.fsum(celsius) / len(celsius),
            "low": min(celsius), "high": max(celsius)}


def make_block(city: str, week: int, windows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The weekly block of one city, its days in order."""
    return {"city": city, "week": week, "windows": sorted(windows, key=lambda window: window["day"])}


def block_equations(block: dict[str, Any]) -> Any:
    """The block's part of the normal equations of a seasonal regression on the daily means."""
    import numpy as np

    days = np.array([window["day"] for window in block["windows"]], dtype=float)
    means = np.array([window["mean"] for window in block["windows"]])
    columns = [np.ones_like(days)]
    for k in range(1, HARMONICS + 1):
        angle = 2 * np.pi * k * days / 365.0
        columns += [np.sin(angle), np.cos(angle)]
    design = np.stack(columns, axis=1)
    return design.T @ design, design.T @ means


def add_equations(left: Any, right: Any) -> Any:
    """Two partial sums of normal equations as one."""
    return left[0] + right[0], left[1] + right[1]


def solve_equations(equations: Any) -> list[float]:
    """The coefficients of the seasonal model; a little ridge keeps few days solvable."""
    import numpy as np

    gram, moment = equations
    return [float(value) for value in np.linalg.solve(gram + 1e-9 * np.eye(len(gram)), moment)]


def yearly_swing(model: list[float]) -> float:
    """Amplitude of the model's first harmonic, in degrees."""
    return math.hypot(model[1], model[2])


def drawn_swings(parts: list[Any], seed: int) -> list[float]:
    """The yearly swings of models of weeks drawn with replacement (a bootstrap)."""
    rng = random.Random(seed)
    swings = []
    for _ in range(ROUNDS):
        drawn = rng.choices(parts, k=len(parts))
        total = drawn[0]
        for part in drawn[1:]:
            total = add_equations(total, part)
        swings.append(yearly_swing(solve_equations(total)))
    return swings


def middle_range(samples: list[list[float]]) -> list[float]:
    """What 90 % of all swings lie between."""
    swings = sorted(swing for sample in samples for swing in sample)
    return [swings[len(swings) // 20], swings[-1 - len(swings) // 20]]


# ---- tasks ----
def watch(city: str, readings: ObjectStream, windows: ObjectStream) -> dict[str, int]:
    """Daily windows of one city until the end mark; returns how many readings came and how many were broken."""
    day = -1
    degrees: list[float] = []
    seen = broken = 0
    while True:
        for record in readings.poll_records(timeout=5):
            reading = parse_reading(record.value)
            seen += 1
            if reading is None:
                broken += 1
                continue
            if reading.get("end") or reading["day"] != day:
                if degrees:
                    windows.publish(close_window(city, day, degrees))
                    windows.flush()
                    # Only now may a successor of this task start behind the readings of that window.
                    readings.commit({record.partition: record.offset})
                if reading.get("end"):
                    return {"readings": seen - 1, "broken": broken}
                day, degrees = reading["day"], []
            degrees.append(reading["f"])


@constraint(labels={"sensor": "seattle"})
@task(returns=dict, readings=STREAM_IN, windows=STREAM_OUT)
def watch_seattle(readings: ObjectStream, windows: ObjectStream) -> dict[str, int]:
    """Runs where the Seattle thermometer is."""
    return watch("seattle", readings, windows)


@constraint(labels={"sensor": "san-francisco"})
@task(returns=dict, readings=STREAM_IN, windows=STREAM_OUT)
def watch_san_francisco(readings: ObjectStream, windows: ObjectStream) -> dict[str, int]:
    """Runs where the San Francisco thermometer is."""
    return watch("san-francisco", readings, windows)


@constraint(labels={"tier": "fog"})
@task(returns=int, windows=STREAM_IN, blocks=STREAM_OUT)
def gather_weeks(windows: ObjectStream, blocks: ObjectStream) -> int:
    """Weekly blocks of all cities until the windows end; returns how many."""
    open_weeks: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
    first_offset: dict[tuple[str, int], int] = {}
    made = 0

    def publish(key: tuple[str, int]) -> None:
        nonlocal made
        blocks.publish(make_block(*key, open_weeks.pop(key).values()))
        del first_offset[key]
        made += 1

    while True:
        records = windows.poll_records(timeout=5)
        for record in records:
            key = (record.value["city"], record.value["day"] // DAYS_A_WEEK)
            open_weeks.setdefault(key, {})[record.value["day"]] = record.value  # a window that comes twice is one
            first_offset.setdefault(key, record.offset)
            if len(open_weeks[key]) == DAYS_A_WEEK:
                publish(key)
                blocks.flush()
                # A successor needs the windows of weeks that are still open.
                windows.commit({record.partition: min(first_offset.values(), default=record.offset + 1)})
        if not records and windows.is_drained():
            for key in sorted(open_weeks):
                publish(key)
            blocks.flush()
            return made


@task(returns=object)
def equations(block: dict[str, Any]) -> Any:
    """block_equations as a task."""
    return block_equations(block)


@task(returns=object)
def add(left: Any, right: Any) -> Any:
    """add_equations as a task."""
    return add_equations(left, right)


@task(returns=list)
def solve(parts: Any) -> list[float]:
    """solve_equations as a task."""
    return solve_equations(parts)


@task(returns=list, parts=COLLECTION_IN)
def draw(parts: Any, seed: int) -> list[float]:
    """drawn_swings as a task."""
    return drawn_swings(parts, seed)


@task(returns=list, samples=COLLECTION_IN)
def enclose(samples: Any) -> list[float]:
    """middle_range as a task."""
    return middle_range(samples)


def reduce_pairwise(parts: list[Any], combine: Any) -> Any:
    """Neighbours first, then neighbours of those: the same order of additions wherever they run."""
    while len(parts) > 1:
        parts = [combine(*parts[i : i + 2]) if i + 1 < len(parts) else parts[i] for i in range(0, len(parts), 2)]
    return parts[0]


# ---- the sequential check ----
def sequential_models(feeds: dict[str, list[bytes]]) -> dict[str, list[list[float]]]:
    """The same models and ranges by plain loops over the payloads that the sensors sent."""
    models = {}
    for city, payloads in feeds.items():
        days: dict[int, list[float]] = {}
        for reading in map(parse_reading, payloads):
            if reading is not None and not reading.get("end"):
                days.setdefault(reading["day"], []).append(reading["f"])
        weeks: dict[int, list[dict[str, Any]]] = {}
        for day in sorted(days):
            weeks.setdefault(day // DAYS_A_WEEK, []).append(close_window(city, day, days[day]))
        parts = [block_equations(make_block(city, week, weeks[week])) for week in sorted(weeks)]
        swings = [drawn_swings(parts, seed) for seed in range(DRAWS)]
        models[city] = [solve_equations(reduce_pairwise(parts, add_equations)), middle_range(swings)]
    return models


def blocks_of(stream: ObjectStream) -> Iterator[dict[str, Any]]:
    """Each block once, though a fog task that was restarted may have sent it twice."""
    seen = set()
    for block in stream:
        key = (block["city"], block["week"])
        if key not in seen:
            seen.add(key)
            yield block


def main() -> int:
    """Runs the whole pipeline; prints one JSON line per result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="demo", help="makes the names of this run's streams")
    parser.add_argument("--url", default="shoal://", help="where windows and blocks are kept: shoal:// or kafka://HOST:PORT")
    arguments = parser.parse_args()

    def stream(name: str) -> ObjectStream:
        url = arguments.url if arguments.url == "shoal://" else f"{arguments.url}/{arguments.run}-{name}"
        return ObjectStream(f"{arguments.run}-{name}", url=url, auto_commit=False)

    windows, blocks = stream("windows"), stream("blocks")
    counts = [
        watch_seattle(ObjectStream("sensor-seattle", codec="raw", auto_commit=False), windows),
        watch_san_francisco(ObjectStream("sensor-san-francisco", codec="raw", auto_commit=False), windows),
    ]
    gathered = gather_weeks(windows, blocks)

    parts: dict[str, dict[int, Any]] = {}
    for block in blocks_of(blocks):
        parts.setdefault(block["city"], {})[block["week"]] = equations(block)
        print(json.dumps({"event": "block", "city": block["city"], "week": block["week"]}), flush=True)
    models: dict[str, Any] = {}
    for city, weeks in sorted(parts.items()):
        in_order = [weeks[week] for week in sorted(weeks)]
        swings = [draw(in_order, seed) for seed in range(DRAWS)]
        models[city] = [solve(reduce_pairwise(in_order, add)), enclose(swings)]
    result = wait_on(models)
    reference = put(result, alias=ALIAS, replicas=2, receipt="region")
    print(json.dumps({
        "event": "result",
        "models": result,
        "blocks": {city: len(weeks) for city, weeks in parts.items()},
        "readings": wait_on(counts),
        "gathered": wait_on(gathered),
        "alias": ALIAS,
        "receipt": str(reference.receipt),
    }), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
