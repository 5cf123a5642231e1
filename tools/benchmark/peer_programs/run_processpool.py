"""concurrent.futures.ProcessPoolExecutor: two processes and pipes, no dependencies, nothing survives."""

from __future__ import annotations

import platform
from concurrent.futures import ProcessPoolExecutor

from bodies import plus_one, same, total
from shape import EXECUTORS, Peer, main


class ProcessPool(Peer):
    """It knows no dependencies: in a chain and a fan-in the driver waits and passes values on."""

    def version(self) -> str:
        return platform.python_version()

    def start(self) -> None:
        self.pool = ProcessPoolExecutor(EXECUTORS)

    def stop(self) -> None:
        self.pool.shutdown(cancel_futures=True)

    def results(self, count: int) -> list[int]:
        futures = [self.pool.submit(same, i) for i in range(count)]
        return [future.result() for future in futures]

    def once(self, value: int) -> int:
        return self.pool.submit(same, value).result()

    def chain(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = self.pool.submit(plus_one, value).result()
        return value

    def fan_in(self, count: int) -> int:
        futures = [self.pool.submit(plus_one, i) for i in range(count)]
        return self.pool.submit(total, [future.result() for future in futures]).result()


if __name__ == "__main__":
    main(ProcessPool)
