"""Parsl with its HighThroughputExecutor on this host."""

from __future__ import annotations

from typing import Any

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

import bodies
from shape import EXECUTORS, Peer, main


def true() -> str:
    """The command of a bash app."""
    return "/bin/true"


class Parsl(Peer):
    """`address` is named because its interchange binds to every address otherwise."""

    def version(self) -> str:
        return parsl.__version__

    def start(self) -> None:
        executor = HighThroughputExecutor(address="127.0.0.1", loopback_address="127.0.0.1",
                                          max_workers_per_node=EXECUTORS, worker_logdir_root=str(self.directory),
                                          provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1))
        self.kernel = parsl.load(Config(executors=[executor], run_dir=str(self.directory), usage_tracking=0,
                                        initialize_logging=False))
        self.same = parsl.python_app(bodies.same)
        self.plus_one = parsl.python_app(bodies.plus_one)
        self.total_of = parsl.python_app(bodies.total_of)
        self.true = parsl.bash_app(true)

    def stop(self) -> None:
        self.kernel.cleanup()

    def results(self, count: int) -> list[int]:
        futures = [self.same(i) for i in range(count)]
        return [future.result() for future in futures]

    def once(self, value: int) -> int:
        return self.same(value).result()

    def chain(self, count: int) -> int:
        value: Any = 0
        for _ in range(count):
            value = self.plus_one(value)
        return value.result()

    def fan_in(self, count: int) -> int:
        return self.total_of(*[self.plus_one(i) for i in range(count)]).result()

    def spawn(self, count: int) -> None:
        for future in [self.true() for _ in range(count)]:
            future.result()


if __name__ == "__main__":
    main(Parsl)
