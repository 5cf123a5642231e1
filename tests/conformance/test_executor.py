# Goal: the executor keeps its side of docs/client-protocol.md §5, whatever is sent.
# Method: the test is the agent: it sends Function and Run by hand to a real executor and reads what comes back.

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

import shoal
from shoal import _codec, _function, _serialize
from shoal._protocol import Kind, Outcome

SOURCE = os.path.dirname(os.path.dirname(shoal.__file__))
NOTHING = [0, [0]]
RESULT = [1, 1, NOTHING, [], "$0"]


class Peer:
    """One accepted connection."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(20)
        self.reader = _codec.FrameReader(1 << 20)
        self.inbox = []

    def send(self, kind, message):
        self.sock.sendall(_codec.frame(kind, message))

    def receive(self):
        while not self.inbox:
            data = self.sock.recv(1 << 16)
            assert data, "the process closed the connection"
            self.inbox += self.reader.feed(data)
        return self.inbox.pop(0)

    def ended(self):
        """True once the process at the other end is gone."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def results(self, count):
        """The next `count` results as {attempt: result}; other messages are skipped."""
        found = {}
        while len(found) < count:
            kind, message = self.receive()
            if kind == Kind.DONE:
                found.update({result[0]: result for result in message[0]})
        return found


class Harness:
    def __init__(self, directory):
        self.directory = str(directory)
        self.path = os.path.join(self.directory, "s")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        self.listener.settimeout(20)
        self.processes = []
        self.functions = 0

    def spawn(self, *words, **options):
        environment = {**os.environ, "SHOAL_SOCKET": self.path, "SHOAL_EXECUTOR_TOKEN": "token-7", "PYTHONPATH": SOURCE}
        command = [sys.executable, "-m", "shoal.executor", *words]
        process = subprocess.Popen(command, env=environment, **options)
        self.processes.append(process)
        return process

    def accept(self, role="executor"):
        peer = Peer(self.listener.accept()[0])
        kind, hello = peer.receive()
        assert kind == Kind.HELLO
        assert hello[1] == role
        peer.hello = hello
        peer.send(Kind.WELCOME, [1, bytes(16), b"a" * 16, self.directory, 16384, 1])
        return peer

    def function(self, peer, function, **spec):
        self.functions += 1
        ident = self.functions.to_bytes(16, "big")
        payload = _function.pack_function(function, spec, function.__name__)
        peer.send(Kind.FUNCTION, [ident, function.__name__, "python", payload, []])
        return ident

    def close(self):
        self.listener.close()
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def harness(tmp_path):
    made = Harness(tmp_path)
    yield made
    made.close()


def attempt(number, function, arguments=(), timeout_ms=0):
    return [number, b"a" * 16, number, 1, function, list(arguments), timeout_ms, [], "", True]


def test_code_of_another_python_is_refused_before_it_is_loaded(harness, monkeypatch):
    def double(x):
        return 2 * x

    by_value = _function.pack_function(double, {}, "double")
    assert _function.unpack_function(by_value)[0](4) == 8
    monkeypatch.setattr(sys, "version_info", (3, 7, 1, "final", 0))
    by_reference = _function.pack_function(os.path.basename, {}, "basename")
    old = _function.pack_function(double, {}, "double")
    monkeypatch.undo()
    assert _function.unpack_function(by_reference)[0]("a/b") == "b"
    text = r"program that runs Python 3\.7, and this agent runs tasks with Python .*--python"
    with pytest.raises(_function.OtherPythonError, match=text):
        _function.unpack_function(old)
    harness.spawn()
    peer = harness.accept()
    peer.send(Kind.FUNCTION, [b"f" * 16, "double", "python", old, []])
    peer.send(Kind.RUN, [[attempt(1, b"f" * 16, [record(4), RESULT])]])
    assert peer.results(1)[1][1] == Outcome.NOT_STARTED


def record(*args, **kwargs):
    return [0, 0, [1, [_serialize.dumps((list(args), kwargs, [])).join()]], [], "*"]


def value_of(result):
    return _serialize.loads(result[4][0][1][0])


def test_greeting_results_and_end(harness):
    process = harness.spawn()
    peer = harness.accept()
    assert peer.hello[3] == "token-7"
    assert peer.hello[4] == process.pid
    add = harness.function(peer, lambda a, b=1: a + b)
    peer.send(Kind.RUN, [[attempt(1, add, [record(1), RESULT]), attempt(2, add, [record(1, b=5), RESULT])]])
    results = peer.results(2)
    assert [value_of(results[n]) for n in (1, 2)] == [2, 6]
    assert results[1][1] == Outcome.DONE
    peer.sock.close()
    assert process.wait(10) == 0


def test_without_a_record_parameters_are_positional(harness):
    harness.spawn()
    peer = harness.accept()
    three = [1, [b"SHL1\x02\0\0\0\x01\0\0\0\0\0\0\0\x03"]]
    square = harness.function(peer, lambda x: x * x)
    peer.send(Kind.RUN, [[attempt(1, square, [[0, 0, three, [], "x"], RESULT])]])
    assert value_of(peer.results(1)[1]) == 9


def test_unknown_function_and_bad_record_are_failures(harness):
    harness.spawn()
    peer = harness.accept()
    known = harness.function(peer, lambda: None)
    peer.send(Kind.FUNCTION, [b"x" * 16, "broken", "python", b"not a pickle", []])
    junk = [0, 0, [1, [b"junk"]], [], "*"]
    runs = [attempt(1, b"?" * 16), attempt(2, b"x" * 16), attempt(3, known, [junk]), attempt(4, known)]
    peer.send(Kind.RUN, [runs])
    results = peer.results(4)
    assert [results[n][1] for n in (1, 2, 3, 4)] == [Outcome.EXCEPTION] * 3 + [Outcome.DONE]
    assert "had not sent" in results[1][2]


def test_blocked_attempt_gives_back_what_was_not_started(harness):
    harness.spawn()
    peer = harness.accept()

    def nested():
        from shoal import _runtime

        return _runtime.requester().request("anything", {})

    waits = harness.function(peer, nested)
    quick = harness.function(peer, lambda: None)
    peer.send(Kind.RUN, [[attempt(1, waits, [RESULT]), attempt(2, quick), attempt(3, quick)]])
    driver = harness.accept("driver")
    assert driver.hello[6] == 1
    kind, message = driver.receive()
    assert kind == Kind.REQUEST
    assert peer.receive() == [Kind.BLOCKED, [1, True]]
    returned = peer.results(2)
    assert {n: r[1] for n, r in returned.items()} == {2: Outcome.RETURNED, 3: Outcome.RETURNED}
    peer.send(Kind.RUN, [[attempt(4, quick)]])
    assert peer.results(1)[4][1] == Outcome.RETURNED
    driver.send(Kind.REPLY, [message[0], 0, "", "answer", b""])
    assert peer.receive() == [Kind.BLOCKED, [1, False]]
    assert value_of(peer.results(1)[1]) == "answer"
    peer.send(Kind.RUN, [[attempt(5, quick)]])
    assert peer.results(1)[5][1] == Outcome.DONE


def test_cancel_while_blocked(harness):
    harness.spawn()
    peer = harness.accept()

    def nested():
        from shoal import _runtime

        try:
            _runtime.requester().request("anything", {})
        except Exception:
            return "swallowed"

    waits = harness.function(peer, nested)
    peer.send(Kind.RUN, [[attempt(1, waits)]])
    driver = harness.accept("driver")
    driver.receive()
    assert peer.receive() == [Kind.BLOCKED, [1, True]]
    peer.send(Kind.CANCEL, [[1]])
    assert peer.results(1)[1][1] == Outcome.CANCELLED


def test_cancel_queued_and_running_by_signal(harness, tmp_path):
    process = harness.spawn()
    peer = harness.accept()

    def sleep(path):
        import time

        open(path, "w").close()
        time.sleep(30)

    started = tmp_path / "started"
    sleeper = harness.function(peer, sleep)
    quick = harness.function(peer, lambda: None)
    peer.send(Kind.RUN, [[attempt(1, sleeper, [record(str(started))]), attempt(2, quick), attempt(3, quick)]])
    deadline = time.monotonic() + 10
    while not started.exists():
        assert time.monotonic() < deadline
    peer.send(Kind.CANCEL, [[1, 2]])
    process.send_signal(signal.SIGUSR2)
    results = peer.results(3)
    assert [results[n][1] for n in (1, 2, 3)] == [Outcome.CANCELLED, Outcome.CANCELLED, Outcome.DONE]


def test_time_out(harness):
    harness.spawn()
    peer = harness.accept()

    def sleep():
        import time

        time.sleep(30)

    peer.send(Kind.RUN, [[attempt(1, harness.function(peer, sleep), timeout_ms=50)]])
    result = peer.results(1)[1]
    assert result[1] == Outcome.TIMED_OUT
    assert "0.05 s" in result[2]


def test_results_before_a_long_attempt_are_not_held_back(harness):
    harness.spawn()
    peer = harness.accept()

    def maybe(long):
        import time

        time.sleep(30 if long else 0)

    function = harness.function(peer, maybe)
    peer.send(Kind.RUN, [[attempt(1, function, [record(False)])]])
    peer.results(1)
    peer.send(Kind.RUN, [[attempt(2, function, [record(False)]), attempt(3, function, [record(True)])]])
    assert peer.results(1).keys() == {2}


def test_output_is_flushed_with_the_result(harness):
    process = harness.spawn(stdout=subprocess.PIPE)
    peer = harness.accept()
    peer.send(Kind.RUN, [[attempt(1, harness.function(peer, lambda: print("said", end="")))]])
    peer.results(1)
    os.set_blocking(process.stdout.fileno(), False)
    assert process.stdout.read() == b"said"


def test_working_directory_and_redirects_do_not_leak(harness):
    harness.spawn()
    peer = harness.accept()

    def wander():
        import io
        import os
        import sys

        os.chdir("/")
        sys.stdout = io.StringIO()

    def where():
        import os
        import sys

        return os.getcwd(), type(sys.stdout).__name__

    first, second = harness.function(peer, wander), harness.function(peer, where)
    peer.send(Kind.RUN, [[attempt(1, first), attempt(2, second, [RESULT])]])
    assert value_of(peer.results(2)[2]) == (os.getcwd(), "TextIOWrapper")


class Zygote:
    def __init__(self, harness):
        self.own, theirs = socket.socketpair()
        self.own.settimeout(20)
        words = ["--zygote", "--control-fd", str(theirs.fileno())]
        self.process = harness.spawn(*words, pass_fds=[theirs.fileno()])
        theirs.close()
        self.file = self.own.makefile("r")

    def ask(self, line):
        self.own.sendall(line.encode() + b"\n")
        return self.file.readline().split()


def test_zygote_forks_reports_and_ends(harness, tmp_path):
    zygote = Zygote(harness)
    assert zygote.file.readline() == "ready\n"
    log = tmp_path / "log file"
    errors = tmp_path / "error file"
    begin = time.perf_counter()
    word, pid = zygote.ask(f"fork special {log}\t{errors}")
    took = time.perf_counter() - begin
    assert word == "pid"
    peer = harness.accept()
    assert (peer.hello[3], peer.hello[4]) == ("special", int(pid))

    def prints() -> None:
        print("logged")
        print("bad", file=sys.stderr)

    peer.send(Kind.RUN, [[attempt(1, harness.function(peer, prints))]])
    assert peer.results(1)[1][1] == Outcome.DONE
    assert log.read_text() == "logged\n"
    assert errors.read_text() == "bad\n"
    os.kill(int(pid), signal.SIGKILL)
    assert zygote.file.readline().split() == ["exit", pid, "9"]
    zygote.ask("fork")
    survivor = harness.accept()
    assert survivor.hello[3] == "token-7"
    zygote.own.shutdown(socket.SHUT_RDWR)
    assert zygote.process.wait(10) == 0
    assert survivor.ended()  # its process died with the zygote
    assert took < 1


def test_executor_dies_with_its_parent(harness):
    code = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-m', 'shoal.executor']); input()"
    environment = {**os.environ, "SHOAL_SOCKET": harness.path, "PYTHONPATH": SOURCE}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE)
    peer = harness.accept()
    parent.kill()
    parent.wait()
    assert peer.ended()


def test_no_agent_given():
    environment = {key: value for key, value in os.environ.items() if key != "SHOAL_SOCKET"}
    environment["PYTHONPATH"] = SOURCE
    command = [sys.executable, "-m", "shoal.executor"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pass --socket or set SHOAL_SOCKET" in done.stderr


def test_a_function_that_cannot_be_loaded_keeps_nothing_of_its_attempts():
    from shoal.executor._attempt import Attempt, LoadedFunction

    function = LoadedFunction("broken", b"no pickle")
    depths = []
    for _ in range(3):
        with pytest.raises(Exception) as caught:  # whatever pickle says
            Attempt(function, [], None, 0).call()
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1


def test_a_zygote_outlives_a_machine_without_room_for_processes(monkeypatch):
    from shoal.executor import _zygote

    mine, its = socket.socketpair()
    answers = iter([BlockingIOError(11, "no room"), BlockingIOError(11, "no room"), 4711])

    def fork():
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(_zygote.os, "fork", fork)
    monkeypatch.setattr(_zygote, "_FORK_PAUSE_S", 0)
    zygote = _zygote.Zygote(its.fileno(), "unused")
    mine.sendall(b"fork token\n")
    assert zygote._read()
    assert mine.recv(100) == b"pid 4711\n"
    mine.close()
    its.close()
