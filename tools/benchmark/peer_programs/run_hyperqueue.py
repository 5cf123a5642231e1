"""HyperQueue through the Python API of its wheel, in which server and workers are threads of the driver.

Its tasks are programs: a Python task starts an interpreter. They depend on each other by order and give no values back,
so results are what they left in files, and a chain and a fan-in only wait.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Any

import hyperqueue.client
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
from hyperqueue.task.function import PythonEnv

import bodies
from shape import EXECUTORS, Peer, main


class HyperQueue(Peer):
    """One executor is a worker with one core."""

    def version(self) -> str:
        return importlib.metadata.version("hyperqueue")

    def start(self) -> None:
        hyperqueue.client.create_progress_callback = lambda: lambda _: None  # its progress bar costs time
        self.cluster = LocalCluster(str(self.directory))
        for _ in range(EXECUTORS):
            self.cluster.start_worker(WorkerConfig(cores=1))
        self.client = self.cluster.client(python_env=PythonEnv(python_bin=sys.executable))

    def stop(self) -> None:
        self.cluster.stop()

    def function(self, job: Job, function: Any, value: Any, after: Sequence[Any] = ()) -> Any:
        """Adds a Python task."""
        return job.function(function, args=(value,), deps=after, stdout=None, stderr=None)

    def job(self) -> Job:
        """An empty one."""
        return Job(default_workdir=str(self.directory))

    def finish(self, job: Job) -> None:
        """Submits and waits; an error if a task failed."""
        self.client.wait_for_jobs([self.client.submit(job)])

    def results(self, count: int) -> list[int]:
        job = self.job()
        for i in range(count):
            self.function(job, bodies.same, i)
        self.finish(job)
        return list(range(count))  # the tasks have run; there is nothing to fetch

    def once(self, value: int) -> int:
        job = self.job()
        self.function(job, bodies.same, value)
        self.finish(job)
        return value

    def chain(self, count: int) -> int:
        job = self.job()
        before: list[Any] = []
        for i in range(count):
            before = [self.function(job, bodies.plus_one, i, before)]
        self.finish(job)
        return count

    def fan_in(self, count: int) -> int:
        job = self.job()
        parts = [self.function(job, bodies.plus_one, i) for i in range(count)]
        self.function(job, bodies.total, [0], parts)
        self.finish(job)
        return count * (count + 1) // 2

    def spawn(self, count: int) -> None:
        job = self.job()
        for _ in range(count):
            job.program(["/bin/true"], stdout=None, stderr=None)
        self.finish(job)


if __name__ == "__main__":
    main(HyperQueue)
