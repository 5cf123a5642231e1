"""What a main program says about the results of its tasks: wait, synchronise, group, delete."""

from __future__ import annotations

import copy
import os
import sys
from types import TracebackType
from typing import IO, Any

from shoal import _runtime
from shoal._future import Future
from shoal._protocol import Kind
from shoal._session import Session, remove_path

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class statement made it


class _Cancelled:
    """Stands for the value of a datum whose task was cancelled."""


CANCELLED = _Cancelled()


def wait_on(*values: Any, mode: str = "rw", cancelled_is_none: bool = False) -> Any:
    """Waits for futures and for objects that tasks write, inside lists, tuples and dicts too.

    Returns what it was given with values in place of futures (several arguments: a list). An object that tasks wrote is
    brought up to date in place where its type allows (lists, dicts, sets, arrays, plain objects) and returned. Raises
    the exception of a task that failed. `mode="r"` promises not to change the values: tasks go on using theirs. With
    `cancelled_is_none` results of cancelled tasks are None, and objects that they would have written stay as they are.
    """
    if mode not in ("r", "rw"):
        raise ValueError(f"mode={mode!r}: it is 'r' or 'rw'")
    session = _runtime.attach()
    if session is not None:
        if len(values) == 1 and type(values[0]) is Future and values[0]._session is session and not cancelled_is_none:
            return values[0].result()
        values = tuple(_Wait(session, mode, CANCELLED if cancelled_is_none else None).resolve(values))
    return values[0] if len(values) == 1 else list(values)


class _Wait:
    """One wait_on: collects what is not here, waits for all of it at once, puts the values in place."""

    def __init__(self, session: Session, mode: str, cancelled: Any = None) -> None:
        self._session = session
        self._cancelled = cancelled
        self._mode = mode
        self._wanted: dict[int, Any] = {}  # datum → future or tracked object
        self._values: dict[int, Any] = {}  # id of that → its value
        self._seen: dict[int, Any] = {}  # containers on the way: one may hold itself
        self._made: dict[int, Any] = {}  # id of a container → what it is with values in place

    def resolve(self, values: tuple) -> list[Any]:
        for value in values:
            self._collect(value)
        if self._wanted:
            fresh = self._session.wait_on_data(list(self._wanted), self._cancelled)
            for handle, value in zip(self._wanted.values(), fresh):
                self._values[id(handle)] = self._settle(handle, value)
        return [self._filled(value) for value in values]

    def _collect(self, value: Any) -> None:
        if type(value) is Future:
            if not value._final:
                if value._session is not self._session:
                    raise ValueError("this future belongs to another application, or to one that has ended")
                self._wanted[value._datum] = value
            return
        entry = self._session.tracked(value)
        if entry is not None:
            self._wanted[entry.datum] = value
        elif isinstance(value, (list, tuple, dict)) and id(value) not in self._seen:
            self._seen[id(value)] = value
            for item in value.values() if isinstance(value, dict) else value:
                self._collect(item)

    def _settle(self, handle: Any, fresh: Any) -> Any:
        if fresh is CANCELLED:
            return None if type(handle) is Future else handle
        if type(handle) is Future:
            handle._value, handle._final = fresh, True
            return fresh
        if self._mode == "r":
            return fresh
        self._session.untrack(handle)
        return handle if _refresh(handle, fresh) else fresh

    def _filled(self, value: Any) -> Any:
        if type(value) is Future and value._final:
            return value._value
        if id(value) in self._values:
            return self._values[id(value)]
        if isinstance(value, (list, tuple, dict)):
            if id(value) not in self._made:
                self._made[id(value)] = value  # what a container that holds itself finds on the way
                self._made[id(value)] = self._filled_container(value)
            return self._made[id(value)]
        return value

    def _filled_container(self, value: Any) -> Any:
        """The container itself when there is nothing to put in place, else one of the same type."""
        if isinstance(value, dict):
            items = {key: self._filled(item) for key, item in value.items()}
            if all(items[key] is value[key] for key in value):
                return value
            new = copy.copy(value)
            new.update(items)
            return new
        filled = [self._filled(item) for item in value]
        if all(a is b for a, b in zip(filled, value)):
            return value
        if isinstance(value, list):
            return filled
        return type(value)(*filled) if hasattr(value, "_fields") else tuple(filled)


def _refresh(old: Any, new: Any) -> bool:
    """Gives `old` the contents of `new`; False if its type does not allow that."""
    kind = type(old)
    if kind is not type(new):
        return False
    if kind in (list, bytearray):
        old[:] = new
    elif kind in (dict, set):
        old.clear()
        old.update(new)
    elif kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        if old.shape != new.shape or old.dtype != new.dtype or not old.flags.writeable:
            return False
        old[...] = new
    elif _state_is_dict(kind):
        old.__dict__.clear()
        old.__dict__.update(new.__dict__)
    else:
        return False
    return True


def _state_is_dict(kind: type) -> bool:
    """True for classes written in Python whose whole state is their __dict__."""
    bases = kind.__mro__[:-1]
    own = {name for base in bases for name in base.__dict__}
    customised = {"__slots__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__"}
    return bool(bases) and all(base.__flags__ & _HEAP_TYPE for base in bases) and not own & customised


def share(value: Any) -> Any:
    """Hands `value` to the task flow once, for any number of tasks: a future of it, as good as a task's result.

    An argument that is no future is copied into shared memory by every call. What the program changes in `value` later is
    not seen by tasks. Without an agent it is `value` itself. MemoryError when shared memory is full.
    """
    session = _runtime.attach()
    if session is None:
        return value
    future = session.new_future()
    session.put_data(future._datum, value)
    return future


def wait_on_file(*paths: Any) -> Any:
    """Waits for the last version of files (nested lists allowed) and brings them to the given paths. Returns `paths`."""
    session = _runtime.attach()
    if session is not None:
        session.wait_on_files(_flat_paths(paths))
    return paths[0] if len(paths) == 1 else list(paths)


wait_on_directory = wait_on_file


def _flat_paths(paths: Any) -> list[str]:
    flat: list[str] = []
    for path in paths:
        if isinstance(path, (list, tuple)):
            flat += _flat_paths(path)
        else:
            flat.append(os.fspath(path))
    return flat


def open_file(path: Any, mode: str = "r") -> IO[Any]:
    """Waits for the last version of a file, then opens it. What the program writes is what later tasks see."""
    wait_on_file(path)
    return open(path, mode)


def barrier(no_more_tasks: bool = False) -> None:
    """Waits for all tasks. Raises the first failure that nobody has seen yet."""
    session = _runtime.attach()
    if session is not None:
        session.barrier("", no_more_tasks)


def barrier_group(name: str) -> None:
    """Waits for the tasks of a group. Raises COMPSsException if one of them did."""
    session = _runtime.attach()
    if session is not None:
        session.barrier(name)


def number_of_resources() -> int:
    """Agents that may run this program's tasks, as far as the one it talks to knows; 1 without an agent."""
    session = _runtime.attach()
    if session is None:
        return 1
    answer = session.request("agent.agents", {})
    able = [row for row in answer.get("agents", []) if row.get("computing_units") != 0 and not row.get("excluded")]
    return max(1, len(able))


def request_agents(count: int, group: str | None = None) -> int:
    """Asks for `count` more agents; returns how many are being made, without waiting for them.

    Who makes them is a matter of the agent's settings (elastic_max, elastic_command); none are made unless those say so, which
    is told once on standard error. When all are there, or none more will be, the task group `group` is cancelled: its tasks
    can be submitted anew to more agents. The agents end with the program.
    """
    return _elastic("elastic.grow", count, group)


def free_agents(count: int, group: str | None = None) -> int:
    """Ends up to `count` of the agents that this program asked for, the youngest first; returns how many.

    They get no more tasks and end once those they have are finished; then the task group `group` is cancelled.
    """
    return _elastic("elastic.shrink", count, group)


_said: set[str] = set()


def _elastic(method: str, count: int, group: str | None) -> int:
    if isinstance(count, bool) or int(count) != count or count < 0:
        raise ValueError(f"the number of agents is a whole number that is not negative, not {count!r}")
    session = _runtime.attach()
    if session is None:
        return 0
    session.flush()  # the group must be known before it can be cancelled
    answer = session.request(method, {"count": int(count), "group": group or ""})
    granted, most = int(answer["granted"]), int(answer["max"])
    if method == "elastic.grow" and granted < count:
        why = "this agent makes none: set elastic_max" if most == 0 else f"this agent has at most {most}: see elastic_max"
        if why not in _said:
            _said.add(why)
            print(f"shoal: {count} more agents were asked for, {granted} are made; {why}", file=sys.stderr)
    return granted


def cancel_group(name: str) -> None:
    """Cancels the tasks of a group that are not finished."""
    session = _runtime.attach()
    if session is not None:
        session.group_message(Kind.CANCEL_GROUP, name)


class TaskGroup:
    """`with TaskGroup("name"):` the tasks called inside belong to the group. Groups nest.

    With `implicit_barrier` the end of the block waits for them, and raises the COMPSsException that one of them raised.
    """

    def __init__(self, name: str, implicit_barrier: bool = True) -> None:
        self.name = name
        self.implicit_barrier = implicit_barrier
        self._session: Session | None = None

    def __enter__(self) -> TaskGroup:
        self._session = _runtime.attach()
        if self._session is not None:
            self._session.group_message(Kind.OPEN_GROUP, self.name)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        session.group_message(Kind.CLOSE_GROUP, self.name)
        if self.implicit_barrier and kind is None:
            session.barrier(self.name)


def delete_object(*objects: Any) -> Any:
    """Tells that the program will not use objects or futures again; freed after their last reader. True if known."""
    session = _runtime.current  # without one, no task knows the objects; destructors call this when all is over
    known = [False if session is None or session.closed else _delete_one(session, obj) for obj in objects]
    return known[0] if len(known) == 1 else known


def _delete_one(session: Session, obj: Any) -> bool:
    if type(obj) is Future:
        return True  # its destructor releases it; an explicit release now would come twice
    if isinstance(obj, (list, tuple)) and session.tracked(obj) is None:
        return sum(_delete_one(session, item) for item in obj) > 0  # all of them, not only up to the first
    return session.untrack(obj)


def delete_file(*paths: Any) -> Any:
    """Deletes files that tasks and program no longer need, once nobody reads them. True for those that were there.

    Lists and tuples of paths are answered by lists and tuples.
    """
    session = _runtime.attach()

    def delete(path: Any) -> bool:
        if session is not None:
            return session.delete_file(os.fspath(path))
        known = os.path.lexists(path)
        remove_path(os.fspath(path))
        return known

    known = [_each_path(path, delete) for path in paths]
    return known[0] if len(known) == 1 else known


def file_exists(*paths: Any) -> Any:
    """True for files on disk and for those that a task is going to write. Lists are answered by lists."""
    session = _runtime.attach()

    def exists(path: Any) -> bool:
        return os.path.exists(path) if session is None else session.file_exists(os.fspath(path))

    exist = [_each_path(path, exists) for path in paths]
    return exist[0] if len(exist) == 1 else exist


def _each_path(path: Any, visit: Any) -> Any:
    if isinstance(path, (list, tuple)):
        return type(path)(_each_path(item, visit) for item in path)
    return visit(path)
