"""Reductions as trees of calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any


def merge_reduce(function: Callable[[Any, Any], Any], data: Any) -> Any:
    """Reduces `data` pairwise with a task of two arguments; neighbours in the queue first."""
    queue = deque(data)
    if not queue:
        return None
    while len(queue) > 1:
        queue.append(function(queue.popleft(), queue.popleft()))
    return queue[0]


def merge_n_reduce(function: Callable[..., Any], arity: int, data: Any) -> Any:
    """Reduces `data` with a task that takes up to `arity` arguments at a time."""
    if arity < 2:
        raise ValueError("merge_n_reduce needs an arity of at least 2")
    queue = deque(data)
    if not queue:
        return None
    while len(queue) > 1:
        queue.append(function(*[queue.popleft() for _ in range(min(arity, len(queue)))]))
    return queue[0]


mergeReduce = merge_reduce
mergeNReduce = merge_n_reduce
