"""DDS: a data set in partitions, each a list that a task holds; transformations are run by tasks, when needed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from pycompss.api.api import compss_wait_on
from pycompss.dds import tasks

DEFAULT_PARTITIONS = 10
DEFAULT_CHUNK = 1024
ARITY = 8  # of trees
_SAMPLES = 20  # keys of each partition that decide the ranges of a sort


_NOTHING = object()


def _identity(value: Any) -> Any:
    return value


class DDS:
    """A distributed data set. Methods that return a DDS do no work yet, except where data change partitions.

    Loading: load, load_file, load_text_file, load_files_from_dir, load_pickle_files, union. Item by item: map, flat_map,
    filter, map_partitions, key_by, and for pairs keys, values, map_values, flatten_by_key. Across partitions: distinct,
    partition_by, join, combine_by_key, reduce_by_key, count_by_key, sort_by_key, group_by_key. Results: collect, reduce,
    count, sum, count_by_value, collect_as_dict, take, foreach, save_as_text_file, save_as_pickle.
    """

    def __init__(self) -> None:
        self.partitions: list[Any] = []
        self._steps: tasks.Steps = ()

    def _with(self, partitions: list[Any], steps: tasks.Steps = ()) -> DDS:
        made = DDS()
        made.partitions = partitions
        made._steps = steps
        return made

    def _then(self, step: Callable[[list], Iterable]) -> DDS:
        return self._with(self.partitions, (*self._steps, step))

    # ---- loading ----
    def load(self, iterator: Iterable, num_of_parts: int = DEFAULT_PARTITIONS, paac: bool = False) -> DDS:
        """The items of `iterator` in `num_of_parts` partitions; with -1 its items are the partitions (lists or futures).

        Partitions may hold futures; `paac` (partition as a collection) says so elsewhere, here it makes no difference.
        """
        del paac
        if num_of_parts == -1:
            return self._with(list(iterator))
        items = list(iterator)
        parts = max(1, num_of_parts)
        base, extra = divmod(len(items), parts)
        partitions, start = [], 0
        for index in range(parts):
            end = start + base + (1 if index < extra else 0)
            partitions.append(items[start:end])
            start = end
        return self._with(partitions)

    def load_file(self, file_path: str, chunk_size: int = DEFAULT_CHUNK, worker_read: bool = False) -> DDS:
        """Parts of `chunk_size` bytes of a file, each an item; with `worker_read` tasks read them."""
        size = os.path.getsize(file_path)
        starts = range(0, size, max(1, chunk_size)) if size else [0]
        if worker_read:
            return self._with([tasks.read_part(os.path.abspath(file_path), start, chunk_size) for start in starts])
        parts = []
        with open(file_path, "rb") as file:
            for start in starts:
                file.seek(start)
                parts.append([file.read(chunk_size).decode("utf-8", "replace")])
        return self._with(parts)

    def load_text_file(self, file_name: str, chunk_size: int = DEFAULT_CHUNK, in_bytes: bool = True, strip: bool = True) -> DDS:
        """The lines of a file; a partition has about `chunk_size` bytes, or that many lines."""
        path = os.path.abspath(file_name)
        if in_bytes:
            size = os.path.getsize(path)
            bounds = [*range(0, size, max(1, chunk_size)), size] if size else [0, 0]
            return self._with([tasks.read_lines(path, a, b, strip) for a, b in zip(bounds, bounds[1:])])
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() if strip else line for line in file]
        return self._with([lines[start : start + chunk_size] for start in range(0, len(lines), max(1, chunk_size))] or [[]])

    def load_files_from_dir(self, dir_path: str, num_of_parts: int = -1) -> DDS:
        """(path, text) of each file of a directory."""
        paths = [os.path.abspath(entry.path) for entry in sorted(os.scandir(dir_path), key=lambda e: e.name) if entry.is_file()]
        parts = len(paths) if num_of_parts < 1 else min(num_of_parts, len(paths))
        groups = DDS().load(paths, max(1, parts)).partitions
        return self._with([tasks.read_files(group) for group in groups])

    def load_pickle_files(self, dir_path: str) -> DDS:
        """What save_as_pickle wrote: a partition for each file of a directory."""
        paths = [os.path.abspath(entry.path) for entry in sorted(os.scandir(dir_path), key=lambda e: e.name) if entry.is_file()]
        return self._with([tasks.read_pickle(path) for path in paths])

    def union(self, *others: DDS) -> DDS:
        """The partitions of this and other data sets."""
        partitions = list(self._done())
        for other in others:
            partitions += other._done()
        return self._with(partitions)

    # ---- item by item ----
    def map(self, func: Callable, *args: Any, **kwargs: Any) -> DDS:
        """`func(item, *args, **kwargs)` of each item."""
        return self._then(lambda items: [func(item, *args, **kwargs) for item in items])

    def map_partitions(self, func: Callable[[list], Iterable]) -> DDS:
        """What `func` makes of each partition as a whole."""
        return self._then(func)

    def flat_map(self, func: Callable, *args: Any, **kwargs: Any) -> DDS:
        """The items of the iterables that `func` returns."""
        return self._then(lambda items: [part for item in items for part in func(item, *args, **kwargs)])

    def filter(self, func: Callable) -> DDS:
        """The items for which `func` is true."""
        return self._then(lambda items: [item for item in items if func(item)])

    def key_by(self, func: Callable) -> DDS:
        """Pairs (func(item), item)."""
        return self._then(lambda items: [(func(item), item) for item in items])

    def keys(self) -> DDS:
        """The first of each pair."""
        return self._then(lambda items: [pair[0] for pair in items])

    def values(self) -> DDS:
        """The second of each pair."""
        return self._then(lambda items: [pair[1] for pair in items])

    def map_values(self, func: Callable) -> DDS:
        """Pairs (key, func(value))."""
        return self._then(lambda items: [(key, func(value)) for key, value in items])

    def flatten_by_key(self, func: Callable) -> DDS:
        """Pairs (key, part) for the parts of the iterable that `func` makes of each value."""
        return self._then(lambda items: [(key, part) for key, value in items for part in func(value)])

    # ---- across partitions ----
    def _done(self) -> list[Any]:
        """The partitions with all steps applied, as futures or lists."""
        if self._steps:
            self.partitions = [tasks.run(partition, self._steps) for partition in self.partitions]
            self._steps = ()
        return self.partitions

    def num_of_partitions(self) -> int:
        """How many partitions there are."""
        return len(self.partitions)

    def distinct(self) -> DDS:
        """Each item once."""
        return self.map(lambda item: (item, None)).reduce_by_key(lambda a, b: None).keys()

    def partition_by(self, partitioner_func: Callable[[Any], int] = tasks.stable_hash, num_of_partitions: int = -1) -> DDS:
        """The pairs in partitions by `partitioner_func(key)`: those of one key lie in one."""
        buckets = num_of_partitions if num_of_partitions > 0 else max(1, len(self.partitions))
        rows = [tasks.scatter(partition, self._steps, partitioner_func, buckets) for partition in self.partitions]
        return self._with([tasks.gather(column) for column in _columns(rows, buckets)])

    def combine_by_key(
        self, creator_func: Callable, combiner_func: Callable, merger_function: Callable, total_parts: int = -1
    ) -> DDS:
        """The values of each key as one: created from the first, combined with more, merged across partitions."""
        parts = total_parts if total_parts > 0 else max(1, len(self.partitions))
        local = [tasks.combine(partition, self._steps, creator_func, combiner_func) for partition in self.partitions]
        rows = [tasks.scatter(partition, (), tasks.stable_hash, parts) for partition in local]
        return self._with([tasks.combine_combined(column, merger_function) for column in _columns(rows, parts)])

    def reduce_by_key(self, func: Callable, total_parts: int = -1) -> DDS:
        """The values of each key reduced."""
        return self.combine_by_key(_identity, func, func, total_parts)

    def count_by_key(self, as_dict: bool = False) -> Any:
        """How often each key is there: a DDS of pairs, or a dict."""
        counted = self.map(lambda pair: (pair[0], 1)).reduce_by_key(lambda a, b: a + b)
        return counted.collect_as_dict() if as_dict else counted

    def group_by_key(self, num_of_parts: int = -1) -> DDS:
        """Pairs of a key and the list of its values."""
        return self.combine_by_key(
            lambda value: [value], lambda group, value: [*group, value], lambda a, b: a + b, num_of_parts
        )

    def join(self, other: DDS, num_of_partitions: int = -1) -> DDS:
        """(key, (value here, value there)) for the keys that both have."""
        buckets = num_of_partitions if num_of_partitions > 0 else max(len(self.partitions), len(other.partitions), 1)
        left = self.partition_by(num_of_partitions=buckets).partitions
        right = other.partition_by(num_of_partitions=buckets).partitions
        return self._with([tasks.join(a, b) for a, b in zip(left, right)])

    def sort_by_key(self, ascending: bool = True, num_of_parts: int | None = None, key_func: Callable = _identity) -> DDS:
        """The pairs in the order of their keys, across partitions too."""
        buckets = num_of_parts or max(1, len(self.partitions))
        partitions = self._done()
        sampled = compss_wait_on([tasks.sample_keys(partition, (), key_func, _SAMPLES) for partition in partitions])
        keys = sorted(key for part in sampled for key in part)
        bounds = [keys[len(keys) * index // buckets] for index in range(1, buckets)] if keys else []
        rows = [tasks.scatter_ranges(p, (), bounds, key_func, ascending, buckets) for p in partitions]
        return self._with([tasks.gather_sorted(column, key_func, ascending) for column in _columns(rows, buckets)])

    # ---- results ----
    def collect(self, keep_partitions: bool = False, future_objects: bool = False) -> Any:
        """All items as a list; with `keep_partitions` a list for each partition; with `future_objects` not waited for."""
        partitions = self._done()
        if future_objects:
            return list(partitions)
        parts = [list(part) for part in compss_wait_on(list(partitions))]
        return parts if keep_partitions else [item for part in parts for item in part]

    def collect_as_dict(self) -> dict:
        """The pairs as a dict."""
        return dict(self.collect())

    def take(self, num: int) -> list:
        """The first `num` items."""
        taken: list = []
        for partition in self.partitions:
            if len(taken) >= num:
                break
            taken += compss_wait_on(tasks.first(partition, self._steps, num - len(taken)))
        return taken

    def reduce(self, func: Callable, initial: Any = _NOTHING, arity: int = -1, collect: bool = True) -> Any:
        """All items reduced by `func`, partitions first, then as a tree of `arity`; `collect=False` gives a DDS of it.

        ValueError when there is no item and no initial value.
        """
        first = [] if initial is _NOTHING else [initial]
        level = [tasks.fold(p, self._steps, func, first if i == 0 else []) for i, p in enumerate(self.partitions)]
        result = _tree(level, lambda part: tasks.fold_folded(part, func), arity)
        if not collect:
            return self._with([] if result is None else [result])
        folded = [] if result is None else compss_wait_on(result)
        if not folded:
            if first:
                return initial
            raise ValueError("reduce of an empty data set without an initial value")
        return folded[0]

    def sum(self) -> Any:
        """The sum of the items; 0 when there are none."""
        return self.map_partitions(lambda items: [sum(items)]).reduce(lambda a, b: a + b, 0)

    def count(self) -> int:
        """How many items there are."""
        return self.map_partitions(lambda items: [len(list(items))]).reduce(lambda a, b: a + b, 0)

    def count_by_value(self, arity: int = ARITY, as_dict: bool = True, as_fo: bool = False) -> Any:
        """How often each item is there: a dict, a DDS of pairs, or with `as_fo` a future of the dict."""
        level = [tasks.count_values(partition, self._steps) for partition in self.partitions]
        result = _tree(level, tasks.add_counters, arity)
        if as_fo:
            return result
        counts = Counter() if result is None else compss_wait_on(result)
        return dict(counts) if as_dict else DDS().load(counts.items(), max(1, len(self.partitions)))

    def foreach(self, func: Callable) -> None:
        """Calls `func` for each item, where it is, and waits for the end."""
        compss_wait_on([tasks.call_each(partition, self._steps, func) for partition in self.partitions])

    def save_as_text_file(self, path: str) -> None:
        """Writes a file for each partition into the directory `path`, one item a line."""
        self._save(tasks.save_text, path)

    def save_as_pickle(self, path: str) -> None:
        """Writes a pickled list for each partition into the directory `path`."""
        self._save(tasks.save_pickle, path)

    def _save(self, write: Callable, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        width = len(str(len(self.partitions)))
        names = [os.path.join(os.path.abspath(path), f"{i:0{width}}_partition") for i in range(len(self.partitions))]
        compss_wait_on([write(partition, self._steps, name) for partition, name in zip(self.partitions, names)])


def _columns(rows: list[Any], buckets: int) -> list[list]:
    """Bucket by bucket, what each partition has for it."""
    return [[row[index] if buckets > 1 else row for row in rows] for index in range(buckets)]


def _tree(level: list[Any], merge: Callable[[list], Any], arity: int) -> Any:
    """One value out of many, merged `arity` at a time; None out of none."""
    width = arity if arity > 1 else ARITY
    while len(level) > 1:
        level = [merge(level[start : start + width]) for start in range(0, len(level), width)]
    return level[0] if level else None
