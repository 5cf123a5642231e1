"""Stand-ins for a program that runs without an agent: a store and streams in memory, commands run at once."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import shlex
import subprocess
import sys
import threading
import time
from typing import Any

from shoal._protocol import Code, Direction
from shoal.errors import TaskFailedError, request_error
from shoal.parameter import TYPE


class LocalAgent:
    """Answers store and stream requests like an agent would, from this process's memory. Thread-safe."""

    inline_max = sys.maxsize
    app = bytes(16)
    arena: Any = None

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._objects: dict[str, tuple[bytes, str]] = {}
        self._aliases: dict[str, str] = {}
        self._streams: dict[str, _Stream] = {}
        self.stream_writers: set[tuple[str, str]] = set()

    def request(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a request, or the exception it stands for."""
        handler = getattr(self, "_" + method.replace(".", "_"), None)
        if handler is None:
            raise request_error(Code.UNSUPPORTED, f"{method} needs an agent: run the program with `shoal run`")
        with self._changed:
            return handler(params)

    # ---- store ----
    def _store_put(self, params: dict[str, Any]) -> dict:
        data = bytes(params["bytes"])
        name = hashlib.sha256(data).digest()[:16].hex()
        self._objects[name] = (data, params.get("type", ""))
        return {"object": name, "level": "memory", "copies": 1}

    def _store_get(self, params: dict[str, Any]) -> dict:
        name = params.get("object") or self._alias(params["alias"])
        if name not in self._objects:
            raise request_error(Code.NOT_FOUND, f"there is no object {name}")
        data, kind = self._objects[name]
        return {"value": data, "type": kind, "object": name}

    def _alias(self, alias: str) -> str:
        if alias not in self._aliases:
            raise request_error(Code.NOT_FOUND, f"there is no alias {alias!r}")
        return self._aliases[alias]

    def _store_set_alias(self, params: dict[str, Any]) -> dict:
        if params.get("must_be_new") and params["alias"] in self._aliases:
            raise request_error(Code.EXISTS, f"the alias {params['alias']!r} is taken; choose another name")
        self._aliases[params["alias"]] = params["object"]
        return {"level": "memory", "copies": 1}

    def _store_get_alias(self, params: dict[str, Any]) -> dict:
        return {"object": self._alias(params["alias"])}

    def _store_delete_alias(self, params: dict[str, Any]) -> None:
        self._alias(params["alias"])
        del self._aliases[params["alias"]]

    def _store_delete(self, params: dict[str, Any]) -> None:
        self._objects.pop(params["object"], None)

    def _store_list(self, params: dict[str, Any]) -> dict:
        prefix = params.get("prefix", "")
        rows = [{"alias": a, "object": o} for a, o in sorted(self._aliases.items()) if a.startswith(prefix)]
        return {"objects": rows}

    # ---- streams ----
    def _stream(self, params: dict[str, Any]) -> _Stream:
        name = params["name"]
        if name not in self._streams:
            raise request_error(Code.NOT_FOUND, f"there is no stream {name!r}")
        return self._streams[name]

    def _streams_open(self, params: dict[str, Any]) -> dict:
        self._streams.setdefault(params["name"], _Stream())
        return {"name": params["name"]}

    def _streams_add_writer(self, params: dict[str, Any]) -> None:
        stream = self._stream(params)
        stream.writers.add(params["writer"])
        stream.closed = False

    def _streams_close(self, params: dict[str, Any]) -> dict:
        stream = self._stream(params)
        stream.writers.discard(params["writer"])
        stream.closed = not stream.writers
        self._changed.notify_all()
        return {"closed": stream.closed}

    def _streams_publish(self, params: dict[str, Any]) -> dict:
        stream = self._stream(params)
        first = len(stream.records)
        for value, key, timestamp_ms, headers in params["records"]:
            when = timestamp_ms if timestamp_ms is not None else int(time.time() * 1000)
            stream.records.append([value, key, when, headers or {}, 0, len(stream.records)])
        self._changed.notify_all()
        return {"offsets": [first, len(stream.records) - 1]}

    def _streams_poll(self, params: dict[str, Any]) -> dict:
        stream = self._stream(params)
        reader = (params["group"], params["consumer"] if params.get("mode") == "broadcast" else "")
        deadline = time.monotonic() + params.get("timeout_ms", 0) / 1000
        while stream.positions.get(reader, 0) >= len(stream.records) and not stream.closed:
            left = deadline - time.monotonic()
            if left <= 0 or not self._changed.wait(left):
                break
        start = stream.positions.get(reader, 0)
        records = stream.records[start : start + params["max"]]
        stream.positions[reader] = start + len(records)
        return {"records": records, "closed": stream.closed and start + len(records) == len(stream.records)}

    def _streams_commit(self, params: dict[str, Any]) -> dict:
        return {}

    def _streams_status(self, params: dict[str, Any]) -> dict:
        stream = self._stream(params)
        return {
            "name": params["name"], "closed": stream.closed, "records": len(stream.records),
            "writers": [{"writer": writer, "open": True} for writer in sorted(stream.writers)],
        }  # fmt: skip

    def _streams_list(self, params: dict[str, Any]) -> dict:
        return {"streams": [self._streams_status({"name": name}) for name in sorted(self._streams)]}


class _Stream:
    def __init__(self) -> None:
        self.records: list[list] = []
        self.positions: dict[tuple[str, str], int] = {}
        self.writers: set[str] = set()
        self.closed = False


def apply_defaults(task: Any, defaults: dict[str, Any], args: tuple, kwargs: dict) -> None:
    """What @on_failure declares for written parameters, after a failure that is ignored."""
    import os
    import shutil

    from shoal.api import _refresh

    bound = inspect.signature(task.function).bind(*args, **kwargs).arguments
    for name, default in defaults.items():
        if name == "returns" or name not in bound or task.parameter_of(name).direction is Direction.IN:
            continue
        if task.parameter_of(name).content is not TYPE.FILE:
            _refresh(bound[name], default)
        elif os.path.exists(default):
            shutil.copyfile(default, bound[name])


def run_binary(task: Any, args: tuple, kwargs: dict) -> Any:
    """Runs the command of a @binary task at once; its exit value if the task declares a result."""
    bound = inspect.signature(task.function).bind(*args, **kwargs)
    bound.apply_defaults()
    command, working_dir, redirects = task.command_line(bound.arguments)
    with contextlib.ExitStack() as files:
        streams = {name: files.enter_context(open(path, mode)) for name, (path, mode) in redirects.items()}
        try:
            code = subprocess.run(command, cwd=working_dir or None, check=False, **streams).returncode
        except OSError as error:
            raise TaskFailedError(f"{shlex.join(command)} cannot be run: {error.strerror}") from error
    if code and task.fails_by_exit_value:
        raise TaskFailedError(f"{shlex.join(command)} ended with exit value {code}")
    return code if task.declares_results else None
