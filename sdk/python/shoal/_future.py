"""Future: the handle of a task's result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shoal._session import Session


class Future:
    """A value that a task will produce.

    Pass it to other tasks, also inside lists, dicts or attributes of objects; turn it into the value with
    `wait_on(future)` or `future.result()`. When the last handle to it goes, its value is freed.
    """

    __slots__ = ("__weakref__", "_datum", "_final", "_session", "_type", "_value")

    def __init__(self, session: Session, datum: int, type_hint: Any = None) -> None:
        self._session = session
        self._datum = datum
        self._type = type_hint
        self._final = False  # `_value` is the newest version
        self._value: Any = None

    def result(self) -> Any:
        """Waits for the value; raises what its task raised."""
        return self._value if self._final else self._session.wait_on_future(self)

    def __del__(self) -> None:
        session = getattr(self, "_session", None)
        if session is not None:
            session.released.append(self._datum)

    def __getattr__(self, name: str) -> Any:
        # A future of a class whose methods are tasks can have those called on it.
        if not name.startswith("_") and isinstance(self._type, type):
            from shoal._task import Task

            method = getattr(self._type, name, None)
            if isinstance(method, Task):
                return method.__get__(self, self._type)
        raise AttributeError(
            f"a future has no attribute {name!r}: its value is not here yet. Call wait_on() on it first, or pass it to a task"
        )

    def __repr__(self) -> str:
        return f"<Future {self._datum}{' ready' if self._final else ''}>"

    def __reduce__(self) -> Any:
        raise TypeError("a future cannot be pickled: pass it to a task as an argument, or call wait_on() on it first")

    def __bool__(self) -> bool:
        raise TypeError("a future has no truth value before wait_on()")

    def __iter__(self) -> Any:
        raise TypeError("a future cannot be iterated over before wait_on()")
