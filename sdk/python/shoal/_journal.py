"""What a program that runs again finds of its former run: values of once(), and how it asks for a checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from shoal import _runtime, _serialize
from shoal.errors import ShoalError

_BYTES_MAX = 256 << 10


class Journal:
    """The once() values of one session, by the order of their calls."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._number = 0
        self._known: dict[int, tuple[str, bytes]] | None = None
        self._journalled = False

    def value(self, name: str, make: Callable[[], Any], *, wait: bool = True) -> Any:
        """What the call of this number gave in the former run, else what `make` gives now.

        With `wait` the value is on its way into the journal of whoever goes on with the program before this returns.
        """
        with self._lock:
            if self._known is None:
                self._ask()
            self._number += 1
            number = self._number
            former = self._known.pop(number, None) if self._known else None
        if former is not None:
            if former[0] != name:
                raise ShoalError(
                    f"the program does not do again what it did: its call {number} of once() was of {former[0]} then and is of "
                    f"{name} now; give a changed program a checkpoint folder of its own"
                )
            return _serialize.loads(former[1])
        value = make()
        if self._journalled:
            self._keep(number, name, value, wait)
        return value

    def _ask(self) -> None:
        answer = self._session.request("app.journal", {}) or {}
        self._journalled = bool(answer.get("journalled"))
        self._known = {entry["number"]: (entry["name"], entry["value"]) for entry in answer.get("once", [])}

    def _keep(self, number: int, name: str, value: Any, wait: bool) -> None:
        packed = _serialize.dumps(value)
        if packed.size > _BYTES_MAX:
            raise ShoalError(
                f"once({name}) gave {packed.size} bytes, and at most {_BYTES_MAX} are kept: let a task make large values"
            )
        params = {"number": number, "name": name, "value": packed.join()}
        if wait:
            self._session.request("app.once", params)
        else:
            self._session.tell("app.once", params)


def journal_of(session: Any) -> Journal:
    """The journal of a session."""
    with session.lock:
        if session.journal is None:
            session.journal = Journal(session)
        return session.journal


def once(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Calls `function`, for what is not the same in every run: time, random numbers, what a user types.

    A program is run again, with the results that its tasks had, when its master is lost or when it has a checkpoint; then
    the call gives what it gave the first time. Inside of a task, and without an agent, it is a plain call. The value must
    be picklable, and not larger than 256 KiB.
    """
    session = _runtime.attach() if _runtime.attempt is None else None
    if session is None:
        return function(*args, **kwargs)
    name = f"{getattr(function, '__module__', None) or '?'}.{getattr(function, '__qualname__', None) or repr(function)}"
    return journal_of(session).value(name, lambda: function(*args, **kwargs))


def snapshot() -> bool:
    """Writes what has finished to the checkpoint, and waits until it is there. False without a checkpoint."""
    session = _runtime.attach() if _runtime.attempt is None else None
    if session is None:
        return False
    return bool((session.request("app.snapshot", {}) or {}).get("saved"))
