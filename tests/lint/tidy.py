#!/usr/bin/env python3
"""Runs clang-tidy over the C++ sources, and again only where something changed.

A file that was clean is not checked again until its text, a header of this tree that it includes (through others, too),
its compile command or .clang-tidy changes; the marks are in <build>/tidy-clean. Prints the findings and exits 1 if there are any.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLANG_TIDY = "clang-tidy-19"
INCLUDE = re.compile(rb'^\s*#\s*include\s+["<]([^">]+)[">]', re.M)
INCLUDE_ROOTS = (ROOT, ROOT / "sdk/cpp/include")


@lru_cache(maxsize=None)
def headers_of(path: Path) -> frozenset[Path]:
    """The headers of this tree that a file includes itself."""
    found = set()
    for name in INCLUDE.findall(path.read_bytes()):
        for root in (path.parent, *INCLUDE_ROOTS):
            header = (root / os.fsdecode(name)).resolve()
            if header.is_file() and ROOT in header.parents:
                found.add(header)
                break
    return frozenset(found)


def closure(path: Path) -> list[Path]:
    """A file and all headers of this tree that it sees, in a fixed order."""
    seen = {path}
    waiting = [path]
    while waiting:
        new = headers_of(waiting.pop()) - seen
        seen |= new
        waiting += new
    return sorted(seen)


@lru_cache(maxsize=None)
def digest(path: Path) -> bytes:
    """Of a file's content."""
    return hashlib.sha256(path.read_bytes()).digest()


def key_of(path: Path, command: str) -> str:
    """Equal for runs that must give the same findings."""
    whole = hashlib.sha256(command.encode() + digest(ROOT / ".clang-tidy"))
    for part in closure(path):
        whole.update(str(part).encode() + digest(part))
    return whole.hexdigest()


def check(build: Path, path: Path, command: str) -> str:
    """The findings in one file; empty when it is clean, or was and nothing changed."""
    mark = build / "tidy-clean" / key_of(path, command)
    if mark.exists():
        return ""
    done = subprocess.run([CLANG_TIDY, "-p", build, "--quiet", "--warnings-as-errors=*", path],
                          capture_output=True, text=True, check=False)
    if done.returncode == 0:
        mark.touch()
        return ""
    return done.stdout or done.stderr


def main() -> int:
    """Checks the given files, or all that the build tree compiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True, help="build tree with compile_commands.json, without unity")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--skip", default="$^", help="regular expression of paths to leave out")
    parser.add_argument("files", nargs="*", type=Path)
    given = parser.parse_args()
    (given.build / "tidy-clean").mkdir(exist_ok=True)
    commands = {Path(entry["file"]): entry["command"]
                for entry in json.loads((given.build / "compile_commands.json").read_text())}
    chosen = [file.resolve() for file in given.files] or sorted(commands)
    unknown = [file for file in chosen if file not in commands]
    if unknown:
        print(f"{unknown[0]} is not compiled in {given.build}: only .cc files of this tree can be checked", file=sys.stderr)
        return 2
    chosen = [file for file in chosen if not re.match(given.skip, file.relative_to(ROOT).as_posix())]
    with ThreadPoolExecutor(given.jobs) as pool:
        findings = [text for text in pool.map(lambda file: check(given.build, file, commands[file]), chosen) if text]
    for text in findings:
        print(text)
    print(f"tidy: {len(findings)} of {len(chosen)} files have findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
