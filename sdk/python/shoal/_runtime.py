"""Which session a call belongs to: the main program's, that of the attempt being run, or none (sequential)."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from shoal._flusher import flusher
from shoal._session import Session
from shoal.errors import ShoalError

if TYPE_CHECKING:
    from shoal._local import LocalAgent

# The session of the main program; in an executor, of the running attempt once it needed one. None: not connected (yet).
current: Session | None = None

# False once it is clear that there is no agent to talk to: tasks run inline.
_may_attach = True
# In an executor: opens the session of the running attempt (None between attempts).
attempt_session: Any = None
# In an executor: the running attempt, as the agent sent it.
attempt: list | None = None
_lock = threading.RLock()
_local: LocalAgent | None = None
_failed = False  # the main program ended with an exception
_orphan = False  # forked by a program or a task that was connected


def attempt_writer() -> str | None:
    """In an executor: "<app hex>/<task>" of the running attempt, its name as a writer of streams."""
    return None if attempt is None else f"{attempt[1].hex()}/{attempt[2]}"


def attach() -> Session | None:
    """The current session, connecting first if the environment names an agent; None to run sequentially."""
    global current, _may_attach
    if current is not None:
        return current
    if attempt_session is not None:
        return attempt_session()
    if not _may_attach or sys.is_finalizing():
        return None
    with _lock:
        if current is None:
            path = os.environ.get("SHOAL_SOCKET")
            if not path:
                _may_attach = False
                return None
            app = os.environ.get("SHOAL_APP")
            connect(path, app=app)
    return current


def connect(socket: str | None = None, *, app: str | None = None, name: str | None = None) -> Session:
    """Connects this program to the agent at `socket` (default: `SHOAL_SOCKET`); its tasks go there from now on."""
    global current
    path = socket or os.environ.get("SHOAL_SOCKET")
    if not path:
        raise ShoalError("no agent given: pass connect(socket) or set SHOAL_SOCKET; `shoal up` prints the path")
    with _lock:
        if current is not None and not current.closed:
            raise ShoalError("this program is connected already; call disconnect() first")
        try:
            app_id = bytes.fromhex(app) if app else None
        except ValueError:
            raise ShoalError(f"SHOAL_APP={app!r} is not an application id (32 hexadecimal digits)") from None
        current = Session(path, app=app_id, name=name or _program_name())
        return current


def disconnect() -> None:
    """Waits for all tasks, brings written files home and closes the session. Raises the first unseen failure."""
    global current
    session, current = current, None
    if session is not None:
        session.finish()


def session() -> Session | None:
    """The session that task calls use now; None when they run sequentially."""
    return attach()


def requester() -> Session | LocalAgent:
    """Who answers store and stream requests: the agent, or an in-memory stand-in without one."""
    global _local
    found = attach()
    if found is not None:
        return found
    if _orphan:
        raise ShoalError(
            "this process was forked by a program or task that is connected to an agent, and has no connection of its own: "
            "use streams and the store where they are connected, or call shoal.connect() here first"
        )
    with _lock:
        if _local is None:
            from shoal._local import LocalAgent

            _local = LocalAgent()
        return _local


def note_failure() -> None:
    """The main program failed: at exit, do not wait for its tasks."""
    global _failed
    _failed = True


def _program_name() -> str:
    return os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "python"


def _at_exit() -> None:
    """End of a main program that `python -m shoal` did not start."""
    if current is None or attempt_session is not None:
        return
    if _failed:
        current.close()
        return
    try:
        disconnect()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # the only way to an exit code from here


def _watch_main_program() -> None:
    previous = sys.excepthook

    def hook(kind: Any, error: Any, trace: Any) -> None:
        note_failure()
        previous(kind, error, trace)

    sys.excepthook = hook


def _after_fork_in_child() -> None:
    """A forked child is neither the driver nor the attempt: its task calls run inline."""
    global current, attempt_session, attempt, _may_attach, _orphan
    if current is not None or attempt is not None:
        _orphan = True
        _may_attach = False
    if current is not None:
        current.abandon()
    current = attempt_session = attempt = None
    flusher.forget_thread()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
_watch_main_program()
