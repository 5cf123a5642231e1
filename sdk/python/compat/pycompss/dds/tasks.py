"""The tasks of distributed data sets. A partition is a list; `steps` are functions from a list to an iterable."""

from __future__ import annotations

import os
import pickle
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from pycompss.api.task import task
from shoal.parameter import COLLECTION_IN

Steps = tuple[Callable[[list], Iterable], ...]


def apply(partition: Any, steps: Steps) -> list:
    """The partition after its steps."""
    for step in steps:
        partition = step(partition)
    return list(partition)


def stable_hash(key: Any) -> int:
    """A hash that is the same in every process (that of str is not)."""
    if isinstance(key, (bool, int, float)):
        return hash(key)
    if isinstance(key, str):
        return zlib.crc32(key.encode("utf-8", "surrogatepass"))
    if isinstance(key, (tuple, frozenset)):
        parts = [stable_hash(part) for part in key]
        return hash(tuple(parts if isinstance(key, tuple) else sorted(parts)))
    if isinstance(key, bytes):
        return zlib.crc32(key)
    return zlib.crc32(pickle.dumps(key, 4))


@task(returns=list)
def run(partition: Any, steps: Steps) -> list:
    """One partition after its steps."""
    return apply(partition, steps)


@task(returns=1)
def fold(partition: Any, steps: Steps, function: Callable, initial: list) -> list:
    """[the partition reduced], or [] when it is empty and there is no initial value."""
    return _fold([*initial, *apply(partition, steps)], function)


@task(returns=1, parts=COLLECTION_IN)
def fold_folded(parts: list, function: Callable) -> list:
    """Reduces what fold made of several partitions."""
    return _fold([value for part in parts for value in part], function)


def _fold(values: list, function: Callable) -> list:
    if not values:
        return []
    result = values[0]
    for value in values[1:]:
        result = function(result, value)
    return [result]


@task(returns=1)
def count_values(partition: Any, steps: Steps) -> Counter:
    """How often each value is there."""
    return Counter(apply(partition, steps))


@task(returns=1, parts=COLLECTION_IN)
def add_counters(parts: list) -> Counter:
    """Counts of several partitions."""
    total: Counter = Counter()
    for part in parts:
        total.update(part)
    return total


@task(returns="{{buckets}}")
def scatter(partition: Any, steps: Steps, partitioner: Callable, buckets: int) -> Any:
    """The pairs of a partition, by what the partitioner makes of their keys."""
    out: list[list] = [[] for _ in range(buckets)]
    for pair in apply(partition, steps):
        out[partitioner(pair[0]) % buckets].append(pair)
    return out if buckets > 1 else out[0]


@task(returns="{{buckets}}")
def scatter_ranges(partition: Any, steps: Steps, bounds: list, key: Callable, ascending: bool, buckets: int) -> Any:
    """The pairs of a partition, by the range that their keys lie in."""
    import bisect

    out: list[list] = [[] for _ in range(buckets)]
    for pair in apply(partition, steps):
        place = bisect.bisect_left(bounds, key(pair[0]))
        out[place if ascending else buckets - 1 - place].append(pair)
    return out if buckets > 1 else out[0]


@task(returns=list, parts=COLLECTION_IN)
def gather(parts: list) -> list:
    """Several lists as one."""
    return [item for part in parts for item in part]


@task(returns=list, parts=COLLECTION_IN)
def gather_sorted(parts: list, key: Callable, ascending: bool) -> list:
    """Several lists of pairs as one, sorted by key."""
    return sorted((pair for part in parts for pair in part), key=lambda pair: key(pair[0]), reverse=not ascending)


@task(returns=list)
def combine(partition: Any, steps: Steps, create: Callable, add: Callable) -> list:
    """The values of each key of a partition as one."""
    combined: dict = {}
    for key, value in apply(partition, steps):
        combined[key] = add(combined[key], value) if key in combined else create(value)
    return list(combined.items())


@task(returns=list, parts=COLLECTION_IN)
def combine_combined(parts: list, merge: Callable) -> list:
    """What combine made of several partitions, merged by key."""
    merged: dict = {}
    for part in parts:
        for key, value in part:
            merged[key] = merge(merged[key], value) if key in merged else value
    return list(merged.items())


@task(returns=list)
def join(left: list, right: list) -> list:
    """(key, (left value, right value)) for every pair of values of a key; both sides hold the same keys."""
    by_key: dict = {}
    for key, value in right:
        by_key.setdefault(key, []).append(value)
    return [(key, (value, other)) for key, value in left for other in by_key.get(key, ())]


@task(returns=list)
def sample_keys(partition: Any, steps: Steps, key: Callable, count: int) -> list:
    """At most `count` keys of a partition, evenly spaced."""
    keys = sorted(key(pair[0]) for pair in apply(partition, steps))
    return keys[:: max(1, len(keys) // count)]


@task(returns=1)
def first(partition: Any, steps: Steps, count: int) -> list:
    """The first items of a partition."""
    return apply(partition, steps)[:count]


@task(returns=1)
def call_each(partition: Any, steps: Steps, function: Callable) -> int:
    """Calls a function for each item; how many there were."""
    items = apply(partition, steps)
    for item in items:
        function(item)
    return len(items)


@task(returns=1)
def save_text(partition: Any, steps: Steps, path: str) -> str:
    """Writes the items of a partition, one a line."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.writelines(f"{item}\n" for item in apply(partition, steps))
    return path


@task(returns=1)
def save_pickle(partition: Any, steps: Steps, path: str) -> str:
    """Writes a partition as one pickled list."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        pickle.dump(apply(partition, steps), file)
    return path


@task(returns=list)
def read_part(path: str, start: int, size: int) -> list:
    """The text of a part of a file, as the only item."""
    with open(path, "rb") as file:
        file.seek(start)
        return [file.read(size).decode("utf-8", "replace")]


@task(returns=list)
def read_lines(path: str, start: int, end: int, strip: bool) -> list:
    """The lines that begin in bytes `start` to `end` of a file."""
    lines = []
    with open(path, "rb") as file:
        if start:
            file.seek(start - 1)
            file.readline()  # the rest of a line that begins before
        while file.tell() < end:
            line = file.readline()
            if not line:
                break
            text = line.decode("utf-8", "replace")
            lines.append(text.strip() if strip else text)
    return lines


@task(returns=list)
def read_files(paths: list) -> list:
    """(path, text) of files."""
    pairs = []
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            pairs.append((path, file.read()))
    return pairs


@task(returns=list)
def read_pickle(path: str) -> list:
    """The list that a file holds."""
    with open(path, "rb") as file:
        return list(pickle.load(file))
