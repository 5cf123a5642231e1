"""How long a call takes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any


class timeit:
    """Decorator, with or without parentheses: the function returns [result, seconds].

    Below @task it measures the task; above, its submission.
    """

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        """The decorator; without parentheses the decorated function."""
        decorator = super().__new__(cls)
        return decorator if function is None else decorator(function)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorates `function`."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> list[Any]:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            return [result, time.perf_counter() - start]

        return timed


Timeit = TimeIt = timeit
