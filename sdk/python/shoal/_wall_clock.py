"""A limit on the run time of the whole program: at the limit its tasks are cancelled and it stops."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from shoal import _runtime
from shoal.errors import NotSupportedError

_GRACE_S = 5.0  # for code that does not return to the interpreter

_limit_s = 0.0
_watch: threading.Timer | None = None


class WallClockExceeded(SystemExit):
    """Raised in the main thread at the limit. Not an Exception: the program is to stop, not to handle it."""

    def __init__(self, message: str) -> None:
        super().__init__(1)
        self.message = message

    def __str__(self) -> str:
        return self.message


def set_wall_clock(seconds: float) -> None:
    """From now on the program may run for `seconds`; 0 takes the limit away.

    At the limit all its tasks are cancelled and it ends with exit code 1. ValueError for a negative limit.
    """
    global _limit_s, _watch
    if _runtime.attempt_session is not None:
        raise NotSupportedError("the wall clock limit is of the main program: a task has its own, @task(time_out=…)")
    limit = float(seconds)
    if limit < 0:
        raise ValueError(f"a wall clock limit cannot be negative: {seconds}")
    if _watch is not None:
        _watch.cancel()
        _watch = None
    _limit_s = limit
    if limit == 0:
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, _on_alarm)
    _watch = threading.Timer(limit, _expired)
    _watch.daemon = True
    _watch.start()


def _expired() -> None:
    """On the timer's thread."""
    global _watch
    _runtime.note_failure()  # at exit: close, do not wait
    _watch = threading.Timer(_GRACE_S, _stop_at_once)
    _watch.daemon = True
    _watch.start()
    main = threading.main_thread().ident
    if signal.getsignal(signal.SIGALRM) is _on_alarm and main is not None:
        signal.pthread_kill(main, signal.SIGALRM)
    else:
        _stop_at_once()


def _on_alarm(*_: Any) -> None:
    print(_message(), file=sys.stderr)
    raise WallClockExceeded(_message())


def _stop_at_once() -> None:
    """The main thread does not react. The agent cancels the tasks of a program that is gone."""
    print(_message(), file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _message() -> str:
    return f"shoal: the wall clock limit of {_limit_s:g} s is over; the tasks are cancelled and the program stops"
