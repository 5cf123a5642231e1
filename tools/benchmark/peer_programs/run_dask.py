"""Dask distributed: scheduler and workers are processes of their own, as where it is deployed; no nanny, no dashboard."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import distributed

import bodies
from shape import EXECUTORS, Peer, main

START_PATIENCE_S = 30
STOP_PATIENCE_S = 5


class Dask(Peer):
    """`pure=False`: otherwise equal calls are computed once."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.daemons: list[subprocess.Popen[bytes]] = []

    def version(self) -> str:
        return distributed.__version__

    def start(self) -> None:
        place = self.directory / "scheduler.json"
        self.run("dask_scheduler", "--port", "0", "--scheduler-file", str(place))
        deadline = time.monotonic() + START_PATIENCE_S
        while not place.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        for _ in range(EXECUTORS):
            self.run("dask_worker", "--scheduler-file", str(place), "--nworkers", "1", "--nthreads", "1", "--no-nanny",
                     "--local-directory", str(self.directory))
        self.client = distributed.Client(scheduler_file=str(place), timeout=START_PATIENCE_S)

    def run(self, module: str, *arguments: str) -> None:
        """Starts one daemon."""
        command = [sys.executable, "-m", f"distributed.cli.{module}", "--host", "127.0.0.1", "--no-dashboard",
                   "--dashboard-address", "127.0.0.1:0", *arguments]  # an HTTP server it is, even without a dashboard
        self.daemons.append(subprocess.Popen(command, cwd=self.directory, stdin=subprocess.DEVNULL))

    def settle(self) -> None:
        self.client.wait_for_workers(EXECUTORS, timeout=START_PATIENCE_S)

    def stop(self) -> None:
        self.client.close()
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(STOP_PATIENCE_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def results(self, count: int) -> list[int]:
        return self.client.gather(self.client.map(bodies.same, range(count), pure=False))

    def once(self, value: int) -> int:
        return self.client.submit(bodies.same, value, pure=False).result()

    def chain(self, count: int) -> int:
        value: Any = 0
        for _ in range(count):
            value = self.client.submit(bodies.plus_one, value, pure=False)
        return value.result()

    def fan_in(self, count: int) -> int:
        parts = self.client.map(bodies.plus_one, range(count), pure=False)
        return self.client.submit(bodies.total, parts, pure=False).result()

    def put(self, array: Any) -> Any:
        return self.client.scatter(array, hash=False)

    def use(self, handle: Any) -> int:
        return self.client.submit(bodies.ends, handle, pure=False).result()


if __name__ == "__main__":
    main(Dask)
