"""One application of this process: its connection to the agent, its numbers, and what it knows about its data.

Submissions are gathered and sent in batches: at once if the last batch left more than a millisecond ago, else when the
batch is large, when somebody waits, or a millisecond later by the flusher thread.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from shoal import _codec, _environment, _hello, _serialize
from shoal._flusher import FLUSH_AFTER_S, flusher
from shoal._future import Future
from shoal._native import native
from shoal._protocol import INLINE_MAX, PROTOCOL_VERSION, WAIT_DATA_MAX, Code, Kind
from shoal._transport import Connection, WaitHook
from shoal.errors import ShoalError, request_error, task_error

_FLUSH_CALLS = 64
_FLUSH_BYTES = 32 << 10
_HANDSHAKE_TIMEOUT_S = 30.0


def _values_in_python(results: list[list], general: Callable[[list], Any]) -> list[Any]:
    """The twin of native.values."""
    return [general(result) for result in results]


# The values of the results in a message of kind VALUES, which are packed where the connection is native.
_values: Callable[[Any, Callable[[list], Any]], list[Any]] = _values_in_python if native is None else native.values
_results: Callable[[Any], list[list]] = list if native is None else native.unpack


class Tracked:
    """An object of the program that tasks write: its datum, and the object itself (weakly where that works)."""

    __slots__ = ("datum", "reference")

    def __init__(self, datum: int, reference: Any) -> None:
        self.datum = datum
        self.reference = reference


class Session:
    """One connection to an agent, one application. Thread-safe."""

    def __init__(
        self,
        path: str,
        *,
        app: bytes | None = None,
        name: str = "",
        role: str = "driver",
        parent_attempt: int | None = None,
        hook: WaitHook | None = None,
    ) -> None:
        self.pid = os.getpid()
        self.path = path
        self.lock = threading.RLock()
        self.released: list[int] = []  # appended to by destructors, which must not take the lock
        self.tasks = 0
        self.registered: dict[bytes, bool] = {}
        self.written_files: dict[str, bool] = {}  # path → is a directory
        self.stream_writers: set[tuple[str, str]] = set()
        self.knowledge: Any = None  # of @implement: places and durations
        self.journal: Any = None  # of once(): what a former run left
        self.checkpointed = False
        self._hook = hook
        self._datum = 0
        self._request = 0
        self._calls: list[bytes] = []
        self._frames: list[bytes] = []
        self._pending_bytes = 0
        self._last_flush = 0.0
        self._armed = False
        self._replies: dict[int, Any] = {}
        self._expected: set[int] = set()
        self._tracked: dict[int, Tracked] = {}
        self._doomed_files: list[str] = []
        self._connection = Connection(path, self._dispatch)
        self._welcome(app, name, role, parent_attempt)

    def _welcome(self, app: bytes | None, name: str, role: str, parent_attempt: int | None) -> None:
        checkpoint = _hello.checkpoint() if parent_attempt is None else _hello.NO_CHECKPOINT
        self.checkpointed = bool(checkpoint[0])
        hello = [
            PROTOCOL_VERSION, role, app, name, self.pid, sys.executable or "", parent_attempt, os.getcwd(),
            _hello.python_path(), *checkpoint, _environment.ids(),
            os.environ.get("SHOAL_SCHEDULER", ""),
        ]  # fmt: skip
        self._expected.add(0)
        self._connection.send(_codec.frame(Kind.HELLO, hello))
        if not self._connection.wait_until(lambda: 0 in self._replies, _HANDSHAKE_TIMEOUT_S):
            self._connection.close()
            raise ShoalError(
                f"the agent at {self.path} did not answer the greeting within {_HANDSHAKE_TIMEOUT_S:.0f} s; "
                "`shoal doctor` shows what keeps it busy"
            )
        kind, message = self._replies.pop(0)
        if kind == Kind.REPLY:
            self._connection.close()
            raise request_error(message[1], message[2])
        _, self.agent, self.app, arena, self.inline_max, client, note = [*message, *[None] * 7][:7]
        if note and role == "driver" and parent_attempt is None:
            print(f"shoal: {note}", file=sys.stderr)
        self.inline_max = self.inline_max or INLINE_MAX
        self.arena = _serialize.Arena(arena, client)

    # ---- sending ----
    def next_datum(self) -> int:
        """A new datum number."""
        with self.lock:
            self._datum += 1
            return self._datum

    def add_call(self, function_and_accesses: bytes, options: bytes = _codec.NO_OPTIONS) -> int:
        """Queues a task call; its number. Takes the session lock: callers that drew data for it hold the lock already."""
        with self.lock:
            task = self.tasks + 1
            self.add_packed_call(b"".join((_codec.CALL_HEAD, _codec.pack_u64(task), function_and_accesses, options)))
            return task

    def add_packed_call(self, call: bytes) -> None:
        """Queues a whole TaskCall, numbered `tasks` + 1. The caller holds the lock."""
        self.tasks += 1
        self._calls.append(call)
        self._pending_bytes += len(call)
        self._maybe_flush()

    def add_message(self, kind: int, message: list) -> None:
        """Queues any other message, in order with the calls."""
        packed = _codec.frame(kind, message)
        with self.lock:
            self._seal_calls()
            self._frames.append(packed)
            self._pending_bytes += len(packed)
            if self._pending_bytes >= _FLUSH_BYTES:
                self.flush()

    def _maybe_flush(self) -> None:
        now = time.monotonic()
        if now - self._last_flush > FLUSH_AFTER_S or len(self._calls) >= _FLUSH_CALLS or self._pending_bytes >= _FLUSH_BYTES:
            self.flush()
        elif not self._armed:
            self._armed = True
            flusher.arm(self)

    def _seal_calls(self) -> None:
        if self._calls:
            self._frames.append(_codec.batch_frame(Kind.SUBMIT, self._calls))
            self._calls = []

    def flush(self) -> None:
        """Hands everything queued to the agent."""
        with self.lock:
            self._seal_calls()
            if self.released:
                gone = [self.released.pop() for _ in range(len(self.released))]  # destructors may append meanwhile
                self._frames.append(_codec.frame(Kind.RELEASE, [gone, []]))
            if self._frames:
                frames, self._frames = self._frames, []
                self._pending_bytes = 0
                self._connection.send(b"".join(frames))
            self._last_flush = time.monotonic()

    def flush_late(self) -> bool:
        """For the flusher: sends what is queued; False when nothing was, so that it may forget this session."""
        with self.lock:
            if self._connection.lost:
                self._armed = False
                return False
            if not self._calls and not self._frames:
                self._armed = False
                return False
            self.flush()
            return True

    # ---- receiving ----
    def _dispatch(self, kind: int, message: Any) -> None:
        if kind in (Kind.VALUES, Kind.REPLY):
            if message[0] in self._expected:
                self._expected.discard(message[0])
                self._replies[message[0]] = message if message[0] else (kind, message)
            elif message[0] == 0 and kind == Kind.REPLY:
                self._connection.refused(message[2])
        elif kind == Kind.EVENT and message[0] == "app.notice":
            sys.stderr.write(f"shoal: {message[1].get('message', '')}\n")
        elif kind == Kind.WELCOME:
            self._expected.discard(0)
            self._replies[0] = (kind, message)

    def _new_request(self) -> int:
        with self.lock:
            self._request += 1
            self._expected.add(self._request)
            return self._request

    def _await(self, request: int) -> Any:
        self.flush()
        replies = self._replies
        hook = self._hook
        if hook is not None and threading.current_thread() is not threading.main_thread():
            hook = None  # only the attempt's own thread may be interrupted, and speaks for it
        self._connection.wait_until(lambda: request in replies, None, hook)
        return replies.pop(request)

    def request(self, method: str, params: dict[str, Any]) -> Any:
        """Asks the agent for something (docs/client-protocol.md §7); its result, or the exception it stands for."""
        number = self._new_request()
        self.add_message(Kind.REQUEST, [number, method, params])
        _, code, message, result = [*self._await(number), *[None] * 4][:4]
        if code:
            raise request_error(code, message)
        return result

    def tell(self, method: str, params: dict[str, Any]) -> None:
        """A request whose answer nobody waits for."""
        with self.lock:
            self._request += 1
            self.add_message(Kind.REQUEST, [self._request, method, params])

    # ---- data ----
    def wait(self, data: list[int], files: list[str]) -> list[list]:
        """Waits until all are final: one ValueResult for each, in order."""
        # Files were asked for with the first part and come after its data.
        first, *others = [_results(answer) for answer in self._answers(data, files)]
        return [*first[:WAIT_DATA_MAX], *(result for answer in others for result in answer), *first[WAIT_DATA_MAX:]]

    def _answers(self, data: list[int], files: list[str]) -> list[Any]:
        """Waits in parts that the agent takes: what it said of each, packed or not (see Connection)."""
        requests = []
        with self.lock:
            for start in range(0, max(len(data), 1), WAIT_DATA_MAX):
                number = self._new_request()
                part = data[start : start + WAIT_DATA_MAX]
                self.add_message(Kind.WAIT, [number, part, files if start == 0 else []])
                requests.append(number)
        return [self._await(number)[1] for number in requests]

    def wait_on_data(self, data: list[int], cancelled: Any = None) -> list[Any]:
        """The values of `data`; raises the first failure among them. With `cancelled`, that is what cancelled ones give."""
        general = self._value
        if cancelled is not None:

            def general(result: list) -> Any:
                return cancelled if result[1] == Code.CANCELLED else self._value(result)

        values: list[Any] = []
        for answer in self._answers(data, []):
            values += _values(answer, general)
        return values

    def _value(self, result: list) -> Any:
        _, code, message, value, error = result[:5]
        if code:
            raise task_error(code, message, error, self.app)
        return _serialize.load_value(value, self.arena, private=True)

    def wait_on_future(self, future: Future) -> Any:
        """Waits for one future; it remembers the value."""
        (future._value,) = self.wait_on_data([future._datum])
        future._final = True
        return future._value

    def new_future(self, type_hint: Any = None) -> Future:
        """A future of a new datum."""
        return Future(self, self.next_datum(), type_hint)

    def tracked(self, obj: Any) -> Tracked | None:
        """What is known of an object that tasks write."""
        return self._tracked.get(id(obj))

    def tracked_entries(self) -> list[Tracked]:
        """What is known of all objects that tasks write."""
        return list(self._tracked.values())

    @property
    def tracks_any(self) -> bool:
        """False as long as no object of the program is written by tasks."""
        return bool(self._tracked)

    def track(self, obj: Any, *, put: bool) -> Tracked:
        """Makes `obj` a datum of this app; with `put` its present state is the first version."""
        with self.lock:
            known = self._tracked.get(id(obj))
            if known is not None:
                return known
            datum = self.next_datum()
            if put:
                self.put_data(datum, obj)
            entry = Tracked(datum, self._reference(obj, datum))
            self._tracked[id(obj)] = entry
            return entry

    def put_data(self, datum: int, obj: Any) -> None:
        """Gives a new datum its first version."""
        self.add_message(Kind.PUT_DATA, [datum, _serialize.store_value(obj, self.arena, self.inline_max)])

    def _reference(self, obj: Any, datum: int) -> Any:
        key = id(obj)
        tracked, released = self._tracked, self.released_later

        def on_gone(_: Any) -> None:
            if tracked.pop(key, None) is not None:
                released(datum)

        try:
            return weakref.ref(obj, on_gone)
        except TypeError:
            return obj  # lists, dicts: held until wait_on or delete_object

    def released_later(self, datum: int) -> None:
        """Like Future.__del__: safe in destructors."""
        self.released.append(datum)

    def untrack(self, obj: Any) -> bool:
        """Forgets a tracked object and frees its datum; False if it was not tracked."""
        entry = self._tracked.pop(id(obj), None)
        if entry is None:
            return False
        self.released.append(entry.datum)
        return True

    # ---- groups, barriers ----
    def barrier(self, group: str = "", no_more_tasks: bool = False) -> None:
        """Waits for all tasks (of the group); raises the first failure nobody has seen yet."""
        number = self._new_request()
        self.add_message(Kind.BARRIER, [number, group, no_more_tasks])
        doomed = [] if group else list(self._doomed_files)  # others may be deleted by another thread meanwhile
        _, code, message, _, error = [*self._await(number), *[None] * 5][:5]
        self._remove_doomed(doomed)
        if code:
            raise task_error(code, message, error or b"", self.app)

    def group_message(self, kind: int, name: str) -> None:
        """OpenGroup, CloseGroup or CancelGroup."""
        self.add_message(kind, [name])
        if kind == Kind.CANCEL_GROUP:
            self.flush()

    # ---- files ----
    def wait_on_files(self, paths: Iterable[str]) -> None:
        """Brings the last versions to `paths`. The files are the program's again."""
        wanted = [os.path.abspath(path) for path in paths]
        for result in self.wait([], wanted):
            _, code, message, value, error, path = result[:6]
            if code:
                raise task_error(code, message, error, self.app)
            if value[0] == 3:
                bring_home(value[1][0], path)
        for path in wanted:
            self.written_files.pop(path, None)
        self.add_message(Kind.RELEASE, [[], wanted])

    def delete_file(self, path: str) -> bool:
        """Deletes a file once no task needs it: at the next barrier or the end of the app."""
        path = os.path.abspath(path)
        known = path in self.written_files or os.path.exists(path)
        self.written_files.pop(path, None)
        self.add_message(Kind.RELEASE, [[], [path]])
        if path not in self._doomed_files:
            self._doomed_files.append(path)
        return known

    def file_exists(self, path: str) -> bool:
        """True for files on disk and for those that tasks write."""
        path = os.path.abspath(path)
        if path in self._doomed_files:
            return False
        return path in self.written_files or os.path.exists(path)

    def file_accessed(self, path: str, *, written: bool, directory: bool) -> None:
        """Notes that a task uses `path`."""
        if path in self._doomed_files:
            self._doomed_files.remove(path)  # the name is used anew
        if written:
            self.written_files[path] = directory

    # ---- end ----
    def settle(self) -> None:
        """Waits for all tasks and brings written files home. Raises the first failure nobody has seen yet."""
        if self.tasks:
            self.barrier(no_more_tasks=True)
            if self.written_files:
                self.wait_on_files(list(self.written_files))

    def finish(self) -> None:
        """Settles, then closes; nothing to do when closed or lost."""
        if self._connection.lost:
            return
        try:
            self.settle()
            if self.checkpointed:
                self.request("app.snapshot", {})
        finally:
            self.close()

    def close(self) -> None:
        """Ends the app: what is unfinished is cancelled. Idempotent."""
        if not self._connection.lost:
            try:
                for name, writer in sorted(self.stream_writers):
                    self.tell("streams.close", {"name": name, "writer": writer})
                self.flush()
            except ShoalError:
                pass
        self._connection.close()
        self._remove_doomed(list(self._doomed_files))

    def _remove_doomed(self, paths: list[str]) -> None:
        """Deletes files that the program deleted and no task can need any more."""
        for path in paths:
            if path in self._doomed_files:  # its name was not used anew
                self._doomed_files.remove(path)
                with contextlib.suppress(OSError):  # it stays; whatever else happens here is not to suffer
                    remove_path(path)

    def abandon(self) -> None:
        """In a forked child: forgets the connection without telling the agent."""
        self._connection.abandon()

    @property
    def closed(self) -> bool:
        """True once closed or lost."""
        return self._connection.lost


def bring_home(source: str, target: str) -> None:
    """Copies a final version to where the program knows it, so that readers see the old file or the new one."""
    if os.path.realpath(source) == os.path.realpath(target):
        return
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    import shutil

    temporary = f"{target}.shoal-{os.getpid()}"
    if os.path.isdir(source):
        shutil.copytree(source, temporary)
        if os.path.isdir(target):
            shutil.rmtree(target)
    else:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def remove_path(path: str) -> None:
    """Removes a file or directory if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        import shutil

        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)
