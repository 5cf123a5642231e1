# Goal: persistent objects and streams work in programs and as parameters, with and without an agent.
# Method: the same programs against the fake agent (in-memory services behind the wire) and sequentially.

import json
import os
import threading

import numpy as np
import pytest

import shoal
from shoal import (
    STREAM_IN,
    STREAM_OUT,
    FileStream,
    NotFoundError,
    ObjectStream,
    Persistent,
    RequestError,
    _runtime,
    barrier,
    get,
    get_by_alias,
    make_persistent,
    put,
    store,
    task,
    wait_on,
)


class Model(Persistent):
    def __init__(self, weights):
        self.weights = weights


def test_put_get_alias(both):
    ref = put({"a": [1, 2]}, alias="thing", receipt="local")
    assert ref.receipt.copies == 1
    assert get(ref) == ref.get() == get("thing") == {"a": [1, 2]}
    assert store.get_alias("thing") == ref
    assert store.list("thi")[0]["alias"] == "thing"
    with pytest.raises(shoal.errors.AlreadyExistsError, match="taken"):
        put(1, alias="thing", replace=False)
    shoal.delete_alias("thing")
    with pytest.raises(NotFoundError, match="no alias 'thing'"):
        get("thing")


def test_large_objects(both):
    array = np.arange(30_000)
    assert get(put(array)).sum() == array.sum()


def test_default_receipt_is_what_can_be_had(session, agent, monkeypatch):
    asked = []
    answer = agent.services._store_put

    def alone(params):
        asked.append(params["wait_for"])
        if params["wait_for"] == "region":
            raise shoal.errors.request_error(6, "no other agent of this region is up")
        return {**answer(params), "level": "local"}

    monkeypatch.setattr(agent.services, "_store_put", alone)
    assert put(b"x" * 50_000, alias="lonely").receipt.level == "local"
    assert asked == ["region", "local"]
    with pytest.raises(RequestError, match="no other agent"):
        put(1, receipt="region")


def test_unknown_receipt_is_refused():
    with pytest.raises(ValueError, match="one of memory, process, local, region"):
        put(1, receipt="moon")


@task(returns=1)
def total(values):
    return int(sum(values))


@task(returns=1)
def weights_of(model):
    return sum(model.weights)


def test_references_as_arguments(session):
    assert wait_on(total(put([1, 2, 3]))) == 6
    model = Model([1, 2])
    model.make_persistent("model")
    assert model.getID()
    assert wait_on(weights_of(model)) == 3
    again = get_by_alias("model")
    assert again.getID() == model.getID()
    model.delete_persistent()
    assert model.getID() is None
    assert make_persistent([1]).id


@task(stream=STREAM_OUT)
def produce(stream, n):
    for i in range(n):
        stream.publish(i)


@task(stream=STREAM_IN, returns=1)
def consume(stream):
    return sum(stream)


def test_stream_between_tasks(both):
    stream = ObjectStream()
    if both:
        result = consume(stream)  # submitted before its producer: both run at once
        produce(stream, 10)
    else:
        produce(stream, 10)
        result = consume(stream)
    assert wait_on(result) == 45
    assert stream.is_closed()


def test_two_producers_close_a_stream_together(session):
    stream = ObjectStream()
    produce(stream, 3)
    produce(stream, 4)
    assert sorted(stream) == [0, 0, 1, 1, 2, 2, 3]


def test_main_program_publishes(both):
    stream = ObjectStream("main-stream")
    stream.publish({"t": 1})
    stream.publish_list([{"t": 2}, {"t": 3}])
    assert not stream.is_closed()
    assert stream.poll(timeout=1, max=1) == [{"t": 1}]
    stream.close()
    assert list(stream) == [{"t": 2}, {"t": 3}]
    assert stream.is_closed()
    assert stream.poll() == []


def test_codecs_keys_and_headers(both):
    raw = ObjectStream("raw", codec="raw")
    raw.publish(b"\x01", key="k", timestamp_ms=5, headers={"h": b"v"})
    (record,) = raw.poll_records(1)
    assert record == (b"\x01", b"k", 5, {"h": b"v"}, 0, 0)
    with pytest.raises(TypeError, match="publish bytes, not int"):
        raw.publish(1)
    text = ObjectStream("json", codec="json", mode="broadcast")
    text.publish([1, {"a": 2}])
    other = ObjectStream("json", codec="raw", mode="broadcast")
    assert text.poll(1) == [[1, {"a": 2}]]
    assert json.loads(other.poll(1)[0]) == [1, {"a": 2}]


def test_large_records(both):
    stream = ObjectStream("large")
    stream.publish_list([bytes(3 << 20), bytes(3 << 20)])
    assert [len(value) for value in stream.poll(1)] == [3 << 20, 3 << 20]


def test_empty_poll_returns_in_time(both):
    assert ObjectStream("empty").poll(timeout=0.05) == []


def test_consumer_thread_and_producer(session):
    stream = ObjectStream("threads")
    seen = []
    thread = threading.Thread(target=lambda: seen.extend(stream))
    thread.start()
    writer = ObjectStream("threads")
    writer.publish_list(range(5))
    writer.close()
    thread.join(10)
    assert seen == list(range(5))


def test_stream_parameter_must_be_a_stream(session):
    with pytest.raises(TypeError, match="'stream' of task .*consume is a stream: pass an ObjectStream"):
        consume([1])
    with pytest.raises(ValueError, match="codec='xml'"):
        ObjectStream("x", codec="xml")
    barrier()


def test_file_stream(both, tmp_path):
    stream = FileStream(base_dir=str(tmp_path))
    (tmp_path / "a b.csv").write_text("1")
    assert stream.poll(timeout=2) == [str(tmp_path / "a b.csv")]
    assert stream.poll(timeout=0.05) == []
    stream.close()
    assert list(stream) == []


def test_distro_stream_names(both):
    from pycompss.streams.distro_stream import FileDistroStream, ObjectDistroStream

    stream = ObjectDistroStream(alias="distro")
    stream.publish("x")
    assert stream.poll(timeout=1000) == ["x"]
    assert stream.get_stream_alias() == "distro"
    assert stream.get_stream_type() == "OBJECT"
    assert FileDistroStream is not None


def test_a_file_that_goes_while_the_directory_is_read(sequential, tmp_path, monkeypatch):
    for name in ("gone", "stays"):
        (tmp_path / name).write_text(name)
    stream = shoal.FileStream("vanishing", str(tmp_path))
    assert stream.scan() == 0
    entries = list(os.scandir(tmp_path))
    (tmp_path / "gone").unlink()
    monkeypatch.setattr(os, "scandir", lambda _: entries)
    assert stream.scan() == 1
    assert stream.poll() == [str(tmp_path / "stays")]


def test_a_file_that_cannot_be_deleted_does_not_spoil_the_end(agent):
    opened = shoal.connect(agent.socket)
    opened.delete_file("/proc/self/comm")
    _runtime.current = None
    opened.close()
    assert opened.closed
