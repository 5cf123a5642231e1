"""ObjectDistroStream and FileDistroStream over Shoal's streams."""

from __future__ import annotations

from enum import Enum
from typing import Any

from shoal import FileStream, ObjectStream, ShoalError
from shoal._decorators import not_supported


class ConsumerMode(Enum):
    """How often a record is delivered. Here always at least once, and once while nothing fails."""

    AT_MOST_ONCE = "at_most_once"
    AT_LEAST_ONCE = "at_least_once"


AT_MOST_ONCE = ConsumerMode.AT_MOST_ONCE
AT_LEAST_ONCE = ConsumerMode.AT_LEAST_ONCE


class RegistrationException(ShoalError):
    """A stream could not be registered."""


class BackendException(ShoalError):
    """A stream could not be read or written."""


class _MillisecondPolls:
    """poll() as DistroStream has it: time-out in milliseconds."""

    def poll(self, timeout: float | None = None, max: int = 500) -> list[Any]:
        """New records, waiting up to `timeout` milliseconds."""
        return super().poll(None if timeout is None else timeout / 1000, max)  # type: ignore[misc]

    def publish(self, message: Any, **options: Any) -> None:
        """Publishes one message."""
        super().publish(message, **options)  # type: ignore[misc]

    def __iter__(self) -> Any:
        """All records until the stream is closed and empty."""
        while True:
            yield from self.poll(5000)
            if self._drained:  # type: ignore[attr-defined]
                return

    def get_stream_type(self) -> str:
        """OBJECT or FILE."""
        return self.stream_type  # type: ignore[attr-defined]


class ObjectDistroStream(_MillisecondPolls, ObjectStream):
    """A stream of objects."""

    stream_type = "OBJECT"

    def __init__(self, alias: str | None = None, access_mode: ConsumerMode = AT_MOST_ONCE, **options: Any) -> None:
        del access_mode
        super().__init__(options.pop("name", alias), **options)


class FileDistroStream(_MillisecondPolls, FileStream):
    """A stream of the new files of a directory."""

    stream_type = "FILE"

    def __init__(
        self, alias: str | None = None, base_dir: str = ".", access_mode: ConsumerMode = AT_MOST_ONCE, **options: Any
    ) -> None:
        del access_mode
        super().__init__(options.pop("name", alias), base_dir, **options)


PscoDistroStream = not_supported("PscoDistroStream", "streams of persistent objects")
