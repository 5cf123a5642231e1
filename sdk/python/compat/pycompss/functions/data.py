"""Data to play with, and chunks of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from pycompss.api.api import compss_wait_on
from pycompss.api.task import task

_DISTRIBUTIONS = ("random", "normal", "uniform")


def chunks(sequence: Any, size: int, balanced: bool = False) -> Iterator[Any]:
    """Slices of `sequence` of `size` elements. The last one is shorter, or with `balanced` the first ones are longer by one."""
    if size < 1:
        raise ValueError("chunks needs a positive size")
    longer = len(sequence) % size if balanced and len(sequence) >= size else 0
    start = 0
    while start < len(sequence):
        end = start + size + (1 if longer > 0 else 0)
        longer -= 1
        yield sequence[start:end]
        start = end


def generator(
    size: tuple[int, int], num_frag: int, seed: int | None = None, distribution: str = "random", wait: bool = False
) -> list[Any]:
    """`num_frag` fragments of `size[0]`/`num_frag` rows with `size[1]` numbers each, made by tasks.

    "random" numbers lie in [0, 1), "uniform" ones in [-1, 1), "normal" ones around 0. With `wait` the fragments are lists,
    else futures. The rows are spread evenly when `num_frag` does not divide them.
    """
    if distribution not in _DISTRIBUTIONS:
        raise ValueError(f"distribution={distribution!r}: it is one of {', '.join(_DISTRIBUTIONS)}")
    if num_frag < 1:
        raise ValueError("generator needs at least one fragment")
    rows, columns = size
    base, extra = divmod(rows, num_frag)
    seeds = [None if seed is None else seed + index for index in range(num_frag)]
    fragments = [
        _fragment(base + (1 if index < extra else 0), columns, seeds[index], distribution) for index in range(num_frag)
    ]
    return compss_wait_on(fragments) if wait else fragments


@task(returns=list)
def _fragment(rows: int, columns: int, seed: int | None, distribution: str) -> list[list[float]]:
    source = random.Random(seed)
    draw = {"random": source.random, "uniform": lambda: source.uniform(-1, 1), "normal": lambda: source.gauss(0, 1)}
    number = draw[distribution]
    return [[number() for _ in range(columns)] for _ in range(rows)]
