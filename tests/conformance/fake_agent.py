"""A small agent in Python: enough of docs/client-protocol.md to test the Python SDK by itself.

One thread, one host, no placement: the tasks of an app run one after the other in program order (stream tasks beside
them), each in a real executor process. What it must not do: know anything about the SDK's inside; it imports only the
frame codec, the numbers of the protocol and the in-memory store and streams.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from shoal import _codec
from shoal._local import LocalAgent
from shoal._protocol import FRAME_MAX, AccessKind, Code, Direction, Kind, OnFailure, Outcome
from shoal.errors import RequestError, ShoalError

NOTHING = [0, [0]]
WRITES = {1, 2, 3, 4}
PATHS = {AccessKind.FILE, AccessKind.DIRECTORY, AccessKind.STDOUT, AccessKind.STDERR, AccessKind.STDIN}
EXECUTORS_MAX = 8


@dataclass
class Client:
    """A connection of whatever role."""

    sock: socket.socket
    number: int
    reader: _codec.FrameReader = field(default_factory=lambda: _codec.FrameReader(FRAME_MAX))
    role: str = ""
    app: App | None = None
    running: dict[int, tuple[App, Task]] = field(default_factory=dict)  # executors
    known: set[bytes] = field(default_factory=set)
    blocked: bool = False
    closed: bool = False

    def send(self, kind: int, message: list) -> None:
        """Sends one frame; the tests' peers always read."""
        self.sock.setblocking(True)
        try:
            self.sock.sendall(_codec.frame(kind, message))
        except OSError:
            self.closed = True


@dataclass
class Task:
    """One call."""

    number: int
    function: bytes
    accesses: list
    options: list
    groups: list[str]
    state: str = "waiting"  # running, final
    tries: int = 0
    run_us: int = 0
    outputs: list = field(default_factory=list)  # file names it is to create


@dataclass
class Failure:
    """Why a datum has no value."""

    code: int
    message: str
    error: bytes
    seen: bool = False


@dataclass
class App:
    """One driver connection."""

    ident: bytes
    client: Client
    python_path: list[str]
    functions: dict[bytes, list] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    data: dict[int, Any] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)
    poison: dict[Any, Failure] = field(default_factory=dict)  # data and paths whose readers are cancelled
    dead_groups: set[str] = field(default_factory=set)
    done: int = 0  # tasks before this one are final
    open_groups: list[str] = field(default_factory=list)
    failures: list[tuple[Task, Failure]] = field(default_factory=list)
    waits: list[tuple[int, list, list, int]] = field(default_factory=list)
    barriers: list[tuple[int, str, int]] = field(default_factory=list)


class FakeAgent:
    """`with FakeAgent() as agent:` then connect to `agent.socket`."""

    def __init__(self, python: str = sys.executable) -> None:
        self.python = python
        self.home = tempfile.mkdtemp(prefix="fake-agent-")
        self.arena = tempfile.mkdtemp(prefix="fake-agent-", dir="/dev/shm")
        self.socket = os.path.join(self.home, "agent.sock")
        self.services = LocalAgent()
        self.elastic: list[tuple[str, int, str]] = []  # requests for agents, and for fewer
        self.elastic_max = 0
        self.released: list[int] = []
        self.cancelled_attempts: list[int] = []
        self.hellos: list[list] = []
        self.once: list[dict] = []  # values that drivers had journalled
        self.once_before: list[dict] = []  # those of a run that is repeated
        self.frames: list[int] = []
        self._clients: dict[int, Client] = {}
        self._polls: list[tuple[Client, int, dict, float]] = []
        self._processes: list[subprocess.Popen] = []
        self._starting = 0  # executors that have not said hello yet
        self._attempts = 0
        self._files = 0
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket)
        self._listener.listen(16)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._wake, self._waker = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ, self._wake)
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> FakeAgent:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def stop(self) -> None:
        """Closes all connections, ends the executors. Idempotent."""
        self._stop = True
        self._waker.send(b"x")
        self._thread.join()
        for process in self._processes:
            process.wait(10)
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.rmtree(self.arena, ignore_errors=True)

    # ---- the loop ----
    def _run(self) -> None:
        while not self._stop:
            for key, _ in self._selector.select(0.02 if self._polls else None):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.data, Client):
                    self._read(key.data)
            self._serve_polls()
            self._advance()
        for client in list(self._clients.values()):
            client.sock.close()
        self._listener.close()
        self._selector.close()

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        client = Client(sock, len(self._clients) + 1)
        self._clients[client.number] = client
        self._selector.register(sock, selectors.EVENT_READ, client)

    def _read(self, client: Client) -> None:
        try:
            data = client.sock.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            self._gone(client)
            return
        for kind, message in client.reader.feed(data):
            self.frames.append(kind)
            self._handle(client, Kind(kind), message)

    def _gone(self, client: Client) -> None:
        client.closed = True
        self._selector.unregister(client.sock)
        client.sock.close()
        if client.app is not None:
            for task in client.app.tasks:
                task.state = "final"
        for app, task in client.running.values():
            self._fail(app, task, Outcome.EXECUTOR_LOST, "the executor process ended", b"", [])
        client.running.clear()

    def _handle(self, client: Client, kind: Kind, message: list) -> None:
        getattr(self, "_on_" + kind.name.lower())(client, message)

    # ---- clients ----
    def _on_hello(self, client: Client, message: list) -> None:
        self.hellos.append(message)
        client.role = message[1]
        ident = message[2] or uuid.uuid4().bytes
        if client.role == "executor":
            self._starting -= 1
        if client.role == "driver":
            client.app = App(ident, client, message[8])
        client.send(Kind.WELCOME, [1, bytes(16), ident, self.arena, 16384, client.number])

    def _on_register(self, client: Client, message: list) -> None:
        client.app.functions[message[0]] = message

    def _on_put_data(self, client: Client, message: list) -> None:
        client.app.data[message[0]] = message[1]

    def _on_submit(self, client: Client, message: list) -> None:
        app = client.app
        for number, function, accesses, options in message[0]:
            assert number == len(app.tasks) + 1, "task numbers are 1, 2, 3 …"
            chosen = options or app.functions[function][4]
            task = Task(number, function, accesses, chosen, list(app.open_groups))
            app.tasks.append(task)
            for group in app.dead_groups.intersection(task.groups):
                self._finish_failed(app, task, Failure(Code.CANCELLED, f"its group {group} was cancelled", b""))

    def _on_wait(self, client: Client, message: list) -> None:
        client.app.waits.append((*message[:3], len(client.app.tasks)))

    def _on_barrier(self, client: Client, message: list) -> None:
        client.app.barriers.append((message[0], message[1], len(client.app.tasks)))

    def _on_release(self, client: Client, message: list) -> None:
        self.released += message[0]
        for path in message[1]:
            client.app.files.pop(path, None)

    def _on_open_group(self, client: Client, message: list) -> None:
        client.app.open_groups.append(message[0])

    def _on_close_group(self, client: Client, message: list) -> None:
        client.app.open_groups.remove(message[0])

    def _on_cancel_group(self, client: Client, message: list) -> None:
        self._cancel_group(client.app, message[0], None)

    def _on_request(self, client: Client, message: list) -> None:
        number, method, params = message
        if method == "streams.poll" and params.get("timeout_ms"):
            self._polls.append((client, number, params, time.monotonic() + params["timeout_ms"] / 1000))
            return
        if method in ("elastic.grow", "elastic.shrink"):
            self.elastic.append((method, params["count"], params["group"]))
            granted = min(params["count"], self.elastic_max)
            client.send(Kind.REPLY, [number, 0, "", {"granted": granted, "max": self.elastic_max}, b""])
            return
        if method in ("app.tasks", "app.trace", "agent.agents", "agent.status"):
            client.send(Kind.REPLY, [number, 0, "", getattr(self, "_ask_" + method.split(".")[1])(client, params), b""])
            return
        if method in ("app.journal", "app.once", "app.snapshot"):
            client.send(Kind.REPLY, [number, 0, "", getattr(self, "_ask_" + method.split(".")[1])(client, params), b""])
            return
        if method == "store.put" and "shared" in params:
            path = os.path.join(self.arena, params["shared"])
            with open(path, "rb") as file:
                params["bytes"] = file.read()
            os.unlink(path)
        self._answer(client, number, method, params)

    def _ask_journal(self, client: Client, params: dict) -> dict:
        return {"journalled": True, "once": self.once_before}

    def _ask_once(self, client: Client, params: dict) -> dict:
        self.once.append(params)
        return {}

    def _ask_snapshot(self, client: Client, params: dict) -> dict:
        client.send(Kind.EVENT, ["app.notice", {"message": "a notice"}])
        return {"saved": bool(self.hellos[-1][9])}

    def _answer(self, client: Client, number: int, method: str, params: dict) -> None:
        try:
            result = self.services.request(method, params)
        except RequestError as error:
            client.send(Kind.REPLY, [number, error.code, str(error), None, b""])
            return
        except ShoalError as error:
            client.send(Kind.REPLY, [number, Code.UNSUPPORTED, str(error), None, b""])
            return
        if method == "store.get" and len(result["value"]) > 16384:
            data = result.pop("value")
            name = f"get.{number}.{client.number}"
            with open(os.path.join(self.arena, name), "wb") as file:
                file.write(data)
            result |= {"shared": name, "size": len(data)}
        client.send(Kind.REPLY, [number, 0, "", result, b""])

    def _ask_agents(self, client: Client, params: dict) -> dict:
        return {"agents": [{"name": "fake", "agent": "ab" * 16, "status": "alive", "region": "root", "computing_units": 2,
                            "labels": {"zone": "a"}}]}  # fmt: skip

    def _ask_status(self, client: Client, params: dict) -> dict:
        return {"name": "fake", "rss_bytes": 1 << 20, "executors": len(self._processes), "apps_running": 1}

    def _ask_trace(self, client: Client, params: dict) -> dict:
        made: dict[int, int] = {}
        rows = []
        for task in client.app.tasks:
            data = [a[2] for a in task.accesses if a[1] == AccessKind.DATUM and a[0] not in WRITES]
            rows.append({"task": task.number, "after": [made[d] for d in data if d in made]})
            made |= {a[2]: task.number for a in task.accesses if a[1] == AccessKind.DATUM and a[0] in WRITES}
        return {"tasks": rows}

    def _ask_tasks(self, client: Client, params: dict) -> dict:
        """Rows as the scheduler lists them."""
        rows = []
        for task in client.app.tasks:
            state = {"final": "done"}.get(task.state, task.state)
            if params.get("state") in (None, "", state):
                name = client.app.functions[task.function][1]
                rows.append({"task": task.number, "function": name, "state": state, "agent": "ab" * 16, "agent_name": "fake",
                             "attempts": task.tries + 1, "run_us": task.run_us})  # fmt: skip
        return {"tasks": rows[-params.get("limit", 100) :]}

    def _serve_polls(self) -> None:
        waiting, self._polls = self._polls, []
        for client, number, params, deadline in waiting:
            if client.closed:
                continue
            result = self.services.request("streams.poll", {**params, "timeout_ms": 0})
            if result["records"] or result["closed"] or time.monotonic() >= deadline:
                client.send(Kind.REPLY, [number, 0, "", result, b""])
            else:
                self._polls.append((client, number, params, deadline))

    # ---- executors ----
    def _on_done(self, client: Client, message: list) -> None:
        for number, outcome, text, error, outputs, run_us in message[0]:
            app, task = client.running.pop(number)
            task.run_us = run_us
            if outcome == Outcome.RETURNED:
                task.state = "waiting"
            elif task.state == "final":
                continue  # cancelled meanwhile
            elif outcome == Outcome.DONE:
                self._complete(app, task, outputs)
            else:
                self._fail(app, task, outcome, text, error, outputs)

    def _on_blocked(self, client: Client, message: list) -> None:
        client.blocked = message[1]

    def _complete(self, app: App, task: Task, outputs: list) -> None:
        task.state = "final"
        written = [a for a in task.accesses if a[0] in WRITES]
        assert len(outputs) == len(written), f"{len(outputs)} outputs for {len(written)} written accesses"
        for access, value in zip(written, outputs):
            if access[1] == AccessKind.DATUM:
                app.data[access[2]] = value
            elif value[0] == 3:
                app.files[access[4]] = value[1][0]

    def _fail(self, app: App, task: Task, outcome: int, text: str, error: bytes, outputs: list) -> None:
        policy = task.options[1]
        task.tries += 1
        if outcome == Outcome.GROUP_EXCEPTION:
            failure = Failure(Code.FAILED, text, error)
            self._complete_or_fill(app, task, outputs)
            if task.groups:
                app.failures.append((task, failure))
            for group in task.groups:
                self._cancel_group(app, group, task)
            return
        if outcome != Outcome.CANCELLED and policy == OnFailure.RETRY and task.tries <= task.options[2]:
            task.state = "waiting"
            return
        if policy in (OnFailure.IGNORE, OnFailure.CANCEL_SUCCESSORS):
            self._complete_or_fill(app, task, outputs)
            if policy == OnFailure.CANCEL_SUCCESSORS:
                cancelled = Failure(Code.CANCELLED, f"cancelled because of {text}", error)
                app.poison |= {a[2] if a[1] == AccessKind.DATUM else a[4]: cancelled for a in task.accesses if a[0] in WRITES}
            return
        code = {Outcome.TIMED_OUT: Code.TIMEOUT, Outcome.CANCELLED: Code.CANCELLED}.get(Outcome(outcome), Code.FAILED)
        failure = Failure(code, text, error)
        app.failures.append((task, failure))
        self._finish_failed(app, task, failure)

    def _complete_or_fill(self, app: App, task: Task, outputs: list) -> None:
        written = [a for a in task.accesses if a[0] in WRITES]
        self._complete(app, task, outputs if len(outputs) == len(written) else [NOTHING] * len(written))

    def _finish_failed(self, app: App, task: Task, failure: Failure) -> None:
        task.state = "final"
        for access in task.accesses:
            if access[0] in WRITES and access[1] == AccessKind.DATUM:
                app.data[access[2]] = failure
            elif access[0] in WRITES and access[1] in PATHS:
                app.files[access[4]] = failure

    def _cancel_group(self, app: App, group: str, raiser: Task | None) -> None:
        app.dead_groups.add(group)
        for task in app.tasks:
            if group not in task.groups or task is raiser or task.state == "final":
                continue
            for client in self._clients.values():
                numbers = [n for n, (_, running) in client.running.items() if running is task]
                if numbers:
                    self.cancelled_attempts += numbers
                    client.send(Kind.CANCEL, [numbers])
            self._finish_failed(app, task, Failure(Code.CANCELLED, f"its group {group} was cancelled", b""))

    # ---- scheduling ----
    def _advance(self) -> None:
        progress = True
        while progress:
            progress = False
            for client in list(self._clients.values()):
                if client.app is not None and not client.closed:
                    progress |= self._advance_app(client.app)
        for client in list(self._clients.values()):
            if client.app is not None and not client.closed:
                self._answer_waits(client.app)

    def _advance_app(self, app: App) -> bool:
        started = False
        while app.done < len(app.tasks) and app.tasks[app.done].state == "final":
            app.done += 1
        for task in app.tasks[app.done :]:
            streams = bool(task.options[5])
            if task.state == "waiting":
                failure = self._input_failure(app, task)
                if failure is not None:
                    self._finish_failed(app, task, failure)
                    started = True
                    continue
                if task.options[6]:
                    self._run_command(app, task)
                    started = True
                    continue
                executor = self._idle_executor()
                if executor is None:
                    return started
                self._launch(app, task, executor)
                started = True
            if task.state == "running" and not streams:
                break  # program order
        return started

    @staticmethod
    def _input_failure(app: App, task: Task) -> Failure | None:
        for access in task.accesses:
            if access[0] == Direction.OUT:
                continue
            source = app.data.get(access[2]) if access[1] == AccessKind.DATUM else app.files.get(access[4])
            poison = app.poison.get(access[2] if access[1] == AccessKind.DATUM else access[4])
            if poison is not None and (access[1] == AccessKind.DATUM or access[4]):
                return poison
            if isinstance(source, Failure):
                return Failure(source.code, f"an input failed: {source.message}", source.error)
        return None

    def _idle_executor(self) -> Client | None:
        executors = [c for c in self._clients.values() if c.role == "executor" and not c.closed]
        for client in executors:
            if not client.running:
                return client
        if not self._starting and len(executors) < EXECUTORS_MAX:
            self._start_executor()
        return None

    def _start_executor(self) -> None:
        import shoal

        source = os.path.dirname(os.path.dirname(shoal.__file__))
        environment = {**os.environ, "SHOAL_SOCKET": self.socket, "SHOAL_EXECUTOR_TOKEN": "t", "PYTHONPATH": source}
        environment.pop("SHOAL_APP", None)
        command = [self.python, "-m", "shoal.executor"]
        self._starting += 1
        self._processes.append(subprocess.Popen(command, env=environment, cwd=self.home, stdin=subprocess.DEVNULL))

    def _launch(self, app: App, task: Task, executor: Client) -> None:
        function = app.functions[task.function]
        if task.function not in executor.known:
            executor.known.add(task.function)
            executor.send(Kind.FUNCTION, [task.function, function[1], function[2], function[3], app.python_path])
        self._attempts += 1
        arguments = [self._argument(app, access) for access in task.accesses]
        task.state = "running"
        executor.running[self._attempts] = (app, task)
        attempt = [
            self._attempts, app.ident, task.number, task.tries + 1, task.function, arguments, task.options[3], [], "", True
        ]  # fmt: skip
        executor.send(Kind.RUN, [[attempt]])

    def _argument(self, app: App, access: list) -> list:
        direction, kind, datum, value, path, _, name = access
        items: list = []
        if kind == AccessKind.DATUM:
            value = NOTHING if direction == Direction.OUT else app.data[datum]
        elif kind == AccessKind.OBJECT:
            stored = self.services.request("store.get", {"object": value[1][0].hex()})
            value = [1, [stored["value"]]]
        elif kind in PATHS:
            current = app.files.get(path, path)
            if direction == Direction.OUT:
                value = [3, [self._new_file(path)]]
            else:
                value = [3, [current]]
                if direction in WRITES:
                    items = [[Direction.OUT, kind, [3, [self._new_file(path)]], [], ""]]
        else:
            value = value if kind == AccessKind.LITERAL else NOTHING
        return [direction, kind, value, items, name]

    def _new_file(self, path: str) -> str:
        self._files += 1
        return os.path.join(self.home, "files", f"{self._files}-{os.path.basename(path)}")

    def _run_command(self, app: App, task: Task) -> None:
        texts: dict[str, str] = {}
        streams: dict[str, Any] = {}
        outputs = []
        for access in task.accesses:
            argument = self._argument(app, access)
            kind, value, name = argument[1], argument[2], argument[4]
            if kind in PATHS:
                path = argument[3][0][2][1][0] if argument[3] else value[1][0]
                os.makedirs(os.path.dirname(path), exist_ok=True)
                if argument[3]:
                    shutil.copyfile(value[1][0], path)
                texts[name] = path
                stream = {AccessKind.STDOUT: "stdout", AccessKind.STDERR: "stderr", AccessKind.STDIN: "stdin"}.get(kind)
                if stream:
                    streams[stream] = open(path, "rb" if stream == "stdin" else "wb")  # noqa: SIM115
                if access[0] in WRITES:
                    outputs.append([3, [path]])
            elif not name.startswith("$"):
                texts[name] = str(_codec.unpack(value[1][0][16:]))
        command = [re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda m: texts[m.group(1)], word) for word in task.options[6]]
        code = subprocess.run(command, cwd=task.options[7] or None, check=False, **streams).returncode
        for stream in streams.values():
            stream.close()
        results = sum(access[6].startswith("$") for access in task.accesses)
        packed = _codec.pack_value(code)
        blob = b"SHL1\x02\0\0\0" + len(packed).to_bytes(8, "little") + packed
        if code and task.options[8]:
            self._fail(app, task, Outcome.EXCEPTION, f"the command ended with exit value {code}", b"", [])
        else:
            self._complete(app, task, outputs + [[1, [blob]]] * results)

    # ---- answers ----
    def _answer_waits(self, app: App) -> None:
        for wait in list(app.waits):
            request, data, files, upto = wait
            pending = self._pending(app, upto)
            if pending.isdisjoint(data) and pending.isdisjoint(files):
                app.waits.remove(wait)
                values = [self._result(app, d, app.data.get(d, NOTHING), "") for d in data]
                for path in files:
                    current = app.files.get(path)
                    values.append(self._result(app, 0, [3, [current]] if isinstance(current, str) else current, path))
                app.client.send(Kind.VALUES, [request, values])
        for barrier in list(app.barriers):
            request, group, upto = barrier
            if all(t.state == "final" for t in app.tasks[:upto] if not group or group in t.groups):
                app.barriers.remove(barrier)
                unseen = [f for t, f in app.failures if not f.seen and (not group or group in t.groups)]
                for failure in unseen[:1]:
                    failure.seen = True
                first = unseen[0] if unseen else Failure(0, "", b"")
                app.client.send(Kind.REPLY, [request, first.code, first.message, None, first.error])

    @staticmethod
    def _pending(app: App, upto: int) -> set:
        """Data and paths that unfinished tasks are going to write."""
        unfinished = (task for task in app.tasks[:upto] if task.state != "final")
        return {a[2] if a[1] == AccessKind.DATUM else a[4] for task in unfinished for a in task.accesses if a[0] in WRITES}

    @staticmethod
    def _result(app: App, datum: int, value: Any, path: str) -> list:
        if isinstance(value, Failure):
            value.seen = True
            for _, failure in app.failures:
                failure.seen |= failure.error == value.error
            return [datum, value.code, value.message, NOTHING, value.error, path]
        return [datum, 0, "", value or NOTHING, b"", path]
