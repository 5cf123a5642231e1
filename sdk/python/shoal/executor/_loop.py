"""The executor's loop: attempts in, results out, in order, on the main thread.

The socket is read when there is nothing to run, between attempts about every millisecond, and while an attempt waits for
the agent. There is no reader thread; the flusher thread only sends results that were finished before a long attempt.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from typing import Any, NoReturn

from shoal import _codec, _options, _runtime, _serialize
from shoal._flusher import flusher
from shoal._native import native
from shoal._protocol import PROTOCOL_VERSION, Kind, Outcome
from shoal._session import Session
from shoal._transport import Connection
from shoal.errors import AgentConnectionError, request_error
from shoal.executor._attempt import Attempt, Interrupt, LoadedFunction, Place, failure, pack_result, run_simple
from shoal.executor._process import Signals, StandardStreams, getsignal

_DONE_MAX = 64
_FLUSH_AFTER_NS = 1_000_000
_SLOW_US = 200  # results are not held back by an attempt that may take longer than this


class Executor:
    """One connection to the agent; runs what it sends. Also the WaitHook of the running attempt's own session."""

    def __init__(self, path: str, token: str) -> None:
        _serialize.app_modules_travel = False
        self._path = path
        self._functions: dict[bytes, LoadedFunction] = {}
        self._queue: deque[list] = deque()
        self._cancelled: set[int] = set()
        self._running: list | None = None
        self._interruptible = False
        self._interrupt = False
        self._blocked = False
        self._lock = threading.Lock()
        self._done: list[bytes] = []
        self._first_done_ns = 0
        self._armed = False
        self._deadline_ns: float = math.inf  # of the running attempt, when it has a time-out
        self._welcome: Any = None
        self._streams = StandardStreams()
        self._home = os.getcwd()
        self._connection = Connection(path, self._dispatch)
        hello = [PROTOCOL_VERSION, "executor", None, token, os.getpid(), sys.executable or "", None, self._home, []]
        self._connection.send(_codec.frame(Kind.HELLO, hello))
        self._connection.wait_until(lambda: self._welcome is not None)
        welcome: Any = self._welcome
        self._agent: bytes = welcome[1]
        self._arena = _serialize.Arena(welcome[3], welcome[5])
        self._inline_max = welcome[4]
        _runtime.attempt_session = self._open_session
        self._signals = Signals(
            {
                signal.SIGALRM: self._on_alarm,
                signal.SIGUSR2: self._on_look,
                signal.SIGINT: lambda *_: None,  # Ctrl-C at a terminal is for the main program
                signal.SIGTERM: signal.SIG_DFL,  # how the agent ends executors
            }
        )
        self._forked = False
        self._runner = self._make_runner()
        os.register_at_fork(after_in_child=self._after_fork_in_child)

    def _make_runner(self) -> Any:
        if native is None:
            return None
        return native.Runner(
            self, self._queue, self._functions, self._cancelled, _runtime, self._streams, self._signals.handlers, getsignal,
            self._pack_result, os.fsencode(self._home), self._inline_max,
        )  # fmt: skip

    # ---- the loop ----
    def run(self) -> None:
        """Until the agent closes the connection."""
        queue = self._queue
        while True:
            if not queue:
                self._flush()
                self._connection.wait_until(lambda: bool(queue))
            while queue:
                self._run_some()
                if len(self._done) >= _DONE_MAX or time.perf_counter_ns() - self._first_done_ns > _FLUSH_AFTER_NS:
                    self._flush()
                    if queue:
                        self._connection.receive()  # cancellations of what is still queued

    def _run_some(self) -> None:
        """One attempt at least: a row of common ones where there is a runner for them."""
        if self._runner is None:
            self._attempt(self._queue.popleft())
            return
        try:
            message = self._runner.run()
        except BaseException as error:
            assert self._running is not None
            function = self._functions[self._running[4]]
            self._end(function, self._failed(error, function, None, self._runner.begun()), self._runner.begun())
            return
        if message is not None:
            self._attempt(message)

    def _attempt(self, message: list) -> None:
        number, _, _, _, function_id, arguments, timeout_ms = message[:7]
        if self._cancelled and number in self._cancelled:
            self._cancelled.discard(number)
            self._report(_codec.pack_value([number, int(Outcome.CANCELLED), "cancelled before it started", b"", [], 0]))
            return
        function = self._functions.get(function_id) or _unknown_function()
        if self._done:
            self._mind_finished(function)
        self._running = _runtime.attempt = message
        attempt = None
        begin = time.perf_counter_ns()
        try:
            self._interruptible = True
            if timeout_ms:
                self._deadline_ns = begin + timeout_ms * 1_000_000
                signal.setitimer(signal.ITIMER_REAL, timeout_ms / 1000)
            try:
                outputs = None
                if function.simple:
                    outputs = run_simple(function.call, arguments, self._inline_max, _runtime, self._pack_result)
                    if self._forked:
                        self._end_forked()
                if outputs is None:
                    attempt = Attempt(function, arguments, self._arena, self._inline_max)
                    attempt.call()
                    if self._forked:
                        self._end_forked()
                    outputs = _codec.pack_value(attempt.outputs())
                    self._close_streams(attempt)
                elif _runtime.current is not None:
                    _runtime.current.settle()
            finally:
                self._interruptible = self._interrupt = False
                if timeout_ms:
                    self._deadline_ns = math.inf
                    signal.setitimer(signal.ITIMER_REAL, 0)
            run_us = (time.perf_counter_ns() - begin) // 1000
            self._settle_streams(thorough=run_us > _SLOW_US)
            packed = _codec.pack_done(number, outputs, run_us)
        except BaseException as error:
            packed = self._failed(error, function, attempt, begin)
        self._end(function, packed, begin)

    def _failed(self, error: BaseException, function: LoadedFunction, attempt: Attempt | None, begin: int) -> bytes:
        """The report of the running attempt's failure. Raises when there is nobody left to report to."""
        self._interruptible = self._interrupt = False
        if self._forked:
            self._end_forked(error)
        if self._connection.lost and isinstance(error, AgentConnectionError):
            raise error
        self._streams.settle(thorough=True)
        return self._failure(error, function, attempt, (time.perf_counter_ns() - begin) // 1000)

    def _end(self, function: LoadedFunction, packed: bytes, begin: int) -> None:
        """The running attempt is over: what it left behind in this process goes, and its report is due."""
        self._running = _runtime.attempt = None
        if _runtime.current is not None:
            self._close_session()
        self._go_home()
        self._signals.settle()
        function.last_us = (time.perf_counter_ns() - begin) // 1000
        self._report(packed)

    # ---- what the runner leaves to Python ----
    def _end_nested(self) -> None:
        """The running attempt made tasks of its own."""
        assert _runtime.current is not None
        _runtime.current.settle()
        self._interruptible = self._interrupt = False
        self._close_session()

    def _settle_streams(self, *, thorough: bool = False) -> None:
        """RuntimeError when the task closed a standard stream, which is then open again."""
        damage = self._streams.settle(thorough=thorough)
        if damage is not None:
            raise RuntimeError(damage)

    def _settle_streams_thoroughly(self) -> None:
        self._settle_streams(thorough=True)

    def _settle_signals(self) -> None:
        self._signals.settle()

    def _failure(self, error: BaseException, function: LoadedFunction, attempt: Attempt | None, run_us: int) -> bytes:
        """The report of the running attempt's failure."""
        assert self._running is not None
        number, app, task = self._running[:3]
        place = Place(function.name, task, app, self._agent)
        return failure(number, error, place, function.keep, attempt, run_us)

    def _mind_finished(self, function: LoadedFunction) -> None:
        """Results that wait to be sent do not wait for an attempt that may take long."""
        if not 0 <= function.last_us <= _SLOW_US:
            self._flush()
        elif not self._armed:
            self._armed = True
            flusher.arm(self)

    @staticmethod
    def _close_session() -> None:
        session, _runtime.current = _runtime.current, None
        if session is not None:
            session.close()

    def _go_home(self) -> None:
        """A task may have changed the working directory, or removed it."""
        try:
            if os.getcwd() != self._home:
                os.chdir(self._home)
        except OSError:
            os.chdir(self._home)

    def _close_streams(self, attempt: Attempt) -> None:
        for name in attempt.written_streams():
            _runtime.requester().request("streams.close", {"name": name, "writer": _runtime.attempt_writer()})

    # ---- results ----
    def _pack_result(self, result: Any, wanted: bool) -> bytes:
        if self._forked:
            self._end_forked()  # before it writes to the arena under its parent's name
        return pack_result(result, wanted, self._arena, self._inline_max)

    def _report(self, packed: bytes) -> None:
        with self._lock:
            if not self._done:
                self._first_done_ns = time.perf_counter_ns()
            self._done.append(packed)

    def _flush(self) -> None:
        with self._lock:
            done, self._done = self._done, []
            if done:
                self._connection.send(_codec.batch_frame(Kind.DONE, done))

    def flush_late(self) -> bool:
        """For the flusher: sends results that wait behind a long attempt."""
        if not self._done or self._connection.lost:
            self._armed = False
            return False
        self._flush()
        return True

    # ---- messages ----
    def _dispatch(self, kind: int, message: Any) -> None:
        if kind == Kind.RUN:
            if self._blocked:
                self._give_back(message[0])
            else:
                self._queue.extend(message[0])
        elif kind == Kind.FUNCTION:
            self._add_function(message)
        elif kind == Kind.CANCEL:
            self._cancel(message[0])
        elif kind == Kind.WELCOME:
            self._welcome = message
        elif kind == Kind.REPLY and message[1]:
            raise request_error(message[1], message[2])

    def _add_function(self, message: list) -> None:
        function_id, name, _, payload, python_path = [*message, *[[]] * 5][:5]
        for entry in reversed(python_path):
            if entry not in sys.path:
                sys.path.insert(0, entry)
        if function_id not in self._functions:
            self._functions[function_id] = LoadedFunction(name, payload)

    def _cancel(self, attempts: list[int]) -> None:
        running = None if self._running is None else self._running[0]
        queued = {message[0] for message in self._queue}
        self._cancelled.update(number for number in attempts if number in queued)
        if running in attempts and self._interruptible:
            self._interrupt = True  # raised once all messages of this read are handled

    def _raise_interrupt(self) -> None:
        if self._interrupt:
            self._interrupt = self._interruptible = False
            raise Interrupt(Outcome.CANCELLED, "cancelled while it ran")

    def _give_back(self, attempts: list) -> None:
        for message in attempts:
            self._report(_codec.pack_value([message[0], int(Outcome.RETURNED), "", b"", [], 0]))
        self._flush()

    # ---- processes that tasks fork ----
    def _after_fork_in_child(self) -> None:
        """A child may use nothing of what it shares with this process: neither speak for the attempt nor read for it."""
        self._forked = True
        self._interruptible = False
        self._deadline_ns = math.inf
        self._lock = threading.Lock()
        self._done = []
        self._connection.abandon()

    def _end_forked(self, error: BaseException | None = None) -> NoReturn:
        """A child came back from the task's function: the attempt's result is its parent's, so it ends here."""
        running = self._running or [0, b"", 0]
        where = f"shoal: process {os.getpid()}, forked by task {running[2]}"
        status = 1
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        elif error is not None:
            print(f"{where}, ends with an exception:", file=sys.stderr)
            traceback.print_exception(type(error), error, error.__traceback__)
        else:
            status = 0
            print(f"{where}, returned from the task's function and ends; end such processes with os._exit()", file=sys.stderr)
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status & 0xFF)

    # ---- signals ----
    def _on_alarm(self, *_: Any) -> None:
        if time.perf_counter_ns() < self._deadline_ns:
            return  # an alarm that an earlier task left behind
        if self._interruptible and self._running is not None:
            self._interruptible = False
            raise Interrupt(Outcome.TIMED_OUT, f"the task ran longer than its time_out of {self._running[6] / 1000:g} s")

    def _on_look(self, *_: Any) -> None:
        if self._interruptible and not self._blocked:
            self._connection.receive()
            self._raise_interrupt()

    # ---- nested sessions: WaitHook ----
    def _open_session(self) -> Session | None:
        if self._running is None:
            return None  # a thread that outlived its attempt: its calls are plain calls
        function = self._functions.get(self._running[4])
        _options.inherited = {} if function is None else function.environment
        _runtime.current = Session(
            self._path,
            name=function.name if function is not None else "task",
            parent_attempt=self._running[0],
            hook=self,
        )
        return _runtime.current

    def enter(self) -> None:
        """The attempt waits: lend its computing units, give back what was not started."""
        if self._running is None:
            return
        self._blocked = True
        self._connection.send(_codec.frame(Kind.BLOCKED, [self._running[0], True]))
        waiting = [message for message in self._queue if message[0] not in self._cancelled]
        self._queue.clear()
        self._cancelled.clear()
        self._give_back(waiting)

    def fileno(self) -> int:
        """The executor's own socket, watched during the wait."""
        return self._connection.fileno()

    def service(self) -> None:
        """Reads it; raises Interrupt when the waiting attempt is cancelled."""
        self._connection.receive()
        self._raise_interrupt()

    def leave(self) -> None:
        """The wait is over."""
        if self._blocked and self._running is not None:
            self._blocked = False
            self._connection.send(_codec.frame(Kind.BLOCKED, [self._running[0], False]))


def _unknown_function() -> LoadedFunction:
    function = LoadedFunction("?", b"")
    function.problem = RuntimeError("the agent sent an attempt of a function that it had not sent")
    function.simple = False
    return function


def run_executor(path: str, token: str) -> int:
    """Runs an executor in this process; its exit status."""
    try:
        Executor(path, token).run()
    except AgentConnectionError as error:
        if "closed the connection" not in str(error) and "reset" not in str(error).lower():
            print(f"shoal.executor: {error}", file=sys.stderr)
            return 1
    return 0
