#!/usr/bin/env python3
"""Checks the rules that decay when nobody checks them.

Layers: a folder includes only what tests/lint/layers.txt lets it. Doors: a third-party header is included only where
tests/lint/doors.txt lets it. Length: no source file has more than 800 lines. Purity: the pure libraries use no clock,
thread, socket, random, file or environment symbol (nm -uC). Prints every violation and exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
LINES_MAX = 800
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)
PURE_LIBRARIES = (
    "protocol/overlay/libshoal_overlay.a",
    "scheduler/libshoal_scheduler.a",
    "storage/model/libshoal_storage_model.a",
    "streams/model/libshoal_streams_model.a",
    "agent/node/libshoal_node.a",
)
IMPURE = re.compile(
    r"std::chrono::_V2|clock_gettime|gettimeofday|\btime\b$|nanosleep|pthread_create|std::thread|std::mutex|"
    r"std::condition_variable|\bsocket\b|\brecv|\bsend(to|msg)?\b$|std::random_device|\brandom\b|\brand\b|getrandom|"
    r"std::basic_[io]?fstream|std::basic_filebuf|\bfopen|\bopen(at)?(64)?\b$|\bgetenv|\bsetenv|std::filesystem"
)


def tracked(*patterns: str) -> list[Path]:
    """Files of the tree that git knows (or would add), matching the patterns."""
    out = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )
    return [ROOT / line for line in out.stdout.splitlines() if (ROOT / line).is_file()]


def read_rules(name: str) -> dict[str, list[str]]:
    """Lines of `left: right right`, '#' starts a comment."""
    rules: dict[str, list[str]] = {}
    for line in (HERE / name).read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            left, _, right = line.partition(":")
            rules[left.strip()] = right.split()
    return rules


def longest_match(path: str, keys: list[str]) -> str | None:
    """The most specific key that is a folder above `path` (or `path` itself)."""
    found = [key for key in keys if path == key or path.startswith(key + "/")]
    return max(found, key=len, default=None)


def check_includes() -> list[str]:
    """Layers and doors."""
    layers = read_rules("layers.txt")
    doors = read_rules("doors.txt")
    problems = []
    for file in tracked("*.h", "*.hpp", "*.cc"):
        relative = file.relative_to(ROOT).as_posix()
        layer = longest_match(relative, list(layers))
        if layer is None:
            problems.append(f"{relative}: its folder has no line in tests/lint/layers.txt")
            continue
        for quote, header in INCLUDE.findall(file.read_text()):
            if quote == '"' and (ROOT / header).exists():
                target = longest_match(header, list(layers))
                allowed = layers[layer]
                if target != layer and "*" not in allowed and not any(
                    target == a or (target or "").startswith(a + "/") for a in allowed
                ):
                    problems.append(f"{relative}: {layer} may not include {header}")
            elif quote == "<":
                for door, prefixes in doors.items():
                    if any(header.startswith(p) for p in prefixes):
                        homes = door.split(",")
                        if longest_match(relative, homes) is None:
                            problems.append(f"{relative}: <{header}> may be included only by {door}")
    return problems


def check_length() -> list[str]:
    """No file too long to hold in the head."""
    problems = []
    for file in tracked("*.h", "*.hpp", "*.cc", "*.py"):
        lines = file.read_text().count("\n")
        if lines > LINES_MAX:
            problems.append(f"{file.relative_to(ROOT)}: {lines} lines, the limit is {LINES_MAX}")
    return problems


def check_purity(build: Path) -> list[str]:
    """What the pure libraries ask of the outside."""
    problems = []
    for library in PURE_LIBRARIES:
        path = build / library
        if not path.exists():
            problems.append(f"{path} is not built: run tools/check build first")
            continue
        out = subprocess.run(["nm", "-uC", path], check=True, capture_output=True, text=True).stdout
        symbols = {line.strip().split(" ", 1)[-1].strip() for line in out.splitlines() if " U " in f" {line} "}
        for symbol in sorted(symbols):
            if IMPURE.search(symbol):
                problems.append(f"{library}: pure code uses {symbol}")
    return problems


def main() -> int:
    """Runs every check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, help="build tree whose libraries are checked for purity")
    arguments = parser.parse_args()
    problems = check_includes() + check_length()
    if arguments.build:
        problems += check_purity(arguments.build)
    for problem in problems:
        print(problem)
    print(f"lint: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
