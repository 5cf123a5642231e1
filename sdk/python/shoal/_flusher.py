"""The thread that sends what was queued and nobody flushed, about a millisecond later. One for the whole process."""

from __future__ import annotations

import threading
from typing import Any

FLUSH_AFTER_S = 0.001
_IDLE_ROUNDS = 20  # it looks around for so long before it sleeps: waking it costs more than a look


class Flusher:
    """A thread that calls `flush_late()` of those who armed it, every millisecond until it returns False."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._senders: list[Any] = []
        self._thread: threading.Thread | None = None

    def arm(self, sender: Any) -> None:
        """Calls `sender.flush_late()` every millisecond until it returns False."""
        with self._lock:
            self._senders.append(sender)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="shoal-flusher", daemon=True)
                self._thread.start()
        if not self._wake.is_set():
            self._wake.set()

    def forget_thread(self) -> None:
        """In a forked child, where the thread does not exist."""
        self.__init__()  # type: ignore[misc]

    def _run(self) -> None:
        pause = threading.Event()
        idle = 0
        while True:
            if idle >= _IDLE_ROUNDS:
                self._wake.wait()
            pause.wait(FLUSH_AFTER_S)
            with self._lock:
                senders, self._senders = self._senders, []
                self._wake.clear()
            idle = 0 if senders else idle + 1
            kept = [sender for sender in senders if self._flush(sender)]
            if kept:
                with self._lock:
                    self._senders += kept

    @staticmethod
    def _flush(sender: Any) -> bool:
        try:
            return sender.flush_late()
        except Exception:
            return False  # the next wait reports that the agent is gone


flusher = Flusher()
