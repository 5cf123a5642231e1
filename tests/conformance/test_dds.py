# Goal: every method of DDS gives what the same operation on a list gives, with and without an agent.
# Method: one data set, each method, compared with plain Python.

from collections import Counter, defaultdict

import pytest

from pycompss.api.task import task
from pycompss.dds import DDS
from pycompss.dds.tasks import stable_hash
from shoal import Future

WORDS = "the quick brown fox jumps over the lazy dog the end".split()
PAIRS = [(word[0], len(word)) for word in WORDS]


@task(returns=list)
def fragment(i):
    return [i, i + 1]


@task(returns=int)
def first(i):
    return i


def test_load_and_collect(both):
    data = DDS().load(range(10), 3)
    assert data.num_of_partitions() == 3
    assert data.collect() == list(range(10))
    assert data.collect(keep_partitions=True) == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert DDS().load([[1], [2, 3]], -1, paac=True).collect(True) == [[1], [2, 3]]
    fragments = [fragment(i) for i in range(3)]
    assert DDS().load(fragments, -1).map(lambda x: x + 1).collect() == [1, 2, 2, 3, 3, 4]
    assert DDS().load([[first(i) for i in range(2)]], -1, True).collect() == [0, 1]
    assert DDS().load([], 2).collect() == []
    futures = data.map(str).collect(future_objects=True)
    assert len(futures) == 3
    assert isinstance(futures[0], Future) is (both is not None)


def test_item_by_item(both):
    data = DDS().load(range(10), 3)
    assert data.map(lambda x, y, z=0: x * y + z, 2, z=1).collect() == [2 * x + 1 for x in range(10)]
    assert data.filter(lambda x: x % 2).collect() == [1, 3, 5, 7, 9]
    assert data.flat_map(lambda x: [x] * (x % 3)).collect() == [x for x in range(10) for _ in range(x % 3)]
    assert data.map_partitions(lambda items: [sum(items)]).collect() == [6, 15, 24]
    assert data.key_by(lambda x: x % 2).collect()[:2] == [(0, 0), (1, 1)]
    pairs = DDS().load(PAIRS, 4)
    assert pairs.keys().collect() == [key for key, _ in PAIRS]
    assert pairs.values().collect() == [value for _, value in PAIRS]
    assert pairs.map_values(lambda v: v + 1).collect() == [(k, v + 1) for k, v in PAIRS]
    assert pairs.flatten_by_key(range).collect() == [(k, i) for k, v in PAIRS for i in range(v)]
    assert data.union(DDS().load([100]), DDS().load([200])).collect() == [*range(10), 100, 200]


def test_results(both):
    data = DDS().load(range(1, 11), 4)
    assert data.reduce(lambda a, b: a + b) == 55
    assert data.reduce(lambda a, b: a + b, initial=100, arity=2) == 155
    assert data.reduce(lambda a, b: a * b, collect=False).collect() == [3628800]
    assert DDS().load([], 2).reduce(lambda a, b: a, initial=7) == 7
    with pytest.raises(ValueError, match="empty data set"):
        DDS().load([], 2).reduce(lambda a, b: a)
    assert data.sum() == 55
    assert data.count() == 10
    assert DDS().load([], 3).count() == 0
    assert data.take(3) == [1, 2, 3]
    assert data.filter(lambda x: x > 8).take(5) == [9, 10]
    words = DDS().load(WORDS, 3)
    assert words.count_by_value() == Counter(WORDS)
    assert sorted(words.count_by_value(as_dict=False).collect()) == sorted(Counter(WORDS).items())
    assert dict(words.count_by_value(as_fo=True) if both is None else words.count_by_value(as_fo=True).result()) == Counter(
        WORDS
    )
    assert sorted(words.distinct().collect()) == sorted(set(WORDS))
    assert DDS().load(PAIRS, 2).collect_as_dict() == dict(PAIRS)


def test_pairs_across_partitions(both):
    pairs = DDS().load(PAIRS, 4)
    groups = defaultdict(list)
    for key, value in PAIRS:
        groups[key].append(value)
    assert {k: sorted(v) for k, v in pairs.group_by_key().collect()} == {k: sorted(v) for k, v in groups.items()}
    assert pairs.reduce_by_key(lambda a, b: a + b).collect_as_dict() == {k: sum(v) for k, v in groups.items()}
    assert pairs.count_by_key(as_dict=True) == Counter(k for k, _ in PAIRS)
    assert sorted(pairs.count_by_key().collect()) == sorted(Counter(k for k, _ in PAIRS).items())
    means = pairs.combine_by_key(
        lambda v: (v, 1), lambda c, v: (c[0] + v, c[1] + 1), lambda a, b: (a[0] + b[0], a[1] + b[1]), 3
    )
    assert means.num_of_partitions() == 3
    assert means.collect_as_dict() == {k: (sum(v), len(v)) for k, v in groups.items()}
    placed = pairs.partition_by(num_of_partitions=3).collect(keep_partitions=True)
    assert sorted(pair for part in placed for pair in part) == sorted(PAIRS)
    for part_number, part in enumerate(placed):
        assert {stable_hash(key) % 3 for key, _ in part} <= {part_number}
    assert pairs.partition_by(lambda key: 0, 1).collect(True) == [PAIRS]
    other = DDS().load([("t", "T"), ("x", "X"), ("t", "U")], 2)
    expected = sorted((k, (v, w)) for k, v in PAIRS for w in ("T", "U") if k == "t")
    assert sorted(pairs.join(other).collect()) == expected


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("parts", [None, 1, 5])
def test_sort_by_key(both, ascending, parts):
    found = DDS().load([((i * 7) % 40, i) for i in range(40)], 4).sort_by_key(ascending=ascending, num_of_parts=parts)
    assert [key for key, _ in found.collect()] == sorted(range(40), reverse=not ascending)
    by_length = DDS().load(PAIRS, 3).sort_by_key(ascending, parts, key_func=lambda key: -ord(key)).keys().collect()
    assert by_length == sorted((k for k, _ in PAIRS), key=lambda key: -ord(key), reverse=not ascending)


def test_files(both, tmp_path):
    text = "".join(f" line {i} \n" for i in range(50))
    (tmp_path / "text").write_text(text)
    lines = [line.strip() for line in text.splitlines()]
    path = str(tmp_path / "text")
    for chunk in (1, 7, 64, 100_000):
        assert DDS().load_text_file(path, chunk).collect() == lines
    assert DDS().load_text_file(path, 7, in_bytes=False, strip=False).collect() == text.splitlines(keepends=True)
    assert DDS().load_text_file(path, 7, in_bytes=False).num_of_partitions() == 8
    for worker_read in (False, True):
        data = DDS().load_file(path, 100, worker_read)
        assert "".join(data.collect()) == text
    (tmp_path / "empty").write_text("")
    assert DDS().load_text_file(str(tmp_path / "empty")).collect() == []
    DDS().load(range(6), 2).save_as_text_file(str(tmp_path / "out"))
    assert [content for _, content in DDS().load_files_from_dir(str(tmp_path / "out")).collect()] == ["0\n1\n2\n", "3\n4\n5\n"]
    assert DDS().load_files_from_dir(str(tmp_path / "out"), 1).num_of_partitions() == 1
    DDS().load(PAIRS, 3).save_as_pickle(str(tmp_path / "pickles"))
    assert DDS().load_pickle_files(str(tmp_path / "pickles")).collect() == PAIRS


def test_foreach_runs_where_the_items_are(both, tmp_path):
    def touch(item):
        (tmp_path / str(item)).touch()

    DDS().load(range(4), 2).foreach(touch)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3"]
