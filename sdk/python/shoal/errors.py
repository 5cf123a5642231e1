"""What can go wrong, as exceptions. An exception that a task raised arrives as itself, not wrapped in one of these."""

from __future__ import annotations

import pickle
import re
from typing import Any

import msgpack

from shoal._protocol import Code

# What travels of an exception: a task must not be able to make a report that no frame holds.
_TEXT_MAX = 64 << 10
_TRACE_MAX = 256 << 10
_PICKLED_MAX = 1 << 20

# How messages of the agent name a task: "task 7 (program.function) failed on agent 2c98f299: …".
_TASK_NUMBER = re.compile(r"\btask (\d+) \(")


class ShoalError(Exception):
    """Base of everything Shoal itself raises."""


class AgentConnectionError(ShoalError, ConnectionError):
    """There is no agent, or it went away. The message says what to do."""


class TaskFailedError(ShoalError, RuntimeError):
    """A task failed in a way that left no Python exception: a lost process, a command's exit value."""


class TaskCancelledError(ShoalError):
    """The task never finished because it, its group or a task it depends on was cancelled."""


class TaskTimeoutError(ShoalError, TimeoutError):
    """The task ran longer than its `time_out`."""


class NotSupportedError(ShoalError, NotImplementedError):
    """The feature exists in the interface but not (yet) here."""


class RequestError(ShoalError):
    """The agent refused a request; `code` is its reason (shoal._protocol.Code)."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class NotFoundError(RequestError, LookupError):
    """No such object, alias or stream."""


class AlreadyExistsError(RequestError):
    """The name is taken; choose another."""


class COMPSsException(Exception):
    """Raised by a task to cancel the other members of its groups; arrives at the group's barrier."""

    def __init__(self, message: str = "", target_direction: int = -1) -> None:
        super().__init__(message)
        self.message = message
        self.target_direction = target_direction


class RemoteTraceback(Exception):
    """Cause of an exception that came from a task: shows the traceback of the place where the task ran."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return "\n" + self.text


def nearest(name: Any, known: Any) -> str:
    """ " (did you mean 'x'?)" for the known name that looks most like `name`; empty when none does."""
    import difflib

    names = {str(candidate).lower(): str(candidate) for candidate in known}
    found = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.6)
    return f" (did you mean {names[found[0]]!r}?)" if found else ""


_BY_CODE: dict[int, type[RequestError]] = {Code.NOT_FOUND: NotFoundError, Code.EXISTS: AlreadyExistsError}


def request_error(code: int, message: str) -> ShoalError:
    """The exception for a refused request."""
    if code == Code.UNSUPPORTED:
        return NotSupportedError(message)
    return _BY_CODE.get(code, RequestError)(message, code)


def where_output_is(app: bytes, task: int) -> str:
    """The command that prints what a task wrote; for the end of messages about it.

    With the whole id: applications of nested tasks are found by nothing less once they have ended.
    """
    return f"`shoal logs {app.hex()} {task}` shows its output"


def task_error(code: int, message: str, error: bytes, app: bytes = b"") -> BaseException:
    """The exception for a task's failure: the original one with the remote traceback as its cause, if it is known.

    `app` is the application that the task belongs to: an error without a traceback says with it where the output is.
    """
    if error:
        try:
            type_name, text, trace, pickled = msgpack.unpackb(error)[:4]
        except (ValueError, TypeError):
            type_name, text, trace, pickled = "", message, "", b""
        original = _unpickle(pickled)
        if original is None:
            original = TaskFailedError(f"{type_name}: {text}" if type_name else text or message)
        if trace:
            original.__cause__ = RemoteTraceback(trace)
        if code == Code.CANCELLED and isinstance(original, COMPSsException):
            cancelled = TaskCancelledError(message or f"the task was cancelled: a member of its group raised {original}")
            cancelled.__cause__ = original
            return cancelled
        return original
    number = _TASK_NUMBER.search(message)
    if number is not None and app:
        message += f"; {where_output_is(app, int(number.group(1)))}"
    if code == Code.CANCELLED:
        return TaskCancelledError(message or "the task was cancelled")
    if code == Code.TIMEOUT:
        return TaskTimeoutError(message or "the task ran longer than its time_out")
    return TaskFailedError(message or f"the task failed (code {code})")


def text_of(error: BaseException) -> str:
    """The text of an exception, also of one whose own __str__ fails, as UTF-8 can carry it and shortened to some pages."""
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be shown)"
    return _sendable(text, _TEXT_MAX)


def _sendable(text: str, length_max: int) -> str:
    """`text` without what UTF-8 cannot carry; of a long one the begin and the end."""
    text = text.encode("utf-8", "replace").decode()
    if len(text) <= length_max:
        return text
    return f"{text[: length_max // 2]}\n… {len(text) - length_max} characters left out …\n{text[-(length_max // 2) :]}"


def pack_error(error: BaseException, trace: str) -> bytes:
    """The bytes that carry `error` to where the task was called (docs/client-protocol.md §4)."""
    pickled = b""
    try:
        import cloudpickle

        pickled = cloudpickle.dumps(error, protocol=5)
        if len(pickled) <= _PICKLED_MAX:
            pickle.loads(pickled)  # an exception with a demanding constructor pickles, but does not come back
        else:
            pickled = b""
    except Exception:
        pickled = b""
    packed: Any = msgpack.packb([type(error).__qualname__, text_of(error), _sendable(trace, _TRACE_MAX), pickled])
    return packed


def _unpickle(pickled: bytes) -> BaseException | None:
    if not pickled:
        return None
    try:
        value = pickle.loads(pickled)
    except Exception:
        return None  # its class is not importable here; the text and the traceback still are
    return value if isinstance(value, BaseException) else None
