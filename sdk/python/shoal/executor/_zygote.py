"""The zygote: one interpreter that has imported what executors need and forks them in about two milliseconds."""

from __future__ import annotations

import os
import select
import signal
import sys

from shoal.executor import _process

_FORK_PAUSE_S = 0.05
_FORK_TRIES_MAX = 400  # 20 s: less than what the agent gives an executor to connect


class Zygote:
    """Forks executors on request (docs/client-protocol.md §5). Single-threaded, so that a fork is safe."""

    def __init__(self, control: int, socket_path: str) -> None:
        self._control = control
        self._socket_path = socket_path
        self._input = b""
        # Imported once, shared by all children.
        import pickle  # noqa: F401
        import traceback  # noqa: F401

        import cloudpickle  # noqa: F401

        import shoal.executor._loop  # noqa: F401

    def run(self) -> int:
        """Serves requests until the agent closes the control descriptor."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, lambda *_: None)
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(wake_read, select.POLLIN)
        self._say("ready")
        while True:
            for descriptor, _ in poller.poll():
                if descriptor == wake_read:
                    os.read(wake_read, 4096)
                    self._reap()
                elif not self._read():
                    return 0

    def _read(self) -> bool:
        try:
            data = os.read(self._control, 4096)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        self._input += data
        while b"\n" in self._input:
            line, _, self._input = self._input.partition(b"\n")
            words = line.decode("utf-8", "surrogateescape").split(" ", 2)
            if words[0] == "fork":
                self._fork(*words[1:3])
        return True

    def _fork(self, token: str = "", log: str = "") -> None:
        zygote = os.getpid()
        pid = self._forked()
        if pid:
            self._say(f"pid {pid}")
            return
        status = 1
        try:
            self._become_executor(zygote, token, log)
            from shoal.executor._loop import run_executor

            status = run_executor(self._socket_path, os.environ.get("SHOAL_EXECUTOR_TOKEN", ""))
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def _forked(self) -> int:
        """os.fork, tried again while the machine has no room: with the zygote, all its executors would end."""
        tries = 0
        while True:
            try:
                return os.fork()
            except OSError:
                tries += 1
                if tries > _FORK_TRIES_MAX:
                    raise
            self._reap()
            select.select([], [], [], _FORK_PAUSE_S)

    def _become_executor(self, zygote: int, token: str, log: str) -> None:
        _process.die_with_parent(zygote)
        os.setpgid(0, 0)  # the agent kills the group, and with it what a task left running
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._control)
        if token:
            os.environ["SHOAL_EXECUTOR_TOKEN"] = token
        out, _, err = log.partition("\t")
        for number, path in ((1, out), (2, err or out)):
            if path:
                descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
                os.dup2(descriptor, number)
                os.close(descriptor)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._say(f"exit {pid} {status}")

    def _say(self, line: str) -> None:
        data = line.encode() + b"\n"
        while data:
            try:
                data = data[os.write(self._control, data) :]
            except BlockingIOError:
                select.select([], [self._control], [])
            except OSError:
                return  # the agent is gone; the next read says so, too
