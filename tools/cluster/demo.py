"""The demo: a hierarchy of seven agents, real sensor data, an application, and faults in the middle of it.

The readings are hourly temperatures of Seattle and San Francisco in 2010, as the PyPI package vega-datasets ships them
(seattle-temps.csv, sf-temps.csv; from NOAA). They are replayed through a real mosquitto broker.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
for folder in ("examples/python", "sdk/python"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / folder))

from cluster import (  # noqa: E402
    SOURCE,
    SWITCH_ADDRESS,
    Agent,
    Cluster,
    ClusterError,
    namespaces_available,
    run,
    started,
    wait_until,
)

DATASET = "vega-datasets==0.9.0"
FILES = {"seattle": "seattle-temps.csv", "san-francisco": "sf-temps.csv"}
DAYS = 140
PACE_S = 24.0  # how long the replay takes


def say(text: str) -> None:
    """One line of the story."""
    print(f"[{time.monotonic() - BEGIN:5.1f} s] {text}", flush=True)


def fetch_readings(cache: Path) -> dict[str, list[bytes]]:
    """The payloads of each city's thermometer, oldest first, with some broken ones in between."""
    cache.mkdir(parents=True, exist_ok=True)
    wheels = list(cache.glob("vega_datasets-*.whl"))
    if not wheels:
        pip = [sys.executable, "-m", "pip"]
        if run([*pip, "--version"], check=False).returncode != 0:
            run([sys.executable, "-m", "venv", str(cache / "venv")], timeout=120)
            pip = [str(cache / "venv/bin/python"), "-m", "pip"]
        run([*pip, "download", "--quiet", "--no-deps", "--dest", str(cache), DATASET], timeout=120)
        wheels = list(cache.glob("vega_datasets-*.whl"))
    feeds: dict[str, list[bytes]] = {}
    with zipfile.ZipFile(wheels[0]) as wheel:
        for city, name in FILES.items():
            rows = list(csv.DictReader(io.StringIO(wheel.read(f"vega_datasets/_data/{name}").decode())))
            rows.sort(key=lambda row: row["date"])
            payloads = []
            for i, row in enumerate(rows[: DAYS * 24]):
                payloads.append(json.dumps({"t": row["date"], "f": float(row["temp"])}).encode())
                if i % 97 == 50:
                    payloads.append(b"sensor fault \xff")
                if i % 193 == 100:
                    payloads.append(json.dumps({"t": row["date"], "f": 999.9}).encode())
            feeds[city] = [*payloads, b'{"end": true}']
    return feeds


def start_broker(prefix: list[str], address: str, directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A mosquitto broker on a free port of `address`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = directory / "mosquitto.conf"
    config.write_text(f"listener {port} {address}\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n")
    broker = subprocess.Popen(
        [*prefix, "/usr/sbin/mosquitto", "-c", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=(directory / "mosquitto.log").open("wb"),
    )
    probe = [*prefix, "mosquitto_pub", "-h", address, "-p", str(port), "-t", "probe", "-m", "x"]
    wait_until(lambda: run(probe, check=False).returncode == 0, 10, "mosquitto answers")
    return broker, port


def replay(prefix: list[str], address: str, port: int, city: str, payloads: list[bytes]) -> None:
    """Publishes the payloads with QoS 1, spread over PACE_S seconds."""
    publisher = subprocess.Popen(
        [*prefix, "mosquitto_pub", "-h", address, "-p", str(port), "-t", f"sensors/{city}", "-q", "1", "-l"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert publisher.stdin is not None
    begin = time.monotonic()
    for i, payload in enumerate(payloads):
        publisher.stdin.write(payload + b"\n")
        if i % 20 == 19:
            publisher.stdin.flush()
            ahead = begin + PACE_S * i / len(payloads) - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
    publisher.stdin.close()
    publisher.wait()


def build_hierarchy(cluster: Cluster) -> dict[str, Agent]:
    """Two agents in the cloud, three in the fog, one at each of two edge sites."""
    cloud = cluster.found("cloud-1", region="cloud", computing_units=1, labels={"tier": "cloud"})
    cluster.join("cloud-2", cloud, computing_units=1, labels={"tier": "cloud"})
    fog = cluster.join("fog-1", cloud, child_region="fog", computing_units=1, labels={"tier": "gateway"})
    wait_until(lambda: fog.json("status")["attached"], 10, "the fog region stands below the cloud")
    for name in ("fog-2", "fog-3"):
        cluster.join(name, fog, computing_units=2, labels={"tier": "fog"})
    for name, city in (("edge-1", "seattle"), ("edge-2", "san-francisco")):
        cluster.join(name, fog, child_region=f"site-{city}", computing_units=1, labels={"tier": "edge", "sensor": city})
    return cluster.agents


def count_agents(region: dict[str, Any]) -> int:
    """Agents of a topology."""
    return len(region.get("agents", [])) + sum(count_agents(child) for child in region.get("children", []))


def print_tree(region: dict[str, Any], indent: str = "    ") -> None:
    """The hierarchy, one line an agent."""
    print(f"{indent}{region.get('region')}")
    for agent in region.get("agents", []):
        head = "  (head)" if agent.get("head") else ""
        print(f"{indent}  {agent['name']}  {agent.get('computing_units')} units{head}")
    for child in region.get("children", []):
        print_tree(child, indent + "    ")


def running_on(cluster: Cluster, function: str) -> dict[str, int]:
    """How many attempts of `function` run now, by the names of the agents that run any."""
    running = {}
    for agent in cluster.agents.values():
        if agent.process is None:
            continue
        count = sum(str(name).endswith(function) for name in agent.json("status")["attempts_running"])
        if count > 0:
            running[agent.name] = count
    return running


def free_port() -> int:
    """A port that is free on loopback now, with the one above it."""
    while True:
        with socket.socket() as one, socket.socket() as next_one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                next_one.bind(("127.0.0.1", port + 1))
                return port


def start_kafka(cluster: Cluster, directory: Path) -> tuple[str, list[str]]:
    """A real Kafka broker where all agents reach it: its address, and the command that stops it."""
    script = str(SOURCE / "tools/kafka/run.sh")
    run([script, "fetch"], timeout=400)
    prefix = ["ip", "netns", "exec", cluster.network.switch] if cluster.network else []
    host = SWITCH_ADDRESS if cluster.network else "127.0.0.1"
    command = [*prefix, "env", f"KAFKA_HOST={host}", script, "start", str(directory / "kafka"), str(free_port())]
    address = run(command, timeout=200).stdout.strip().splitlines()[-1]
    return address, [script, "stop", str(directory / "kafka")]


def main() -> int:
    """Plays the demo; exits with 0 only when the result is right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=Path, default=SOURCE / "build/release/bin")
    parser.add_argument("--kafka", action="store_true", help="windows and blocks on a real Kafka broker")
    parser.add_argument("--keep", action="store_true", help="leave state and logs under build/demo")
    arguments = parser.parse_args()
    out = SOURCE / "build/demo"
    shutil.rmtree(out / "state", ignore_errors=True)
    (out / "state").mkdir(parents=True, exist_ok=True)
    feeds = fetch_readings(out / "cache")
    isolated = namespaces_available()
    directory = out / "state" if arguments.keep else Path(tempfile.mkdtemp(prefix="shoal-demo-"))
    stop_kafka: list[str] = []
    try:
        with Cluster(directory, arguments.bin.resolve(), namespaces=isolated) as cluster:
            url = "shoal://"
            if arguments.kafka:
                say("starting a real Kafka broker")
                address, stop_kafka = start_kafka(cluster, directory)
                url = f"kafka://{address}"
            return play(cluster, feeds, directory, out, url, isolated)
    finally:
        if stop_kafka:
            run(stop_kafka, timeout=60, check=False)
        if not arguments.keep:
            shutil.rmtree(directory, ignore_errors=True)


def play(cluster: Cluster, feeds: dict[str, list[bytes]], directory: Path, out: Path, url: str, isolated: bool) -> int:
    """The story itself."""
    network = cluster.network
    where = "network namespaces" if isolated else "loopback"
    say(f"readings: {', '.join(f'{len(feed)} of {city}' for city, feed in feeds.items())} (PyPI {DATASET})")
    agents = build_hierarchy(cluster)
    driver = agents["cloud-1"]
    tree = wait_until(
        lambda: (lambda t: t if count_agents(t) == len(agents) else None)(driver.json("topology")), 20, "all agents in the tree"
    )
    say(f"{len(agents)} agents stand in three levels ({where}):")
    print_tree(tree)

    prefix = ["ip", "netns", "exec", network.switch] if network else []
    broker_address = SWITCH_ADDRESS if network else "127.0.0.1"
    broker, port = start_broker(prefix, broker_address, directory)
    with started(broker):
        for name, city in (("edge-1", "seattle"), ("edge-2", "san-francisco")):
            add_source(agents[name], f"mqtt://{broker_address}:{port}", city)
        say(f"mosquitto at port {port}; a sensor is attached to each edge agent")
        app = driver.json(
            "submit", str(SOURCE / "examples/python/city_temperatures.py"), "--run", f"demo-{os.getpid()}", "--url", url
        )["app"]
        say(f"application {app[:8]} submitted to cloud-1; its tasks may run anywhere")
        wait_until(lambda: running_on(cluster, "watch_seattle") and running_on(cluster, "gather_weeks"), 30, "stream tasks run")
        replays = [
            threading.Thread(target=replay, args=(prefix, broker_address, port, city, feed), daemon=True)
            for city, feed in feeds.items()
        ]
        for thread in replays:
            thread.start()
        begin = time.monotonic()
        time.sleep(PACE_S * 0.3)

        gathering = running_on(cluster, "gather_weeks")
        victim = next((name for name in gathering if name.startswith("fog-")), "fog-2")
        say(f"killing {victim} (SIGKILL) while it runs {gathering.get(victim, 0)} of {sum(gathering.values())} gather_weeks")
        agents[victim].kill()
        killed = time.monotonic()
        wait_until(lambda: sum(running_on(cluster, "gather_weeks").values()) >= sum(gathering.values()), 40, "others took over")
        recovery = time.monotonic() - killed
        say(f"after {recovery:.2f} s all of them run again, on {', '.join(running_on(cluster, 'gather_weeks'))}")
        if isolated:
            say("cutting the uplink of edge-1 for 5 s")
            agents["edge-1"].set_uplink(False)
            time.sleep(5)
            agents["edge-1"].set_uplink(True)
            say("the uplink is back")
        for thread in replays:
            thread.join()
        say("all readings were sent")
        code = driver.shoal("attach", app, timeout=120, check=False)
        took = time.monotonic() - begin
    return report(cluster, driver, app, code, feeds, out, victim, recovery, took)


def add_source(agent: Agent, url: str, city: str) -> None:
    """Attaches the MQTT topic of a city's thermometer to the agent, through its own socket."""
    program = (
        "import sys, shoal\n"
        "session = shoal.connect(sys.argv[1])\n"
        "session.request('edge.add_source', {'type': 'mqtt', 'url': sys.argv[2], 'topic': sys.argv[3], 'qos': 1,"
        " 'stream': sys.argv[4], 'client_id': sys.argv[4]})\n"
        "shoal.disconnect()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCE / "sdk/python")}
    done = subprocess.run(
        [sys.executable, "-c", program, agent.socket, url, f"sensors/{city}", f"sensor-{city}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode != 0:
        raise ClusterError(done.stderr)
    wait_until(
        lambda: any(row.get("state") == "connected" for row in agent.json("sources")["sources"]), 10, "the source is connected"
    )


def report(
    cluster: Cluster,
    driver: Agent,
    app: str,
    code: subprocess.CompletedProcess[str],
    feeds: dict[str, list[bytes]],
    out: Path,
    victim: str,
    recovery: float,
    took: float,
) -> int:
    """Compares, counts, draws; the exit code of the demo."""
    os.environ.pop("SHOAL_SOCKET", None)
    from city_temperatures import ALIAS, sequential_models, yearly_swing

    lines = [json.loads(line) for line in code.stdout.splitlines() if line.startswith("{")]
    result = next((line for line in lines if line["event"] == "result"), None)
    if code.returncode != 0 or result is None:
        print(code.stdout[-3000:], code.stderr[-3000:])
        say(f"the application failed with code {code.returncode}")
        return 1
    expected = sequential_models(feeds)
    equal = result["models"] == expected
    stored = cluster.agents["cloud-2"].shoal("objects", "locate", ALIAS, check=False).stdout
    print()
    for city, (model, (low, high)) in result["models"].items():
        print(
            f"  {city:14} mean {model[0]:6.2f} °C, yearly swing {yearly_swing(model):5.2f} °C (90 %: {low:.2f} … {high:.2f}),"
            f" from {result['blocks'][city]} weeks"
        )
    print(f"  sequential computation of the same readings: {'EQUAL' if equal else 'DIFFERENT ' + json.dumps(expected)}")
    read = "yes" if stored else "NO"
    print(f"  the model is the object behind alias {ALIAS} ({result['receipt']}), read through cloud-2: {read}")
    print()
    readings = [counts for counts in result["readings"] if counts]
    taken, broken = (sum(counts[key] for counts in readings) for key in ("readings", "broken"))
    print(f"  readings in: {taken} by the last run of each watcher, {broken} broken")
    for row in driver.json("streams")["streams"]:
        print(f"  stream {row['name']:24} {row.get('records', '-')!s:>7} records")
    tasks = driver.json("tasks", app, "--limit", "10000")["tasks"]
    finished = {name: agent.json("status")["attempts_finished"] for name, agent in cluster.agents.items() if agent.process}
    print(
        f"  tasks: {len(tasks)} in {took:.1f} s;  run by "
        + ", ".join(f"{name} {count}" for name, count in sorted(finished.items()))
    )
    print(f"  recovered: {victim} was killed, its stream task ran again elsewhere after {recovery:.2f} s")
    for name in ("graph", "timeline"):
        (out / f"{name}.svg").write_text(driver.shoal(name, app).stdout)
    print(f"  pictures: {(out / 'graph.svg').relative_to(SOURCE)}, {(out / 'timeline.svg').relative_to(SOURCE)}")
    say("the result is right" if equal else "the result is WRONG")
    return 0 if equal and stored else 1


BEGIN = time.monotonic()
if __name__ == "__main__":
    sys.exit(main())
