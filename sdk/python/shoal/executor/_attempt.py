"""One attempt: arguments in, the function called, outputs or the exception out. Knows no socket."""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from shoal import _codec, _function, _general, _runtime, _serialize
from shoal._call import leaves_of
from shoal._native import native
from shoal._protocol import NOTHING, PATH_KINDS, RECORD_NAME, RESULT_PREFIX, WRITING, AccessKind, Direction, Outcome
from shoal._serialize import Arena
from shoal.errors import COMPSsException, ShoalError, TaskTimeoutError, pack_error, text_of, where_output_is

# Argument{direction, kind, value, items, name}
_DIRECTION, _KIND, _VALUE, _ITEMS, _NAME = range(5)
_WRITING = frozenset(int(direction) for direction in WRITING)
_ARGUMENTS_MAX = 16  # of a common attempt
_PATHS = frozenset(int(kind) for kind in PATH_KINDS)


class Interrupt(BaseException):
    """Ends the running function from outside: time is up, or it was cancelled."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class LoadedFunction:
    """A function as the agent sent it; unpickled at its first use."""

    __slots__ = (
        "call", "defaults", "environment", "keep", "last_us", "name", "problem", "serializer", "simple", "trace", "writable",
    )  # fmt: skip

    def __init__(self, name: str, payload: bytes) -> None:
        self.name = name
        self.last_us = -1  # not run yet
        self.problem: BaseException | None = None
        self.trace: types.TracebackType | None = None  # of the problem, as it was when the function was loaded
        try:
            self.call, spec = _function.unpack_function(payload)
        except BaseException as error:
            self.call, spec, self.problem, self.trace = _unloadable, {}, error, error.__traceback__
        self.writable = bool(spec.get("writable"))
        self.keep = bool(spec.get("keep"))
        self.defaults: dict[str, Any] = spec.get("defaults", {})
        self.serializer: str = spec.get("serializer", "cloudpickle")  # that its program chose
        # run_simple may run it
        self.simple = not self.keep and self.problem is None and self.serializer == _general.serializer()
        self.environment: dict[str, str] = spec.get("environment", {})  # of the main program, for nested tasks


def _unloadable(*_: Any, **__: Any) -> None:
    raise RuntimeError("the function could not be loaded")


class Attempt:
    """Arguments and results of one attempt."""

    def __init__(self, function: LoadedFunction, arguments: list, arena: Arena, inline_max: int) -> None:
        self._function = function
        self._arguments = arguments
        self._arena = arena
        self._inline_max = inline_max
        self._loaded: dict[int, Any] = {}
        self._args: Any = ()
        self._kwargs: dict[str, Any] = {}
        self._writes: Any = ()
        self._result: Any = None

    # ---- in ----
    def call(self) -> None:
        """Loads the arguments and calls the function."""
        if self._function.problem is not None:
            # Each raise would add its frames, and with them the arguments of every attempt.
            raise self._function.problem.with_traceback(self._function.trace)
        self._load_arguments()
        self._result = _finished(self._function.call(*self._args, **self._kwargs))

    def _load_arguments(self) -> None:
        arguments = self._arguments
        if arguments and arguments[0][_NAME] == RECORD_NAME:
            _serialize.resolve_argument = self._argument
            try:
                record = _serialize.load_value(arguments[0][_VALUE], self._arena, private=self._function.writable)
            finally:
                _serialize.resolve_argument = None
            self._args, self._kwargs, self._writes = record
        else:  # called from another language: all parameters by position
            count = sum(not a[_NAME].startswith(RESULT_PREFIX) for a in arguments)
            self._args = [self._argument(index) for index in range(count)]
            self._writes = [
                ("object", i, i, None)
                for i in range(count)
                if arguments[i][_DIRECTION] in _WRITING and arguments[i][_KIND] == AccessKind.DATUM
            ]

    def _argument(self, index: int) -> Any:
        if index not in self._loaded:
            self._loaded[index] = self._load(self._arguments[index])
        return self._loaded[index]

    def _load(self, argument: list) -> Any:
        direction, kind, value, items = argument[:4]
        if kind in _PATHS:
            return self._path(direction, value, items)
        if kind == AccessKind.COLLECTION:
            return [self._load(item) for item in items]
        private = self._function.writable or direction in _WRITING
        return _serialize.load_value(value, self._arena, private=private)

    def _path(self, direction: int, value: list, items: list) -> str | None:
        source = self._file_of(value)
        if direction in (Direction.IN, Direction.IN_DELETE):
            return source
        if not items:
            if source is not None:
                os.makedirs(os.path.dirname(source) or ".", exist_ok=True)
            return source
        # Copy first: whatever the function does, the version before stays whole.
        target = self._file_of(items[0][_VALUE])
        if target is None:
            return source
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        if source is not None and os.path.exists(source):
            import shutil

            if os.path.isdir(source):
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(source, target)
        return target

    def _file_of(self, value: list) -> str | None:
        if value[0] == 2:
            return os.path.join(self._arena.directory, value[1][0])
        return os.path.abspath(value[1][0]) if value[0] == 3 else None

    # ---- out ----
    def outputs(self) -> list:
        """client::Value of everything written, in order of the arguments, after a call that returned."""
        nested = _runtime.current
        values = self._object_outputs(_runtime_wait_on if nested is not None else _same)
        self._store_results(values)
        if nested is not None:
            nested.settle()  # its tasks' files are home after this
        return self._in_order(values, must_exist=True)

    def kept_outputs(self) -> list:
        """The same after a failure: what the function left behind, and declared defaults."""
        defaults = self._function.defaults
        values: dict[int, list] = {}
        try:
            values = self._object_outputs(_same)
        except BaseException:
            values = {}
        for kind, _, first, _ in self._writes:
            name = self._arguments[first][_NAME]
            if kind == "object" and name in defaults:
                values[first] = self._store(defaults[name])
        for index, argument in enumerate(self._arguments):
            name = argument[_NAME]
            if name.startswith(RESULT_PREFIX):
                values[index] = self._store(_default_result(defaults, int(name[1:])))
            elif argument[_KIND] in _PATHS and name in defaults and argument[_DIRECTION] in _WRITING:
                values[index] = [3, [os.path.abspath(defaults[name])]]
        return self._in_order(values, must_exist=False)

    def _object_outputs(self, settle: Callable[[Any], Any]) -> dict[int, list]:
        values: dict[int, list] = {}
        for kind, key, first, shape in self._writes:
            if kind == "stream":
                continue
            holder: Any = self._args if isinstance(key, int) else self._kwargs
            value = settle(holder[key])
            name = f"parameter {self._arguments[first][_NAME]!r}"
            if kind == "object":
                values[first] = self._store(value, name)
                continue
            for offset, leaf in enumerate(leaves_of(value, shape)):
                values[first + offset] = self._store(leaf, f"an element of {name}")
        return values

    def _store_results(self, values: dict[int, list]) -> None:
        indexes = [i for i, a in enumerate(self._arguments) if a[_NAME].startswith(RESULT_PREFIX)]
        if not indexes:
            return
        result = self._result
        if _runtime.current is not None:
            result = _runtime_wait_on(result)
        if len(indexes) == 1:
            values[indexes[0]] = self._store(result)
            return
        try:
            parts = list(result)
        except TypeError:
            returned = "returned None" if result is None else f"returned one {type(result).__name__}"
            raise TypeError(f"the task {self._function.name} declares {len(indexes)} results but {returned}") from None
        if len(parts) != len(indexes):
            raise ValueError(f"the task {self._function.name} declares {len(indexes)} results but returned {len(parts)}")
        for number, (index, part) in enumerate(zip(indexes, parts)):
            values[index] = self._store(part, f"result {number}")

    def _store(self, value: Any, what: str = "the result") -> list:
        former = _general.serializer()
        _general.serializer(self._function.serializer)
        try:
            blob = dumps_output(value, what)
        finally:
            _general.serializer(former)
        return _serialize.store_blob(blob, self._arena, self._inline_max)

    def _in_order(self, values: dict[int, list], *, must_exist: bool) -> list:
        ordered = []
        for index, argument in enumerate(self._arguments):
            if argument[_DIRECTION] not in _WRITING:
                continue
            if index not in values and argument[_KIND] in _PATHS:
                values[index] = self._file_output(index, argument, must_exist)
            ordered.append(values.get(index, NOTHING))
        return ordered

    def _file_output(self, index: int, argument: list, must_exist: bool) -> list:
        path = self._argument(index)
        if path is not None and os.path.exists(path):
            return [3, [path]]
        if must_exist:
            raise FileNotFoundError(f"the task did not write its output file, parameter {argument[_NAME]!r}")
        return NOTHING

    def written_streams(self) -> list[str]:
        """Names of the streams that the task writes."""
        holders = ((self._args if isinstance(w[1], int) else self._kwargs, w[1]) for w in self._writes if w[0] == "stream")
        return [holder[key].__shoal_stream__ for holder, key in holders]


def _run_in_python(
    call: Callable, arguments: list, inline_max: int, runtime: Any, general: Callable[[Any, bool], bytes]
) -> bytes | None:
    """The twin of native.run."""
    count = len(arguments)
    if count > _ARGUMENTS_MAX:
        return None
    wanted = count > 0 and arguments[-1][_NAME] == "$0"
    given = arguments[:-1] if wanted else arguments
    args: Any = ()
    kwargs: dict[str, Any] = {}
    if given and given[0][_NAME] == RECORD_NAME:
        if len(given) > 1 or given[0][_VALUE][0] != 1:
            return None
        args, kwargs, writes = _serialize.loads(given[0][_VALUE][1][0])
        if writes:
            return None
    elif all(a[_DIRECTION] == Direction.IN and a[_KIND] <= AccessKind.DATUM and _is_small(a[_VALUE]) for a in given):
        args = [_serialize.loads(a[_VALUE][1][0]) for a in given]
    else:
        return None
    return general(call(*args, **kwargs), wanted)


def _is_small(value: list) -> bool:
    """An inline value without out-of-band buffers: its bytes 6 and 7 count them."""
    return value[0] == 1 and value[1][0][5:8] == b"\0\0\0"


# The packed outputs of the common case: inline arguments that are only read, at most one result. None, before anything
# was called, when the attempt is of another kind. `general` packs results of any kind.
run_simple: Callable[[Callable, list, int, Any, Callable[[Any, bool], bytes]], bytes | None] = (
    _run_in_python if native is None else native.run
)


def dumps_output(value: Any, what: str) -> _serialize.Blob:
    """`value` as a blob. TypeError that says what cannot leave the executor, with what pickle said about it."""
    try:
        return _serialize.dumps(value)
    except (MemoryError, ShoalError):
        raise
    except Exception as error:
        raise TypeError(
            f"{what} of the task cannot be sent: a {type(value).__qualname__} that cannot be pickled ({text_of(error)}). "
            "Return plain data, or what is needed to make the object again"
        ) from error


def pack_result(result: Any, wanted: bool, arena: Arena, inline_max: int) -> bytes:
    """The packed outputs of an attempt with one result, or none that is wanted."""
    result = _finished(result)
    if not wanted:
        return _codec.NO_OUTPUTS
    if _runtime.current is not None:
        result = _runtime_wait_on(result)
    blob = dumps_output(result, "the result")
    if blob.size <= inline_max:
        return b"\x91" + _codec.inline_value(blob.join())
    return _codec.pack_value([_serialize.store_blob(blob, arena, inline_max)])


def _finished(result: Any) -> Any:
    """A coroutine's result, a generator's items."""
    result = _function.awaited(result)
    if isinstance(result, types.GeneratorType):
        return iter(list(result))
    return result


class Place(NamedTuple):
    """Which task runs where: what a failure is reported with."""

    function: str
    task: int
    app: bytes
    agent: bytes

    def __str__(self) -> str:
        return f"task {self.task} ({self.function}) on agent {self.agent.hex()[:8]}"


def failure(number: int, error: BaseException, place: Place, keep: bool, attempt: Attempt | None, run_us: int) -> bytes:
    """The packed AttemptResult of an attempt that raised; with `keep` what it left behind is reported, too."""
    outcome, message, packed = describe(error, place)
    outputs: list = []
    if attempt is not None and (keep or outcome is Outcome.GROUP_EXCEPTION):
        try:
            outputs = attempt.kept_outputs()
        except Exception:
            outputs = []
    return _codec.pack_value([number, int(outcome), message, packed, outputs, run_us])


def describe(error: BaseException, place: Place) -> tuple[Outcome, str, bytes]:
    """(outcome, one line for people, error bytes) of an exception that came out of the task at `place`."""
    import socket
    import traceback

    hint = where_output_is(place.app, place.task)
    if isinstance(error, Interrupt):
        timed_out = error.outcome is Outcome.TIMED_OUT
        packed = pack_error(TaskTimeoutError(f"{place}: {error}; {hint}"), "") if timed_out else b""
        return error.outcome, str(error), packed
    outcome = Outcome.GROUP_EXCEPTION if isinstance(error, COMPSsException) else Outcome.EXCEPTION
    if isinstance(error, _function.OtherPythonError):
        outcome = Outcome.NOT_STARTED
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace))
    text = f"in {place}, process {os.getpid()} on {socket.gethostname()}; {hint}:\n{text}"
    if isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit)):
        # Would end the main program when raised there.
        ended = f"{type(error).__name__}: {text_of(error)}"
        error = RuntimeError(f"the task ended with {ended}; a task must return or raise an Exception")
    message = f"{type(error).__qualname__}: {text_of(error)}".splitlines()[0][:500]
    return outcome, message, pack_error(error, text)


# Frames of the SDK between the loop and the function: nobody looks for a mistake of the task there.
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def _default_result(defaults: dict[str, Any], index: int) -> Any:
    value = defaults.get("returns")
    if isinstance(value, (list, tuple)) and index < len(value):
        return value[index]
    return value


def _runtime_wait_on(value: Any) -> Any:
    from shoal.api import wait_on

    return wait_on(value)


def _same(value: Any) -> Any:
    return value
