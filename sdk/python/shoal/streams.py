"""Streams: unbounded sequences of records between tasks, programs and devices.

    stream = ObjectStream("readings")
    stream.publish({"t": 21.5})
    for reading in stream:          # until the stream is closed
        ...

A stream may be a task's parameter (`STREAM_IN`, `STREAM_OUT`); tasks on its two ends run at the same time. It closes when
all its writers have closed: a task with STREAM_OUT closes when it ends, a main program calls `close()`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from shoal import _runtime, _serialize

_POLL_MAX = 500
_ITERATE_TIMEOUT_S = 5.0
_PUBLISH_BYTES_MAX = 4 << 20
CODECS = ("pickle", "json", "raw")
MODES = ("shared", "partitioned", "broadcast")


class Record(NamedTuple):
    """A record with everything known about it."""

    value: Any
    key: bytes | None
    timestamp_ms: int
    headers: dict[str, bytes]
    partition: int
    offset: int


class ObjectStream:
    """A stream of Python objects (`codec="pickle"`), JSON values (`"json"`) or bytes (`"raw"`, e.g. from MQTT).

    `name` identifies it in the federation (default: a new one). `url` is `shoal://` for the embedded log or
    `kafka://host:port/topic`. `durability` is how safe a record is before `publish` returns: memory, process, local.
    Consumers with the same `group` (default: the application) share the records: `mode` is `shared` (any consumer gets
    the next), `partitioned` (each partition to one) or `broadcast` (everybody gets all). With `auto_commit` a poll commits
    what the poll before it returned; without it the program calls `commit`.
    """

    _kind = "object"

    def __init__(
        self,
        name: str | None = None,
        url: str | None = None,
        partitions: int = 1,
        durability: str = "process",
        *,
        codec: str = "pickle",
        group: str | None = None,
        mode: str = "shared",
        auto_commit: bool = True,
    ) -> None:
        if codec not in CODECS:
            raise ValueError(f"codec={codec!r}: it is one of {', '.join(CODECS)}")
        if mode not in MODES:
            raise ValueError(f"mode={mode!r}: it is one of {', '.join(MODES)}")
        self.name = name or f"stream-{os.urandom(6).hex()}"
        self.url = url or "shoal://"
        self.partitions = partitions
        self.durability = durability
        self.codec = codec
        self.group = group
        self.mode = mode
        self.auto_commit = auto_commit
        self._drained = False
        self._consumer = os.urandom(16).hex()
        self._written_as: tuple[Any, str] | None = None
        self._request("open", kind=self._kind, url=self.url, partitions=partitions, durability=durability)

    @property
    def __shoal_stream__(self) -> str:
        return self.name

    # ---- writing ----
    def publish(self, value: Any, key: Any = None, timestamp_ms: int | None = None, headers: Any = None) -> None:
        """Appends one record; returns once it is as safe as `durability` says."""
        self._publish([[self._encode(value), _as_key(key), timestamp_ms, headers]])

    def publish_list(self, values: Iterable[Any]) -> None:
        """Appends many records with few messages."""
        records: list[list] = []
        size = 0
        for value in values:
            data = self._encode(value)
            if records and size + len(data) > _PUBLISH_BYTES_MAX:
                self._publish(records)
                records, size = [], 0
            records.append([data, None, None, None])
            size += len(data)
        if records:
            self._publish(records)

    def _publish(self, records: list[list]) -> None:
        self._request("publish", writer=self._writer(), records=records)

    def _writer(self) -> str:
        """Registers this process (or the running task) as a writer before its first record."""
        agent = _runtime.requester()
        if self._written_as is None or self._written_as[0] is not agent:
            writer = _writer_name(agent)
            agent.request("streams.add_writer", {"name": self.name, "writer": writer})
            self._written_as = (agent, writer)
        return self._written_as[1]

    def add_writer(self, session: Any, writer: str) -> None:
        """Registers a task as a writer; the SDK calls it before it submits a task with STREAM_OUT."""
        session.request("streams.add_writer", {"name": self.name, "writer": writer})
        session.stream_writers.add((self.name, writer))

    def close(self) -> None:
        """This program writes no more. The stream closes when all writers have closed."""
        agent = _runtime.requester()
        writer = self._written_as[1] if self._written_as is not None else _writer_name(agent)
        agent.request("streams.close", {"name": self.name, "writer": writer})
        self._written_as = None

    # ---- reading ----
    def poll(self, timeout: float | None = None, max: int = _POLL_MAX) -> list[Any]:
        """New records (their values), waiting up to `timeout` seconds (default 0) for the first. Empty: none came."""
        return [record.value for record in self.poll_records(timeout, max)]

    def poll_records(self, timeout: float | None = None, max: int = _POLL_MAX) -> list[Record]:
        """Like poll, with keys, timestamps, headers and offsets."""
        answer = self._request(
            "poll",
            group=self.group or _default_group(),
            mode=self.mode,
            consumer=self._consumer_name(),
            max=max,
            timeout_ms=round((timeout or 0) * 1000),
            offset="earliest",
            auto_commit=self.auto_commit,
        )
        self._drained = bool(answer.get("closed"))
        return [self._record(item) for item in answer["records"]]

    def __iter__(self) -> Iterator[Any]:
        """All records until the stream is closed and empty."""
        while True:
            yield from self.poll(_ITERATE_TIMEOUT_S)
            if self._drained:
                return

    def _consumer_name(self) -> str:
        """A task keeps its name when it runs again elsewhere: it takes over what its former self was reading."""
        return _runtime.attempt_writer() or self._consumer

    def commit(self, offsets: dict[int, int]) -> None:
        """Sets where the group goes on after this consumer: partition → offset of the next record to read.

        For streams with `auto_commit=False`; with `auto_commit` the next poll commits what the last one returned.
        """
        self._request(
            "commit",
            group=self.group or _default_group(),
            consumer=self._consumer_name(),
            offsets={str(partition): offset for partition, offset in offsets.items()},
        )

    def flush(self, timeout: float | None = None) -> None:
        """Waits until the stream's owner has every record published through this agent.

        Until then records lie in this agent's outbox: they survive its restart, but not the loss of its host. Call it
        before a commit that says their inputs are done. TimeoutError when the owner stays out of reach.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.001
        while (self._request("status").get("outbox") or {}).get("records"):
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"the owner of stream {self.name} did not take all records within {timeout:g} s")
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    def is_drained(self) -> bool:
        """True once a poll found the stream closed and everything of this consumer's share delivered."""
        return self._drained

    def is_closed(self) -> bool:
        """True once all writers have closed. Records may be left: poll once more after it."""
        return self._drained or bool(self._request("status").get("closed"))

    def status(self) -> dict[str, Any]:
        """What the agent knows about the stream: offsets, lag of groups, writers, rates."""
        return self._request("status")

    # ---- names of the DistroStream interface ----
    def get_stream_id(self) -> str:
        """The stream's name."""
        return self.name

    get_stream_alias = get_stream_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __reduce__(self) -> Any:
        state = {
            "name": self.name, "url": self.url, "partitions": self.partitions, "durability": self.durability,
            "codec": self.codec, "group": self.group or _default_group(), "mode": self.mode,
            "auto_commit": self.auto_commit,
        }  # fmt: skip
        return _attach, (type(self), state)

    # ---- inside ----
    def _request(self, method: str, **params: Any) -> Any:
        return _runtime.requester().request(f"streams.{method}", {"name": self.name, **params}) or {}

    def _encode(self, value: Any) -> bytes:
        if self.codec == "pickle":
            return _serialize.dumps(value).join()
        if self.codec == "json":
            import json

            return json.dumps(value).encode()
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        raise TypeError(f"stream {self.name} has codec 'raw': publish bytes, not {type(value).__name__}")

    def _decode(self, data: bytes) -> Any:
        if self.codec == "pickle":
            return _serialize.loads(data)
        if self.codec == "json":
            import json

            return json.loads(data)
        return data

    def _record(self, item: list) -> Record:
        value, key, timestamp_ms, headers, partition, offset = [*item, *[None] * 6][:6]
        return Record(self._decode(value), key, timestamp_ms or 0, headers or {}, partition or 0, offset or 0)


class FileStream(ObjectStream):
    """New files of a directory, as paths. A file is published once it has not changed between two looks at it.

    Files written under a temporary name and renamed into the directory are never seen half-written.
    """

    def __init__(self, name: str | None = None, base_dir: str = ".", **options: Any) -> None:
        self.base_dir = os.path.abspath(base_dir)
        self._seen: dict[str, tuple[int, int, bool]] = {}
        options.setdefault("codec", "json")
        super().__init__(name or f"files-{self.base_dir.strip('/').replace('/', '-')}", **options)

    def scan(self) -> int:
        """Publishes files that are new and stable; how many."""
        fresh = []
        for entry in sorted(os.scandir(self.base_dir), key=lambda e: e.name):
            try:
                if entry.name.startswith(".") or not entry.is_file():
                    continue
                facts = entry.stat()
            except FileNotFoundError:
                continue  # it went between the listing and the look at it
            size, mtime, published = self._seen.get(entry.path, (-1, -1, False))
            stable = (size, mtime) == (facts.st_size, facts.st_mtime_ns)
            if stable and not published:
                fresh.append(entry.path)
            self._seen[entry.path] = (facts.st_size, facts.st_mtime_ns, stable)
        if fresh:
            self.publish_list(fresh)
        return len(fresh)

    def poll_records(self, timeout: float | None = None, max: int = _POLL_MAX) -> list[Record]:
        """New files; looks at the directory as often as needed until `timeout`."""
        deadline = time.monotonic() + (timeout or 0)
        while True:
            self.scan()
            settled = all(published for *_, published in self._seen.values())
            step = 0.05 if settled else 0.01  # a file was seen for the first time: look again soon
            left = deadline - time.monotonic()
            records = super().poll_records(min(step, left) if left > 0 else 0, max)
            if records or left <= 0 or self._drained:
                return records

    def __reduce__(self) -> Any:
        attach, (kind, state) = super().__reduce__()
        return attach, (kind, {**state, "base_dir": self.base_dir})


def _attach(kind: type, state: dict[str, Any]) -> ObjectStream:
    return kind(**state)


def _writer_name(agent: Any) -> str:
    return _runtime.attempt_writer() or f"{agent.app.hex()}/main"


def _default_group() -> str:
    """Consumers of one application share: its id, also inside its tasks."""
    writer = _runtime.attempt_writer()
    return writer.partition("/")[0] if writer else _runtime.requester().app.hex()


def _as_key(key: Any) -> bytes | None:
    if key is None or isinstance(key, bytes):
        return key
    return str(key).encode()
