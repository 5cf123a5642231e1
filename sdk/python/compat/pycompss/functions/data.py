"""Data to play with, and chunks of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any


def chunks(sequence: Any, size: int, balanced: bool = False) -> Iterator[Any]:
    """Slices of `sequence` of `size` elements; with `balanced`, `size` slices whose lengths differ by one at most."""
    if size < 1:
        raise ValueError("chunks needs a positive size")
    if not balanced:
        for start in range(0, len(sequence), size):
            yield sequence[start : start + size]
        return
    base, extra = divmod(len(sequence), size)
    start = 0
    for index in range(size):
        end = start + base + (1 if index < extra else 0)
        yield sequence[start:end]
        start = end


def generator(
    size: tuple[int, int], num_frag: int, seed: int | None = None, distribution: str = "random", wait: bool = False
) -> list[list[list[float]]]:
    """`num_frag` fragments of `size[0]`/`num_frag` rows with `size[1]` numbers each: "random" in [0, 1) or "normal"."""
    del wait  # fragments are made here, they are ready
    if distribution not in ("random", "uniform", "normal"):
        raise ValueError(f"distribution={distribution!r}: it is random, uniform or normal")
    rows, columns = size
    source = random.Random(seed)
    draw = {"random": source.random, "uniform": lambda: source.uniform(-1, 1), "normal": lambda: source.gauss(0, 1)}
    number = draw[distribution]
    return [[[number() for _ in range(columns)] for _ in range(rows // num_frag)] for _ in range(num_frag)]
