"""Shoal: one agent with two computing units. Its realm is founded before anything is measured: once, as on a real host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import bodies
import idle
import shoal
from cluster import Cluster
from shape import EXECUTORS, Peer, main

BINARIES = "BENCH_SHOAL_BIN"  # directory of the programs

same = shoal.task(returns=1)(bodies.same)
plus_one = shoal.task(returns=1)(bodies.plus_one)
total = shoal.task(returns=1)(bodies.total)
ends = shoal.task(returns=1)(bodies.ends)


@shoal.binary(binary="/bin/true")
@shoal.task()
def true() -> None:
    """A command."""


class Shoal(Peer):
    """Everything else is the agent's default: journal, versions, leases."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.cluster = Cluster(directory, Path(os.environ[BINARIES]))

    def prepare(self) -> None:
        self.agent = self.cluster.found("bench", computing_units=EXECUTORS, start=False)

    def version(self) -> str:
        return shoal.__version__

    def start(self) -> None:
        idle.start(self.agent)
        shoal.connect(self.agent.socket)

    def stop(self) -> None:
        try:
            shoal.disconnect()
        finally:
            self.cluster.close()

    def results(self, count: int) -> list[int]:
        return shoal.wait_on([same(i) for i in range(count)])

    def once(self, value: int) -> int:
        return shoal.wait_on(same(value))

    def chain(self, count: int) -> int:
        value: Any = 0
        for _ in range(count):
            value = plus_one(value)
        return shoal.wait_on(value)

    def fan_in(self, count: int) -> int:
        return shoal.wait_on(total([plus_one(i) for i in range(count)]))

    def put(self, array: Any) -> Any:
        handle = shoal.share(array)  # a value of the task flow, as volatile as the peers'; shoal.put writes to disk
        shoal.barrier()  # the agent has it
        return handle

    def use(self, handle: Any) -> int:
        return shoal.wait_on(ends(handle))

    def spawn(self, count: int) -> None:
        for _ in range(count):
            true()
        shoal.barrier()


if __name__ == "__main__":
    main(Shoal)
