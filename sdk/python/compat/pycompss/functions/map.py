"""Maps over iterables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def map(function: Callable[..., Any], *iterables: Any) -> list[Any]:
    """Calls `function` (usually a task) for the elements of the iterables, side by side."""
    return [function(*arguments) for arguments in zip(*iterables)]


__all__ = ["map"]
