"""Goal: tools/bench runs and measures every row it declares, and compares with other runtimes. Method: the command itself,
with its tiny sizes and the one peer that needs no installation; nothing here depends on how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import xml.etree.ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BINARIES = Path(os.environ.get("SHOAL_BIN", ROOT / "build/dev/bin"))
# A build tree is brought up to date, because the floors are built only when they are asked for.
IN_TREE = (BINARIES.parent / "CMakeCache.txt").exists()
READY = ("--build", str(BINARIES.parent)) if IN_TREE else ("--bin", str(BINARIES))
ROWS = {
    "tasks": {
        "zmq_ipc_round_trip",
        "zmq_tcp_round_trip",
        "chain",
        "zmq_ipc_pipelined",
        "void",
        "results",
        "round_trip",
        "round_trip_p99",
    },
    "flow": {"fan_in", "tree", "cpp_local", "cpp_agent", "cpp_link", "million", "memory", "cold", "killed", "grain"},
    "store": {"rocksdb_put", "rocksdb_sync_put", "memcpy", "put", "get", "put_large", "get_large", "task_large"},
    "streams": {"file", "file_sync", "publish", "publish_local", "poll", "pass_on"},
    "idle": {"start", "rss", "anonymous", "threads", "cpu", "switches"},
    "placement": {"makespan", "random_best", "makespan_ratio", "moved", "random_moved", "moved_ratio"},
}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command on the build tree that is tested."""
    command = [str(ROOT / "tools/bench"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_every_row_is_measured() -> None:
    done = bench("--quick", "--runs", "2", "-o", "json", *READY)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [report["what"] for report in result["reports"]] == list(ROWS)
    assert result["machine"]["cores"] == os.cpu_count()
    for report in result["reports"]:
        rows = {row["key"]: row for row in report["rows"]}
        assert ROWS[report["what"]] <= set(rows)
        for row in rows.values():
            assert row["runs"] == 2, row
            assert row["min"] <= row["median"] <= row["max"], row
            assert row["median"] > 0 or row["key"] in ("cpu", "switches", "moved", "random_moved", "moved_ratio"), row
            if row["floor"] is not None:
                floor = rows[row["floor"]]["median"]
                ratio = floor / row["median"] if row["unit"].endswith("/s") else row["median"] / floor
                assert row["cost"] == pytest.approx(ratio)


def test_the_table_has_a_line_for_each_row() -> None:
    done = bench("idle", "--quick", *READY)
    assert done.returncode == 0, done.stderr
    for text in ("start to first accepted request", "of which anonymous", "context switches", "≤ 32", "cores, Linux"):
        assert text in done.stdout


def test_wrong_use_is_explained() -> None:
    assert "--quick" in bench("--help").stdout
    wrong = bench("taks")
    assert wrong.returncode == 2
    assert "choose from tasks, flow, store, streams, idle, placement" in wrong.stderr
    assert bench("--runs", "0").returncode == 2
    missing = bench("--build", "/no/such/tree")
    assert missing.returncode == 1
    assert "/no/such/tree" in missing.stderr
    missing = bench("--bin", "/no/such/directory")
    assert missing.returncode == 1
    assert "/no/such/directory" in missing.stderr


def test_shoal_and_a_peer_do_the_same_work(tmp_path: Path) -> None:
    picture = tmp_path / "ratios.svg"
    done = bench("tasks", "--vs", "processpool", "--quick", "-o", "json", "--picture", str(picture), *READY)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)["reports"]
    assert list(report["against"]) == ["shoal", "processpool"]
    for about in report["against"].values():
        assert about["runs"] == 1 and about["trouble"] is None and about["version"]
    rows = {row["key"]: row for row in report["rows"]}
    assert set(rows) == {"rate", "cpu", "p50", "p99", "chain", "fan_in", "cold", "put", "use", "spawn"}
    for key, row in rows.items():
        own, other = row["figures"]["shoal"]["median"], row["figures"].get("processpool", {}).get("median")
        assert own > 0 or key == "cpu", row  # a processor time is counted in steps of 10 ms
        if other is None:
            assert key in ("put", "use", "spawn")
            assert row["missing"]["processpool"].startswith("no ")
        elif own and other:
            better = own / other if row["unit"].endswith("/s") else other / own
            assert row["ratios"]["processpool"] == pytest.approx(better)
    assert report["floors"]["posix_spawn"]["median"] > 0
    drawn = xml.etree.ElementTree.parse(picture).getroot()
    assert "processpool" in [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]


def test_wrong_use_of_the_comparison_is_explained() -> None:
    unknown = bench("tasks", "--vs", "ray,daks")
    assert unknown.returncode == 2
    assert "'daks' is no peer known here: choose from ray, dask, hyperqueue, parsl, processpool" in unknown.stderr
    assert "no peer named" in bench("tasks", "--vs", "").stderr
    assert "tasks only" in bench("store", "--vs", "processpool").stderr
    assert "--vs" in bench("tasks", "--picture", "x.svg").stderr
    assert "/no/such" in bench("--vs", "processpool", "--picture", "/no/such/x.svg").stderr
