# Goal: large values cross processes without copies, are safe from each other's writes, and a full arena is an error.
# Method: numpy arrays and bytes around the inline limit; look at the arrays' memory inside the task.

import ctypes
import mmap
import os
import subprocess
import sys

import msgpack
import numpy as np
import pytest

from shoal import COLLECTION_OUT, INOUT, OUT, _serialize, task, wait_on
from shoal._serialize import Arena, dumps, loads


def owner(array):
    base = array
    while getattr(base, "base", None) is not None:
        base = base.base
    return getattr(base, "obj", base)


@task(returns=3)
def inspect_array(array):
    base = array
    while getattr(base, "base", None) is not None:
        base = base.base
    return array.flags.writeable, type(getattr(base, "obj", base)).__name__, float(array.sum())


@task(a=INOUT)
def double(a):
    a *= 2


@task(returns=1)
def ones(n):
    return np.ones(n)


@task(a=OUT)
def fill(a):
    a[...] = 3


@task(returns=1)
def length(x):
    return len(x)


@task(returns=1)
def same(x):
    return x


def test_in_arrays_are_mapped_read_only(session):
    assert wait_on(inspect_array(np.arange(100_000.0))) == [False, "mmap", 4999950000.0]


def test_results_are_mapped_and_private(session):
    result = wait_on(ones(100_000))
    assert isinstance(owner(result), mmap.mmap)
    result += 1  # copy on write: nobody else sees it
    assert result.sum() == 200_000


def test_inout_array(session):
    a = np.arange(50_000.0)
    double(a)
    double(a)
    assert wait_on(a) is a
    assert a[10] == 40


def test_future_as_inout(session):
    future = ones(50_000)
    double(future)
    assert wait_on(future).sum() == 100_000


def test_out_array_has_shape_and_type(session):
    a = np.zeros((10, 1000), dtype=np.int16)
    fill(a)
    assert wait_on(a).sum() == 30_000


def test_blocks_of_arrays(session):
    @task(blocks=COLLECTION_OUT)
    def produce(blocks):
        for i in range(len(blocks)):
            blocks[i] = np.full(10_000, i)

    blocks = [object() for _ in range(3)]
    produce(blocks)
    assert [float(b.sum()) for b in wait_on(blocks)] == [0, 10_000, 20_000]


def test_writable_inputs_for_pycompss_programs(session):
    from pycompss.api.api import compss_wait_on
    from pycompss.api.task import task as compss_task

    @compss_task(returns=1)
    def normalise(a):
        a -= a.mean()
        return float(abs(a.mean()))

    array = np.arange(10_000.0)
    assert compss_wait_on(normalise(array)) < 1e-9
    assert array[1] == 1


@pytest.mark.parametrize("size", [0, 1, 255, 256, 16_300, 16_367, 16_368, 16_369, 70_000, 3_000_000])
def test_bytes_of_every_size(session, size):
    assert wait_on(length(b"x" * size)) == size
    assert wait_on(same(b"x" * size)) == b"x" * size


@pytest.mark.parametrize(
    "value",
    [None, True, -1, 2**63, 2**70, 1.5, float("inf"), "text", "\ud800", b"", (1, [2]), {1: {2}}, "ä" * 9000, 1j, range(3)],
)
def test_values_keep_their_type(session, value):
    result = wait_on(same(value))
    assert result == value
    assert type(result) is type(value)


def test_arena_names_are_unique_and_freed_names_unlinked(session, agent):
    before = set(os.listdir(agent.arena))
    wait_on(length(b"x" * 20_000))
    created = set(os.listdir(agent.arena)) - before
    assert all(name.split(".")[0].isdigit() for name in created)


def test_blob_layout():
    array = np.arange(4096, dtype=np.uint8)
    blob = dumps(("head", array, array[:10])).join()
    assert blob[:4] == b"SHL1"
    assert blob[4] == _serialize.PICKLE
    assert int.from_bytes(blob[6:8], "little") == 1
    assert int.from_bytes(blob[16:24], "little") == 4096
    assert (len(blob) - 4096) % 64 == 0
    head, copy, small = loads(blob)
    assert head == "head"
    assert copy.tolist() == array.tolist()
    assert small.tolist() == array[:10].tolist()
    assert dumps(5).join() == b"SHL1\x02\0\0\0\x01\0\0\0\0\0\0\0\x05"
    assert dumps(b"raw").join() == b"SHL1\x00\0\0\0\x03\0\0\0\0\0\0\0raw"


@pytest.mark.parametrize("junk", [b"", b"SHL1", b"XXXX" + bytes(20), dumps([1, 2]).join()[:-3], b"SHL1\x09" + bytes(11)])
def test_junk_is_refused(junk):
    with pytest.raises(_serialize.DataError):
        loads(junk)


def test_full_arena_is_a_memory_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MemoryError, match="no room for a value of .* bytes in shared memory"):
        Arena(str(tmp_path), 1).write(dumps(b"x" * 100))
    assert os.listdir(tmp_path) == []


def test_numpy_is_not_imported_by_the_sdk_or_an_executor():
    code = "import sys, shoal, shoal.executor._loop; sys.exit('numpy' in sys.modules)"
    path = os.path.dirname(os.path.dirname(sys.modules["shoal"].__file__))
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=False).returncode == 0


def test_structures_with_buffers_of_other_kinds(session):
    value = wait_on(same([bytearray(b"y" * 5000), np.array(["a", None], dtype=object), np.float32(2)]))
    assert value[0] == bytearray(b"y" * 5000)
    assert value[1].tolist() == ["a", None]
    assert value[2].dtype == np.float32
    assert ctypes.sizeof(ctypes.c_double) == 8


def test_values_of_other_languages_have_no_bound_but_their_bytes():
    body = msgpack.packb([0] * ((1 << 20) + 1))
    blob = _serialize.Blob([_serialize._HEADER.pack(_serialize.MAGIC, _serialize.MSGPACK, 0, 0, len(body)), body], 0).join()
    assert len(_serialize.loads(blob)) == (1 << 20) + 1
    with pytest.raises(Exception, match="incomplete|exceeds"):
        claim = b"\xdd\xff\xff\xff\xff"  # four thousand million items in five bytes
        _serialize.loads(_serialize._HEADER.pack(_serialize.MAGIC, _serialize.MSGPACK, 0, 0, len(claim)) + claim)


class StoresSomething:
    """Pickles another value while it is pickled itself, as an object does that puts a part of itself into the store."""

    def __reduce__(self):
        _serialize.dumps([iter(())])
        return StoresSomething, ()


def test_a_generator_is_whole_whatever_is_pickled_beside_it():
    value = [(i for i in range(3)), StoresSomething(), lambda: 1]  # the lambda needs a second attempt
    assert list(_serialize.loads(_serialize.dumps(value).join())[0]) == [0, 1, 2]
