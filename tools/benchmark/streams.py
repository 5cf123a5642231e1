"""Records: published, read and passed on, beside a file and librdkafka."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import uuid
from collections.abc import Iterator

import shoal
from cluster import SOURCE, Cluster, ClusterError, run
from report import Options, Report, each_us, percentile, seconds

RECORD_BYTES = 100
BATCH = 100
VALUE = b"x" * RECORD_BYTES


def measure(options: Options, report: Report) -> None:
    """The embedded log of one agent, in batches of 100 records of 100 bytes; Kafka with --kafka."""
    batch = f"{BATCH} x {RECORD_BYTES} B"
    report.row("file", f"write {batch} to a file", "us")
    report.row("file_sync", f"write {batch} to a file, fdatasync", "us")
    report.row("file_read", f"read {batch} from a file", "us")
    report.row("zmq", f"ZeroMQ ipc, {RECORD_BYTES} B there and back", "us")
    report.row("publish", f"publish {batch}, durability process", "us", "file")
    report.row("publish_local", f"publish {batch}, durability local (on disk)", "us", "file_sync")
    report.row("poll", f"poll {batch}", "us", "file_read")
    report.row("publish_rate", "published one batch after the other", "records/s")
    report.row("poll_rate", "polled, 1,000 at a time", "records/s")
    report.row("pass_on", "publish one record and poll it", "us", "zmq")
    if options.kafka:
        report.row("kafka_produce", "librdkafka produce, acknowledged", "records/s")
        report.row("kafka_consume", "librdkafka consume", "records/s")
        report.row("kafka_both", "librdkafka produce, then consume", "records/s")
        report.row("kafka_stream", "kafka:// stream, publish, then poll", "records/s", "kafka_both")
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster(binaries=options.binaries))
        brokers = stack.enter_context(kafka(options.kafka, cluster)) if options.kafka else None
        agent = cluster.found("bench", computing_units=1)
        shoal.connect(agent.socket)
        stack.callback(shoal.disconnect)
        for _ in range(options.runs):
            embedded(options, report, str(cluster.directory))
            if brokers is not None:
                through_kafka(options, report, brokers)


def embedded(options: Options, report: Report, directory: str) -> None:
    """The log in the agent, and the file it is compared with."""
    few = options.size(100, 5)
    many = options.size(500, 10)
    size = BATCH * RECORD_BYTES
    plain = options.floor("file", directory, size, many, "nosync")
    synced = options.floor("file", directory, size, few, "sync")
    echo = options.floor("zmq", f"ipc://{directory}/echo", RECORD_BYTES, options.size(5_000, 100))
    report.add(file=plain["append_us"], file_sync=synced["append_us"], file_read=plain["read_us"],
               zmq=echo["round_trip_us"])
    records = [VALUE] * BATCH
    local = shoal.ObjectStream(durability="local", codec="raw")
    report.add(publish_local=percentile(each_us(lambda _: local.publish_list(records), few), 50))
    stream = shoal.ObjectStream(codec="raw")
    times = each_us(lambda _: stream.publish_list(records), many)
    report.add(publish=percentile(times, 50), publish_rate=many * BATCH * 1e6 / sum(times))
    half = many // 2
    polls = each_us(lambda _: expect(stream.poll(timeout=5, max=BATCH), BATCH), half)
    rest = (many - half) * BATCH
    report.add(poll=percentile(polls, 50), poll_rate=rest / seconds(lambda: read(stream, rest)))
    report.add(pass_on=percentile(each_us(lambda _: pass_on(stream), options.size(500, 10)), 50))
    local.close()
    stream.close()


def expect(values: list[bytes], count: int) -> None:
    """Every record is there and whole."""
    if values != [VALUE] * count:
        raise ClusterError(f"a poll gave {len(values)} records where {count} were waiting")


def read(stream: shoal.ObjectStream, count: int) -> None:
    """Polls until `count` records came."""
    while count > 0:
        values = stream.poll(timeout=30, max=1_000)
        if not values:
            raise ClusterError(f"{count} records did not come back within 30 s")
        count -= len(values)


def pass_on(stream: shoal.ObjectStream) -> None:
    """One record in, the same out."""
    stream.publish(VALUE)
    expect(stream.poll(timeout=5), 1)


def through_kafka(options: Options, report: Report, brokers: str) -> None:
    """The same records through the broker, by librdkafka alone and by a stream."""
    count = options.size(50_000, 500)
    floor = options.floor("kafka", brokers, f"floor-{uuid.uuid4().hex}", RECORD_BYTES, count)
    both = 1 / (1 / floor["produce_per_s"] + 1 / floor["consume_per_s"])
    topic = f"bench-{uuid.uuid4().hex}"
    stream = shoal.ObjectStream(topic, f"kafka://{brokers}/{topic}", codec="raw")
    stream.publish(VALUE)
    read(stream, 1)  # the connections stand before the clock starts

    def there_and_back() -> None:
        for _ in range(count // BATCH):
            stream.publish_list([VALUE] * BATCH)
        read(stream, count)

    report.add(kafka_produce=floor["produce_per_s"], kafka_consume=floor["consume_per_s"], kafka_both=both,
               kafka_stream=count / seconds(there_and_back))
    stream.close()


@contextlib.contextmanager
def kafka(where: str, cluster: Cluster) -> Iterator[str]:
    """The address of the broker: the given one, or one that is started here and stopped afterwards."""
    if where != "start":
        yield where
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script, directory = str(SOURCE / "tools/kafka/run.sh"), str(cluster.directory / "kafka")
    try:
        yield run([script, "start", directory, str(port)], timeout=600).stdout.strip()
    finally:
        subprocess.run([script, "stop", directory], check=False)
