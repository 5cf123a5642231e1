"""The connection to the agent: whole frames out, decoded frames in.

No thread of its own. Whoever waits for something reads, for everybody: the first waiting thread reads and dispatches
until its own answer is there, the others sleep on a condition.
"""

from __future__ import annotations

import math
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from shoal import _codec
from shoal._native import native
from shoal._protocol import FRAME_MAX, Kind
from shoal.errors import AgentConnectionError

_RECEIVE_BYTES = 256 << 10
_SLOW_WAIT_S = 0.001
_TIMEOUT_MAX_MS = (1 << 31) - 1  # what poll() takes
_READABLE, _OTHER_READABLE = 1, 2


class WaitHook(Protocol):
    """What an executor does while its attempt waits: it lends its computing unit and keeps reading its own socket."""

    def enter(self) -> None:
        """The wait turned out to take a while."""

    def fileno(self) -> int:
        """The descriptor to watch meanwhile."""

    def service(self) -> None:
        """It is readable. May raise to end the wait."""

    def leave(self) -> None:
        """The wait is over (only after enter)."""


class _Channel:
    """The twin of native.Channel: decoded frames from a socket. Messages of all kinds are wholly decoded."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._reader = _codec.FrameReader(FRAME_MAX)

    def receive(self) -> list[Any]:
        """Reads once what is there. EOFError at the end of the stream, OSError, ValueError when it is not ours."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return []
        if not data:
            raise EOFError("it closed the connection")
        return self._reader.feed(data)

    def wait(self, timeout_ms: int, other: int) -> int:
        """Waits until it or the descriptor `other` (-1: none) is readable: the sum of _READABLE and _OTHER_READABLE."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        if other >= 0:
            poller.register(other, select.POLLIN)
        own = self._socket.fileno()
        ready = poller.poll(None if timeout_ms < 0 else timeout_ms)
        return sum(_READABLE if descriptor == own else _OTHER_READABLE for descriptor, _ in ready)


class Connection:
    """Frames over the agent's socket. Thread-safe."""

    def __init__(self, path: str, dispatch: Callable[[int, Any], None]) -> None:
        self.path = path
        self._dispatch = dispatch
        self._socket = _dial(path)
        self._send_lock = threading.Lock()
        self._turn = threading.Condition(threading.Lock())
        self._reading = False
        self._sleepers = 0  # threads that wait while another one reads
        self._channel: Any = (
            _Channel(self._socket)
            if native is None
            else native.Channel(self._socket.fileno(), FRAME_MAX, int(Kind.VALUES))  # their results: native.values
        )
        self._lost: str | None = None

    def fileno(self) -> int:
        """The socket's descriptor, -1 after close."""
        return self._socket.fileno()

    @property
    def lost(self) -> bool:
        """True once the agent went away or the connection was closed."""
        return self._lost is not None

    def refused(self, reason: str) -> None:
        """The agent said why it is about to close the connection."""
        if self._lost is None:
            self._lost = f"the agent at {self.path} ended the connection: {reason}"

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        if self._lost is None:
            self._lost = "the connection was closed by this program"
        self._socket.close()

    def abandon(self) -> None:
        """In a forked child: closes its copy of the socket; the connection of its parent goes on. Takes no lock."""
        self.close()

    def send(self, data: bytes) -> None:
        """Hands `data` (whole frames) to the kernel. While the agent does not take it, what it sends is read."""
        with self._send_lock:
            rest: Any = data
            while True:
                self._check()
                try:
                    sent = self._socket.send(rest)
                except (BlockingIOError, InterruptedError):
                    self._wait_writable()
                    continue
                except OSError as error:
                    raise self._gone(str(error)) from None
                if sent == len(rest):
                    return
                rest = memoryview(rest)[sent:]

    def receive(self) -> None:
        """Reads once what is there and dispatches it. For the thread whose turn it is (see wait_until)."""
        self._check()
        try:
            frames = self._channel.receive()
        except (OSError, EOFError) as error:
            raise self._gone(str(error)) from None
        except Exception as error:
            raise self._gone(f"it sent something that is not a message: {error}") from error
        for kind, message in frames:
            self._dispatch(kind, message)

    def wait_until(self, done: Callable[[], bool], timeout: float | None = None, hook: WaitHook | None = None) -> bool:
        """Reads until `done()`; False when `timeout` seconds passed first."""
        deadline = None if timeout is None else time.monotonic() + timeout
        entered = False
        slow_at = time.monotonic() + _SLOW_WAIT_S if hook is not None else None
        try:
            while True:
                with self._turn:
                    self._sleepers += 1  # before looking: the reading thread looks the other way round
                    try:
                        while self._reading and not done():
                            left = _left(deadline)
                            if left == 0 or not self._turn.wait(left):
                                return done()
                    finally:
                        self._sleepers -= 1
                    if done():
                        return True
                    self._check()
                    self._reading = True
                try:
                    while not done():
                        self._check()
                        limit = deadline
                        if slow_at is not None and not entered:
                            limit = slow_at if deadline is None else min(deadline, slow_at)
                        readable = self._poll(_left(limit), hook if entered else None)
                        if readable:
                            if self._sleepers:  # what was read may be for them
                                with self._turn:
                                    self._turn.notify_all()
                            continue
                        now = time.monotonic()
                        if hook is not None and not entered and slow_at is not None and now >= slow_at:
                            entered = True
                            hook.enter()
                        if deadline is not None and now >= deadline:
                            return done()
                finally:
                    with self._turn:
                        self._reading = False
                        self._turn.notify_all()
        finally:
            if entered and hook is not None:
                hook.leave()

    def _poll(self, timeout: float | None, hook: WaitHook | None) -> bool:
        timeout_ms = -1 if timeout is None else min(_TIMEOUT_MAX_MS, math.ceil(max(0.0, timeout) * 1000))
        ready = self._channel.wait(timeout_ms, -1 if hook is None else hook.fileno())
        if ready & _READABLE:
            self.receive()
        if hook is not None and ready & _OTHER_READABLE:
            hook.service()
        return bool(ready)

    def _wait_writable(self) -> None:
        poller = select.poll()
        mine = False
        with self._turn:
            if not self._reading:
                self._reading = mine = True
        try:
            poller.register(self._socket, select.POLLOUT | (select.POLLIN if mine else 0))
            for _, events in poller.poll(100):
                if mine and events & select.POLLIN:
                    self.receive()
        finally:
            if mine:
                with self._turn:
                    self._reading = False
                    self._turn.notify_all()

    def _check(self) -> None:
        if self._lost is not None:
            raise AgentConnectionError(self._lost)

    def _gone(self, why: str) -> AgentConnectionError:
        if self._lost is None:
            self._lost = (
                f"the connection to the agent at {self.path} is gone ({why}). If the agent stopped, start it again with "
                "`shoal up` and re-run the program; `shoal status` shows whether it runs, `shoal doctor` why not"
            )
        return AgentConnectionError(self._lost)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _dial(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise AgentConnectionError(
            f"no agent answers at {path} ({error.strerror or error}). Start one with `shoal up`, or unset SHOAL_SOCKET "
            "to run the program sequentially, without an agent"
        ) from None
    sock.setblocking(False)
    return sock
