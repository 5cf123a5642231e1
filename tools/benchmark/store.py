"""Objects: small ones and 64 MiB, put and read, beside RocksDB, a file and memcpy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

import shoal
import work
from cluster import Cluster, ClusterError
from report import Options, Report, each_us, percentile

SMALL_BYTES = 100
LARGE_BYTES = 64 << 20


def measure(options: Options, report: Report) -> None:
    """One agent; "local" is a receipt for the disk. Floors write below the same directory as the agent."""
    large = options.size(LARGE_BYTES, 1 << 20)
    size = f"{large >> 20} MiB"
    report.row("rocksdb_put", f"RocksDB put, {SMALL_BYTES} B, not synced", "us")
    report.row("rocksdb_sync_put", f"RocksDB put, {SMALL_BYTES} B, synced", "us")
    report.row("rocksdb_get", f"RocksDB get, {SMALL_BYTES} B", "us")
    report.row("memcpy", f"memcpy {size}", "us")
    report.row("file", f"write {size} to a file, fdatasync", "us")
    report.row("put_process", "put, receipt process (survives kill -9)", "us", "rocksdb_put")
    report.row("put", "put, receipt local (on disk)", "us", "rocksdb_sync_put")
    report.row("get", "get", "us", "rocksdb_get")
    report.row("put_large", f"put numpy array of {size}, receipt local", "us", "file")
    report.row("get_large", f"get numpy array of {size}", "us", "memcpy")
    report.row("task_large", f"task that reads another's array of {size}, no copy", "us", "memcpy")

    few = options.size(200, 5)
    many = options.size(5_000, 100)
    with Cluster(binaries=options.binaries) as cluster:
        agent = cluster.found("bench", computing_units=1)
        shoal.connect(agent.socket)
        try:
            shoal.wait_on(work.same(0))
            for _ in range(options.runs):
                floors(options, report, cluster.directory, few, many, large)
                small(report, few, many // 10)
                array(report, large)
        finally:
            shoal.disconnect()


def floors(options: Options, report: Report, directory: Path, few: int, many: int, large: int) -> None:
    """The same sizes without Shoal."""
    place = directory / "floor"
    place.mkdir()
    plain = options.floor("rocksdb", str(place), SMALL_BYTES, many, "nosync")
    shutil.rmtree(place / "rocksdb")
    synced = options.floor("rocksdb", str(place), SMALL_BYTES, few, "sync")
    copy = options.floor("memcpy", large, 5)
    file = options.floor("file", str(place), large, 3, "sync")
    shutil.rmtree(place)
    report.add(rocksdb_put=plain["put_us"], rocksdb_get=plain["get_us"], rocksdb_sync_put=synced["put_us"],
               memcpy=copy["copy_us"], file=file["append_us"])


def small(report: Report, few: int, many: int) -> None:
    """Values are random, because equal ones are stored once."""
    refs: list[shoal.Ref] = []
    unsynced = each_us(lambda _: refs.append(shoal.put(os.urandom(SMALL_BYTES), receipt="process")), many)
    synced = each_us(lambda _: refs.append(shoal.put(os.urandom(SMALL_BYTES), receipt="local")), few)
    gets = each_us(lambda i: shoal.get(refs[i]), len(refs))
    report.add(put_process=percentile(unsynced, 50), put=percentile(synced, 50), get=percentile(gets, 50))
    for ref in refs:
        shoal.store.delete(ref.id)


def array(report: Report, large: int) -> None:
    """One array, stored and read here; and one that a task made, read by another task."""
    value = np.frombuffer(os.urandom(4096) * (large // 4096), dtype=np.uint8).copy()
    value[:16] = np.frombuffer(os.urandom(16), dtype=np.uint8)
    value[-1] = value[0]
    refs: list[shoal.Ref] = []
    put = each_us(lambda _: refs.append(shoal.put(value, receipt="local")), 1)
    read: list[np.ndarray] = []
    get = each_us(lambda _: read.append(shoal.get(refs[0])), 3)
    if read[0].nbytes != large or not np.array_equal(read[0], value):
        raise ClusterError("the array that was read is not the one that was stored")
    made = work.zeros(large)
    views = [shoal.wait_on(work.is_view(made))]
    used = each_us(lambda _: views.append(shoal.wait_on(work.is_view(made))), 5)
    if not all(views):
        raise ClusterError("a task got a copy of another task's array")
    report.add(put_large=put[0], get_large=percentile(get, 50), task_large=percentile(used, 50))
    shoal.store.delete(refs[0].id)
