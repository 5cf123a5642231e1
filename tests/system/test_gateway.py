"""Goal: an agent's HTTP gateway tells the truth in a form that monitoring reads, and junk on its port does no harm.
Method: a real agent scraped over TCP, the exposition read by Prometheus' own parser, figures compared with what was done."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.error
import urllib.request

import pytest
from cluster import Agent, Cluster, wait_until

SQUARES = """
from shoal import task, wait_on
@task(returns=int)
def square(i):
    return i * i
print(sum(wait_on([square(i) for i in range(20)])))
"""


def get(agent: Agent, path: str) -> tuple[int, str, str]:
    """Status, content type and body of a GET."""
    try:
        with urllib.request.urlopen(agent.json("status")["http"] + path, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers["Content-Type"], refused.read().decode()


def scrape(agent: Agent) -> dict[str, float]:
    """Samples by name, with labels as `name{key=value,…}`."""
    parser = pytest.importorskip("prometheus_client.parser", reason="python3-prometheus-client is not installed")
    status, content_type, text = get(agent, "/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=0.0.4")
    samples: dict[str, float] = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.type in ("counter", "gauge")
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in samples
            samples[name] = sample.value
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(samples)
    return samples


def test_metrics_count_what_happens(cluster: Cluster, program, tmp_path) -> None:
    first = cluster.found("a", computing_units=2)
    second = cluster.join("b", first, computing_units=0)
    wait_until(lambda: first.json("status")["members"] == 2, 15, "two members")
    before = scrape(first)
    assert before["shoal_agents{scope=home,state=alive}"] == 2
    assert before["shoal_head"] == 1
    assert before["shoal_epoch"] >= 1
    assert before["shoal_links"] == 1
    assert scrape(second)["shoal_head"] == 0
    assert first.shoal("run", program(SQUARES)).stdout.strip() == "2470"
    source = tmp_path / "object"
    source.write_bytes(os.urandom(50_000))
    first.shoal("objects", "put", str(source), "--alias", "counted")
    after = wait_until(lambda: (s := scrape(first))["shoal_apps_running"] == 0 and s, 10, "the application has ended")
    assert after["shoal_tasks_submitted_total"] == 20
    assert after["shoal_tasks_ended_total{state=done}"] == 20
    assert after["shoal_tasks{state=unfinished}"] == 0
    assert after["shoal_attempts_finished_total"] == 20
    assert after["shoal_executors"] >= 1
    assert after["shoal_store_objects"] == before["shoal_store_objects"] + 1
    assert after["shoal_store_object_bytes"] >= before["shoal_store_object_bytes"] + 50_000
    assert after["shoal_link_frames_sent_total"] > before["shoal_link_frames_sent_total"]
    assert after["shoal_link_bytes_received_total"] > before["shoal_link_bytes_received_total"]
    assert after["shoal_uptime_seconds"] > before["shoal_uptime_seconds"]
    assert 4 << 20 < after["process_resident_memory_bytes"] < 256 << 20
    assert {name for name in after if name.startswith("shoal_frames_dropped_total")}
    second.kill()
    wait_until(lambda: scrape(first)["shoal_agents{scope=home,state=dead}"] == 1, 15, "the death is counted")


def test_health_routes_and_refusals(cluster: Cluster) -> None:
    agent = cluster.found("a")
    assert get(agent, "/healthz")[0] == 200
    wait_until(lambda: get(agent, "/readyz")[0] == 200, 10, "the agent is ready")
    status, content_type, body = get(agent, "/nothing")
    assert (status, content_type) == (404, "application/json")
    assert "/metrics" in json.loads(body)["error"]


def test_a_gateway_can_be_switched_off_and_its_port_be_taken(cluster: Cluster) -> None:
    agent = cluster.found("a")
    address = agent.json("status")["http"].removeprefix("http://")
    quiet = cluster.found("quiet", http="none")
    assert quiet.json("status")["http"] == ""
    for value, words in ((address, ("in use", address, "--http")), ("nonsense", ("nonsense", "--http"))):
        done = subprocess.run(
            [str(cluster.bin / "shoald"), "--home", str(cluster.directory / "c"), "--http", value],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 1
        for word in words:
            assert word in done.stderr
    assert get(agent, "/healthz")[0] == 200


def test_junk_and_silent_peers_on_the_http_port(cluster: Cluster) -> None:
    agent = cluster.found("a")
    host, port = agent.json("status")["http"].removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port)), timeout=10) for _ in range(20)]
    for junk in (b"\x16\x03\x01\x02\x00\x01", os.urandom(5000), b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, b"GET /metrics HTT"):
        with socket.create_connection((host, int(port)), timeout=10) as peer:
            try:
                peer.sendall(junk)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(4096):
                    pass
            except OSError:
                pass  # reset: refused before it was all sent
    assert get(agent, "/healthz")[0] == 200
    for peer in silent:
        peer.close()
    assert agent.shoal("status", check=False).returncode == 0
