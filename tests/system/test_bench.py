"""Goal: tools/bench runs and measures every row it declares. Method: the command itself, with its tiny sizes; nothing here
depends on how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BINARIES = Path(os.environ.get("SHOAL_BIN", ROOT / "build/dev/bin"))
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
    "store": {"rocksdb_put", "rocksdb_sync_put", "memcpy", "put", "get", "put_large", "get_large", "task_large"},
    "streams": {"file", "file_sync", "publish", "publish_local", "poll", "pass_on"},
    "idle": {"start", "rss", "anonymous", "threads", "cpu", "switches"},
}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command on the build tree that is tested."""
    command = [str(ROOT / "tools/bench"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_every_row_is_measured() -> None:
    done = bench("--quick", "--runs", "2", "-o", "json", "--build", str(BINARIES.parent))
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
            assert row["median"] > 0 or row["key"] in ("cpu", "switches"), row
            if row["floor"] is not None:
                floor = rows[row["floor"]]["median"]
                ratio = floor / row["median"] if row["unit"].endswith("/s") else row["median"] / floor
                assert row["cost"] == pytest.approx(ratio)


def test_the_table_has_a_line_for_each_row() -> None:
    done = bench("idle", "--quick", "--build", str(BINARIES.parent))
    assert done.returncode == 0, done.stderr
    for text in ("start to first accepted request", "of which anonymous", "context switches", "≤ 32", "cores, Linux"):
        assert text in done.stdout


def test_wrong_use_is_explained() -> None:
    assert "--quick" in bench("--help").stdout
    wrong = bench("taks")
    assert wrong.returncode == 2
    assert "choose from tasks, store, streams, idle" in wrong.stderr
    assert bench("--runs", "0").returncode == 2
    missing = bench("--build", "/no/such/tree")
    assert missing.returncode == 1
    assert "/no/such/tree" in missing.stderr
