"""How long a call takes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any


class timeit:
    """Decorator: the function returns [result, seconds]."""

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorates `function`."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> list[Any]:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            return [result, time.perf_counter() - start]

        return timed
