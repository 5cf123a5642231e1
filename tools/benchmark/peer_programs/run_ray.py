"""Ray: its tasks and its object store, without the dashboard, which costs start-up and memory and no task needs."""

from __future__ import annotations

import os
from typing import Any

import bodies
from shape import EXECUTORS, Peer, main

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray

STORE_BYTES = 1 << 30


class Ray(Peer):
    """`ray.shutdown` ends this instance only; `ray stop` would end every other one of the host, too."""

    def version(self) -> str:
        return ray.__version__

    def start(self) -> None:
        ray.init(num_cpus=EXECUTORS, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
                 object_store_memory=STORE_BYTES, _node_ip_address="127.0.0.1", _temp_dir=str(self.directory))
        self.same = ray.remote(bodies.same)
        self.plus_one = ray.remote(bodies.plus_one)
        self.total_of = ray.remote(bodies.total_of)
        self.ends = ray.remote(bodies.ends)

    def stop(self) -> None:
        ray.shutdown()

    def results(self, count: int) -> list[int]:
        return ray.get([self.same.remote(i) for i in range(count)])

    def once(self, value: int) -> int:
        return ray.get(self.same.remote(value))

    def chain(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = self.plus_one.remote(value)
        return ray.get(value)

    def fan_in(self, count: int) -> int:
        return ray.get(self.total_of.remote(*[self.plus_one.remote(i) for i in range(count)]))

    def put(self, array: Any) -> Any:
        return ray.put(array)

    def use(self, handle: Any) -> int:
        return ray.get(self.ends.remote(handle))


if __name__ == "__main__":
    main(Ray)
