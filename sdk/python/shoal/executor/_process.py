"""What an executor does to its own process: die with its parent, keep its standard streams whole."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import signal
import sys
from _signal import getsignal  # the one of `signal` makes enums of it, at ten times the cost
from typing import Any

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

    def settle(self, *, thorough: bool) -> str | None:
        """Flushes; the description of the damage when a task closed a stream, which is then open again.

        `thorough` also finds descriptors that lead elsewhere; it costs some microseconds.
        """
        out, err = self._objects
        sys.stdout, sys.stderr = out, err  # a task may have redirected them and not put them back
        try:
            out.flush()
            err.flush()
            os.get_inheritable(1)  # the cheapest question that a closed descriptor does not answer
            os.get_inheritable(2)
        except (ValueError, OSError, AttributeError) as error:
            self._restore()
            return f"the task closed its standard output or standard error ({error})"
        if thorough and any(_file_of(number) != _file_of(saved) for number, saved in enumerate(self._saved, start=1)):
            self._restore()
        return None

    def _restore(self) -> None:
        for number, saved in enumerate(self._saved, start=1):
            os.dup2(saved, number)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
        self._open()


def _file_of(descriptor: int) -> tuple[int, int]:
    facts = os.fstat(descriptor)
    return facts.st_dev, facts.st_ino


class Signals:
    """The signal handlers of this process, put back when a task leaves its own behind."""

    def __init__(self, handlers: dict[signal.Signals, Any]) -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        self.handlers = [(int(number), getsignal(number)) for number in handlers]

    def settle(self) -> None:
        """Puts back what the task changed; an alarm that it set goes with its handler."""
        for number, handler in self.handlers:
            if getsignal(number) is not handler:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(number, handler)
