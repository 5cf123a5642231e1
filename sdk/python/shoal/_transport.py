"""The connection to the agent: whole frames out, decoded frames in.

No thread of its own. Whoever waits for something reads, for everybody: the first waiting thread reads and dispatches
until its own answer is there, the others sleep on a condition.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from shoal import _codec
from shoal._protocol import FRAME_MAX
from shoal.errors import AgentConnectionError

_RECEIVE_BYTES = 256 << 10
_SLOW_WAIT_S = 0.001


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
        self._reader = _codec.FrameReader(FRAME_MAX)
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
            view = memoryview(data)
            while view:
                self._check()
                try:
                    view = view[self._socket.send(view) :]
                except (BlockingIOError, InterruptedError):
                    self._wait_writable()
                except OSError as error:
                    raise self._gone(str(error)) from None

    def receive(self) -> None:
        """Reads once what is there and dispatches it. For the thread whose turn it is (see wait_until)."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            raise self._gone(str(error)) from None
        if not data:
            raise self._gone("it closed the connection")
        try:
            frames = self._reader.feed(data)
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
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        if hook is not None:
            poller.register(hook.fileno(), select.POLLIN)
        ready = poller.poll(None if timeout is None else max(0.0, timeout) * 1000)
        own = self._socket.fileno()
        for descriptor, _ in ready:
            if descriptor == own:
                self.receive()
            elif hook is not None:
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
