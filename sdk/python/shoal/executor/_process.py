"""What an executor does to its own process: die with its parent, keep its standard streams whole."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(expected_parent: int | None = None) -> None:
    """SIGKILL for this process when its parent ends, also if that happened just now."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if expected_parent is not None and os.getppid() != expected_parent:
        os._exit(1)


class StandardStreams:
    """stdout and stderr of this process: flushed after every attempt, and put back when a task breaks them."""

    def __init__(self) -> None:
        self._saved = (os.dup(1), os.dup(2))
        self._open()

    def _open(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, ValueError):
                stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
        self._objects = (sys.stdout, sys.stderr)

    def settle(self) -> str | None:
        """Flushes; the description of the damage when a task closed a stream, which is then open again."""
        out, err = self._objects
        sys.stdout, sys.stderr = out, err  # a task may have redirected them and not put them back
        try:
            out.flush()
            err.flush()
        except (ValueError, OSError, AttributeError) as error:
            self._restore()
            return f"the task closed its standard output or standard error ({error})"
        return None

    def _restore(self) -> None:
        for number, saved in enumerate(self._saved, start=1):
            os.dup2(saved, number)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
        self._open()
