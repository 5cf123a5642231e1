"""How much time and memory a call takes."""

from __future__ import annotations

import functools
import os
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any


class profile:
    """Decorator, with or without parentheses: prints what each call took, to standard output or to a file
    (`redirect_to`, or $COMPSS_PROFILING_FILE).

    The line has the wall and processor time, the peak of Python's allocations during the call (with `full_report`) and the
    peak of the process. Below @task it measures the task, where it runs.
    """

    def __new__(cls, function: Callable[..., Any] | None = None, **_options: Any) -> Any:
        """The decorator; without parentheses the decorated function."""
        decorator = super().__new__(cls)
        if not callable(function):
            return decorator
        decorator.__init__()  # type: ignore[misc]
        return decorator(function)

    def __init__(
        self, full_report: bool = True, precision: int = 1, backend: str = "psutil", redirect_to: str | None = None
    ) -> None:
        del backend  # the interpreter and the kernel tell
        self._full = bool(full_report)
        self._precision = precision
        self._file = redirect_to or os.environ.get("COMPSS_PROFILING_FILE")

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorates `function`."""

        @functools.wraps(function)
        def profiled(*args: Any, **kwargs: Any) -> Any:
            nested = tracemalloc.is_tracing()
            if self._full and not nested:
                tracemalloc.start()
            begin, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
                peak = tracemalloc.get_traced_memory()[1] if self._full else None
                if self._full and not nested:
                    tracemalloc.stop()
                self._report(f"{function.__module__}.{function.__qualname__}", seconds, cpu, peak)

        return profiled

    def _report(self, name: str, seconds: float, cpu: float, peak: int | None) -> None:
        process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        line = f"{name}: {seconds:.6f} s, {cpu:.6f} s of processor, process peak {process:.{self._precision}f} MiB"
        if peak is not None:
            line += f", allocated at most {peak / (1 << 20):.{self._precision}f} MiB"
        if self._file is None:
            print(line)
            sys.stdout.flush()
        else:
            with open(self._file, "a") as file:
                file.write(line + "\n")


PROFILE = Profile = profile
