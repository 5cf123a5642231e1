"""The tasks that are measured; executors import them from here."""

from __future__ import annotations

import time
from typing import Any

from shoal import constraint, task


@task()
def nothing() -> None:
    """Takes nothing, gives nothing."""


@task(returns=1)
def same(x: Any) -> Any:
    """Gives what it takes."""
    return x


@task(returns=1)
def zeros(count: int) -> Any:
    """An array of that many bytes."""
    import numpy as np

    return np.zeros(count, dtype=np.uint8)


@task(returns=1)
def is_view(array: Any) -> bool:
    """True if the array's bytes were not copied for this task."""
    return not array.flags.owndata and bool(array[0] == array[-1])


@task(returns=1)
def total(values: list[int]) -> int:
    """Their sum."""
    return sum(values)


@task(returns=1)
def pause(milliseconds: int) -> int:
    """Takes time, not the processor."""
    time.sleep(milliseconds / 1000)
    return milliseconds


@task(returns=1)
def spin(microseconds: int) -> int:
    """Keeps a processor busy for so long."""
    until = time.perf_counter_ns() + microseconds * 1000
    while time.perf_counter_ns() < until:
        pass
    return microseconds


@constraint(labels={"site": "a"})
@task(returns=1)
def zeros_on_a(count: int) -> Any:
    """An array of that many bytes, made on the agent that is labelled so."""
    import numpy as np

    return np.zeros(count, dtype=np.uint8)


@constraint(labels={"site": "b"})
@task(returns=1)
def zeros_on_b(count: int) -> Any:
    """The same on the other one."""
    import numpy as np

    return np.zeros(count, dtype=np.uint8)


@task()
def use(pause_s: float, *arrays: Any) -> None:
    """Reads a byte of each page and then takes its time, without a processor."""
    for array in arrays:
        array[::4096].sum()
    time.sleep(pause_s)
