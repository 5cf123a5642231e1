"""One call of a task: its arguments become a call record and accesses (docs/client-protocol.md §4 and §6)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from shoal import _codec, _serialize
from shoal._future import Future
from shoal._protocol import WRITING, AccessKind, Direction
from shoal.errors import ShoalError, text_of
from shoal.parameter import TYPE, Parameter

if TYPE_CHECKING:
    from shoal._session import Session

# Never tracked by identity: a task cannot write them in place.
_IMMUTABLE = (int, float, str, bytes, bool, complex, type(None))

# How the executor finds what a written parameter holds after the call: ("object" | "leaves" | "stream", key, first access,
# shape). The shape of a collection has None for a leaf and a list or dict for what lies between.
Write = tuple[str, Any, int, Any]

_CONTAINERS = (list, tuple, dict)


def shape_of(value: Any, depth: int, is_leaf: Callable[[Any], bool]) -> Any:
    """The shape of a collection of that depth; containers for which `is_leaf` are leaves at any depth.

    Depth 0 has no bound: lists are followed in lists, and dicts in dicts.
    """
    inner = _CONTAINERS if depth else (dict,) if isinstance(value, dict) else (list, tuple)

    def below(item: Any) -> Any:
        return shape_of(item, max(0, depth - 1), is_leaf) if depth != 1 and isinstance(item, inner) else None

    if isinstance(value, _CONTAINERS) and is_leaf(value):
        return None
    if isinstance(value, dict):
        return {key: below(item) for key, item in value.items()}
    return [below(item) for item in value]


def leaves_of(value: Any, shape: Any) -> Iterator[Any]:
    """The leaves of `value`, depth first. ValueError when it no longer has that shape."""
    if len(value) != len(shape):
        raise ValueError(
            f"the task changed the number of elements of a written collection from {len(shape)} to {len(value)}; "
            "collections have a fixed length"
        )
    for key, inner in shape.items() if isinstance(shape, dict) else enumerate(shape):
        if inner is None:
            yield value[key]
        else:
            yield from leaves_of(value[key], inner)


def mapped(value: Any, shape: Any, visit: Callable[[Any], Any]) -> Any:
    """A copy of `value` with `visit` applied to its leaves, in the order of leaves_of."""
    if isinstance(shape, dict):
        return {k: visit(value[k]) if inner is None else mapped(value[k], inner, visit) for k, inner in shape.items()}
    items = [visit(item) if inner is None else mapped(item, inner, visit) for item, inner in zip(value, shape)]
    return tuple(items) if isinstance(value, tuple) else items


class CallBuilder:
    """Gathers the accesses of one call. Used once, by one thread, under the session's lock."""

    def __init__(self, session: Session, function: str) -> None:
        self.session = session
        self.function = function
        self.accesses: list[bytes] = []  # without the call record, which goes first
        self.writes: list[Write] = []
        self.streams = False
        self.has_record = True
        self.to_release: list[Any] = []
        self.stream_outputs: list[Any] = []
        self._index_of: dict[tuple[int, int], int] = {}

    # Index of the next access among the arguments of the attempt; the call record is argument 0.
    def _next(self) -> int:
        return len(self.accesses) + (1 if self.has_record else 0)

    def _add(self, packed: bytes) -> int:
        index = self._next()
        self.accesses.append(packed)
        return index

    def _datum(self, datum: int, direction: int, name: str = "") -> int:
        if direction == Direction.IN:
            known = self._index_of.get((AccessKind.DATUM, datum))
            if known is not None:
                return known
            if not name:  # thousands of them in a list that is reduced
                index = self._index_of[(AccessKind.DATUM, datum)] = self._add(_codec.datum_access(datum))
                return index
        index = self._add(_codec.access(direction, AccessKind.DATUM, datum=datum, name=name))
        if direction == Direction.IN:
            self._index_of[(AccessKind.DATUM, datum)] = index
        return index

    def substitute(self, obj: Any) -> int | None:
        """Index of the access that carries `obj` (read only), or None for an object that is pickled as it is."""
        if type(obj) is Future:
            self._check_future(obj)
            return self._datum(obj._datum, Direction.IN)
        entry = self.session.tracked(obj)
        if entry is not None:
            return self._datum(entry.datum, Direction.IN)
        if getattr(type(obj), "__shoal_stored__", False) and obj.__shoal_object__ is not None:
            return self._add(_codec.access(Direction.IN, AccessKind.OBJECT, value=[4, [obj.__shoal_object__]]))
        return None

    def named_future(self, name: str, future: Future) -> None:
        """Adds a future as the parameter `name`: for commands, which find their parameters by name."""
        self._check_future(future)
        self._add(_codec.access(Direction.IN, AccessKind.DATUM, datum=future._datum, name=name))

    def named_literal(self, name: str, value: Any) -> None:
        """Adds an untracked value as the parameter `name`: for commands."""
        packed = _serialize.store_value(value, self.session.arena, self.session.inline_max)
        self._add(_codec.access(Direction.IN, AccessKind.LITERAL, value=packed, name=name))

    def _check_future(self, future: Future) -> None:
        if future._session is not self.session:
            raise ValueError(
                f"an argument of task {self.function} is a future of another application or of one that has ended; "
                "call wait_on() on it where it was made, and pass the value"
            )

    def argument(self, key: Any, name: str, value: Any, parameter: Parameter) -> Any:
        """What stands for `value` in the call record; adds the accesses it needs."""
        content = parameter.content
        if content is TYPE.OBJECT:
            return self._object(key, name, value, parameter.direction)
        if content in (TYPE.FILE, TYPE.DIRECTORY):
            return value if value is None else _serialize.Slot(self.path(name, value, parameter))
        if content is TYPE.STREAM:
            return self._stream(key, name, value, parameter)
        if content is TYPE.COLLECTION_FILE:
            return self._files(name, value, parameter)
        return self._collection(key, name, value, parameter)

    def _object(self, key: Any, name: str, value: Any, direction: Direction) -> Any:
        kind = type(value)
        if direction in WRITING and not (isinstance(value, _IMMUTABLE) and kind is not Future):
            index = self._written(value, direction, name)
            self.writes.append(("object", key, index, None))
            if direction is Direction.OUT:
                return _out_slot(value)
            return _serialize.Slot(index)
        if kind in _serialize.PLAIN_TYPES:
            return value
        found = self.substitute(value)
        if found is None:
            return value
        if direction is Direction.IN_DELETE:
            self.to_release.append(value)
        return _serialize.Slot(found)

    def _written(self, value: Any, direction: Direction, name: str) -> int:
        if type(value) is Future:
            self._check_future(value)
            value._final, value._value = False, None
            return self._datum(value._datum, direction, name)
        try:
            entry = self.session.track(value, put=direction is not Direction.OUT)
        except (MemoryError, ShoalError):
            raise
        except Exception as error:
            raise cannot_send(self.function, self.session.tasks + 1, name, value, error) from error
        return self._datum(entry.datum, direction, name)

    def path(self, name: str, value: Any, parameter: Parameter) -> int:
        """Adds the access of a file or directory; its index."""
        try:
            path = os.path.abspath(os.fspath(value))
        except TypeError:
            raise TypeError(
                f"parameter {name!r} of task {self.function} is a {parameter.content.value}: pass its path as str, "
                f"not {type(value).__name__}"
            ) from None
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        self.session.file_accessed(path, written=parameter.direction in WRITING, directory=parameter.content is TYPE.DIRECTORY)
        return self._add(_codec.access(parameter.direction, parameter.access_kind, path=path, name=name))

    def _files(self, name: str, value: Any, parameter: Parameter) -> Any:
        one = Parameter(TYPE.FILE, parameter.direction)

        def convert(item: Any) -> Any:
            if isinstance(item, (list, tuple)):
                return [convert(inner) for inner in item]
            return _serialize.Slot(self.path(name, item, one))

        return convert(value)

    def _stream(self, key: Any, name: str, value: Any, parameter: Parameter) -> Any:
        stream = getattr(value, "__shoal_stream__", None)
        if not isinstance(stream, str):
            raise TypeError(
                f"parameter {name!r} of task {self.function} is a stream: pass an ObjectStream or FileStream, "
                f"not {type(value).__name__}"
            )
        self.streams = True
        index = self._add(_codec.access(parameter.direction, AccessKind.STREAM, path=stream, name=name))
        if parameter.direction in WRITING:
            self.stream_outputs.append(value)
            self.writes.append(("stream", key, index, None))
        return value

    def _collection(self, key: Any, name: str, value: Any, parameter: Parameter) -> Any:
        direction = parameter.direction
        if type(value) is Future or self.session.tracked(value) is not None:
            return self._object(key, name, value, direction)
        if direction not in WRITING and not isinstance(value, _CONTAINERS) and isinstance(value, Iterable):
            return self._object(key, name, value, direction)  # an array, a set: read as a whole
        if not isinstance(value, _CONTAINERS):
            raise TypeError(
                f"parameter {name!r} of task {self.function} is a {parameter.content.value}: pass a list, tuple or dict, "
                f"not {type(value).__name__}"
            )
        if direction not in WRITING:
            return self._read_collection(name, value, parameter.depth, direction)
        first = self._next()
        shape = self._shape(name, value, parameter.depth)
        self._replace_untrackable(value, shape, name, direction)
        for leaf in leaves_of(value, shape):
            self._written(leaf, direction, name)
        self.writes.append(("leaves", key, first, shape))
        numbers = iter(range(first, self._next()))

        def stand_in(leaf: Any) -> Any:
            index = next(numbers)
            return _out_element(leaf) if direction is Direction.OUT else _serialize.Slot(index)

        return mapped(value, shape, stand_in)

    def _shape(self, name: str, value: Any, depth: int) -> Any:
        try:
            return shape_of(value, depth, self._is_datum)
        except RecursionError:
            raise TypeError(
                f"parameter {name!r} of task {self.function} is a collection that holds itself, or is nested too deeply; "
                "say with Depth how deep its elements lie"
            ) from None

    def _is_datum(self, value: Any) -> bool:
        return type(value) is Future or self.session.tracked(value) is not None

    def _replace_untrackable(self, value: Any, shape: Any, name: str, direction: Direction) -> None:
        """Numbers and strings cannot be told from their equals by identity: futures take their places."""
        for key, inner in shape.items() if isinstance(shape, dict) else enumerate(shape):
            leaf = value[key]
            if inner is not None:
                self._replace_untrackable(leaf, inner, name, direction)
            elif isinstance(leaf, _IMMUTABLE):
                if isinstance(value, tuple):
                    raise TypeError(
                        f"parameter {name!r} of task {self.function}: elements that a task writes must be objects of "
                        f"their own, or lie in a list or dict; here a tuple holds {leaf!r}"
                    )
                future = self.session.new_future()
                if direction is not Direction.OUT:
                    self.session.put_data(future._datum, leaf)
                value[key] = future

    def _read_collection(self, name: str, value: Any, depth: int, direction: Direction) -> Any:
        """Like the pickler's own substitution, but also for tracked lists and dicts among the leaves."""
        if direction is Direction.IN and not self.session.tracks_any:
            return value  # futures at any depth are found by the pickler

        def visit(leaf: Any) -> Any:
            index = None if isinstance(leaf, _IMMUTABLE) else self.substitute(leaf)
            if index is None:
                return leaf
            if direction is Direction.IN_DELETE:
                self.to_release.append(leaf)
            return _serialize.Slot(index)

        return mapped(value, self._shape(name, value, depth), visit)

    def record(self, args: list, kwargs: dict, names: Callable[[], list[str]]) -> bytes:
        """The packed access of the call record. TypeError naming the argument that cannot be pickled."""
        session = self.session
        try:
            blob = _serialize.dumps((args, kwargs, self.writes), self.substitute)
        except MemoryError:
            raise
        except Exception as error:
            raise self._culprit(args, kwargs, names(), error) from None
        if blob.size <= session.inline_max:
            return _codec.record_access(blob.join())
        value = _serialize.store_blob(blob, session.arena, session.inline_max)
        return _codec.access(Direction.IN, AccessKind.LITERAL, value=value, name="*")

    def _culprit(self, args: list, kwargs: dict, names: list[str], failure: Exception) -> TypeError:
        for name, value in [*zip([*names, *(f"*{i}" for i in range(len(args)))], args), *kwargs.items()]:
            try:
                _serialize.dumps(value, self.substitute)
            except Exception as error:
                found = cannot_send(self.function, self.session.tasks + 1, name, value, error)
                found.__cause__ = error
                return found
        found = TypeError(f"the arguments of task {self.function} cannot be pickled together ({text_of(failure)})")
        found.__cause__ = failure
        return found


def cannot_send(function: str, task: int, name: str, value: Any, error: Exception) -> TypeError:
    """The error for an argument that cannot be pickled; `task` is the number that the call would have got."""
    return TypeError(
        f"argument {name!r} of task {function} cannot be sent to an executor: a {type(value).__qualname__} that cannot be "
        f"pickled ({text_of(error)}). Pass plain data, or what the task needs to make the object itself. "
        f"Task {task} was not submitted"
    )


def _out_element(value: Any) -> Any:
    """An element of a written collection: a list among them keeps its shape, with new objects in it."""
    return [_out_element(item) for item in value] if type(value) is list else _out_slot(value)


def _out_slot(value: Any) -> _serialize.OutSlot:
    """How the executor makes an OUT object: with the shape and type of an array, else without arguments."""
    kind = type(value)
    if kind is Future:
        declared = value._type
        return _serialize.OutSlot(declared if isinstance(declared, type) else object, ())
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        import numpy

        return _serialize.OutSlot(numpy.empty, (value.shape, value.dtype))
    return _serialize.OutSlot(kind, ())
