"""A stand-in for the SDK's executor: speaks the protocol, and does what an attempt's first argument says.

Attempts of one message are answered together, so that a crash in the middle loses the results before it.
"""

import os
import signal
import socket
import struct
import subprocess
import sys
import time

import msgpack

HELLO, WELCOME, FUNCTION, RUN, CANCEL, DONE, BLOCKED = 1, 64, 96, 97, 98, 128, 129
OK, EXCEPTION, CANCELLED, RETURNED = 0, 1, 4, 7


class Interrupted(Exception):
    pass


class Executor:
    def __init__(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.environ["SHOAL_SOCKET"])
        self.results = []
        self.functions = 0
        self.running = None
        self.waiting = []
        self.input = b""
        self.send(HELLO, [1, "executor", None, os.environ["SHOAL_EXECUTOR_TOKEN"], os.getpid()])

    def send(self, kind, message):
        body = msgpack.packb([kind, message])
        self.sock.sendall(struct.pack("<I", len(body)) + body)

    def frames(self, wait):
        """The whole frames that have arrived; with `wait`, at least one."""
        while True:
            try:
                data = self.sock.recv(65536, 0 if wait else socket.MSG_DONTWAIT)
                if not data:
                    os._exit(0)
                self.input += data
            except BlockingIOError:
                pass
            out = []
            while len(self.input) >= 4:
                (length,) = struct.unpack("<I", self.input[:4])
                if len(self.input) < 4 + length:
                    break
                out.append(msgpack.unpackb(self.input[4 : 4 + length], raw=False))
                self.input = self.input[4 + length :]
            if out or not wait:
                return out

    def done(self, attempt, outcome=OK, message="", outputs=()):
        self.results.append([attempt, outcome, message, b"", [[1, [o.encode()]] for o in outputs], 10])

    def flush(self):
        results, self.results = self.results, []
        if results:
            self.send(DONE, [results])

    def take(self, frames):
        """Notes what was received; true when the running attempt is to stop."""
        stop = False
        for kind, message in frames:
            if kind == FUNCTION:
                self.functions += 1
            elif kind == RUN:
                self.waiting.extend(message[0])
            elif kind == CANCEL:
                for attempt in [a for a in self.waiting if a[0] in message[0]]:
                    self.waiting.remove(attempt)
                    self.done(attempt[0], CANCELLED)
                stop = stop or self.running in message[0]
        return stop

    def look(self, *_):
        """SIGUSR2: reads the socket at once, if an attempt runs."""
        if self.running is not None:
            stop = self.take(self.frames(wait=False))
            self.flush()
            if stop:
                raise Interrupted

    def serve(self):
        signal.signal(signal.SIGUSR2, self.look)
        while True:
            self.take(self.frames(wait=True))
            while self.waiting:
                self.run(self.waiting.pop(0), self.waiting)
            self.flush()

    def run(self, attempt, rest):
        number, arguments = attempt[0], attempt[5]
        action, _, detail = arguments[0][2][1][0].decode().partition(" ")
        try:
            self.running = number
            self.done(number, outputs=[str(getattr(self, "do_" + action)(attempt, detail, rest) or "")])
        except Interrupted:
            self.done(number, CANCELLED, "interrupted")
        except Exception as error:  # noqa: BLE001
            self.done(number, EXCEPTION, f"{type(error).__name__}: {error}")
        finally:
            self.running = None

    def do_echo(self, attempt, detail, rest):
        return detail

    def do_getenv(self, attempt, detail, rest):
        return os.environ.get(detail, "")

    def do_pid(self, attempt, detail, rest):
        return os.getpid()

    def do_functions(self, attempt, detail, rest):
        return self.functions

    def do_file(self, attempt, detail, rest):
        with open(attempt[5][1][2][1][0], "w") as out:
            out.write(detail)
        return attempt[5][1][2][1][0]

    def do_print(self, attempt, detail, rest):
        print(detail, flush=True)

    def do_close(self, attempt, detail, rest):
        os.close(1)
        os.close(2)
        return "closed"

    def do_sleep(self, attempt, detail, rest):
        self.flush()
        if detail:
            with open(detail, "w") as out:
                out.write("asleep")
        while True:
            time.sleep(1000)

    def do_stubborn(self, attempt, detail, rest):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        with open(detail, "w") as out:
            out.write(str(subprocess.Popen(["sleep", "1000"]).pid))
        while True:
            time.sleep(1000)

    def do_children(self, attempt, detail, rest):
        child = subprocess.Popen(["sleep", "1000"])
        with open(detail + ".tmp", "w") as out:
            out.write(str(child.pid))
        os.rename(detail + ".tmp", detail)
        while True:
            time.sleep(1000)

    def do_segv(self, attempt, detail, rest):
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)

    def do_exit(self, attempt, detail, rest):
        os._exit(int(detail))

    def do_last_words(self, attempt, detail, rest):
        self.done(attempt[0], outputs=["said"])
        self.flush()
        os._exit(0)

    def do_block(self, attempt, detail, rest):
        """Gives back what follows, and waits for a file."""
        self.send(BLOCKED, [attempt[0], True])
        for other in rest:
            self.done(other[0], RETURNED)
        rest.clear()
        self.flush()
        while not os.path.exists(detail):
            time.sleep(0.005)
        self.send(BLOCKED, [attempt[0], False])
        return "unblocked"


def one_executor():
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    Executor().serve()


def zygote(control):
    if os.environ.get("FAKE_ZYGOTE") == "broken":
        print("the fake zygote breaks", file=sys.stderr)
        sys.exit(1)
    if os.environ.get("FAKE_ZYGOTE") == "hangs":
        time.sleep(1000)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    os.write(control, b"ready\n")
    buffered = b""
    import select

    while True:
        ready, _, _ = select.select([control, wake], [], [])
        if wake in ready:
            os.read(wake, 100)
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if pid == 0:
                    break
                os.write(control, b"exit %d %d\n" % (pid, status))
        if control in ready:
            data = os.read(control, 4096)
            if not data:
                os.killpg(0, signal.SIGKILL)
            buffered += data
            while b"\n" in buffered:
                line, buffered = buffered.split(b"\n", 1)
                _, token, log = line.decode().split(" ", 2)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    os.setpgid(0, 0)
                    os.close(control)
                    for number, path in enumerate(log.split("\t"), 1):
                        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
                    os.environ["SHOAL_EXECUTOR_TOKEN"] = token
                    one_executor()
                    os._exit(0)
                os.write(control, b"pid %d\n" % pid)


if __name__ == "__main__":
    if "--zygote" in sys.argv:
        zygote(int(sys.argv[sys.argv.index("--control-fd") + 1]))
    else:
        one_executor()
