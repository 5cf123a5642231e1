"""Finds and runs the `shoal` command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any


def python_paths() -> list[str]:
    """Where the packages `shoal` and `pycompss` lie: what PYTHONPATH needs for a program to import them."""
    import shoal

    places = [os.path.dirname(os.path.dirname(os.path.abspath(shoal.__file__)))]
    own = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return list(dict.fromkeys([*places, own]))


def program() -> str | None:
    """The `shoal` command: of SHOAL_BIN, else of PATH; None when it is not installed."""
    directory = os.environ.get("SHOAL_BIN")
    if directory:
        candidate = os.path.join(directory, "shoal")
        return candidate if os.access(candidate, os.X_OK) else None
    return shutil.which("shoal")


def command(home: str | None, *words: str) -> list[str]:
    """The argument vector of a `shoal` command. SystemExit when it is not installed."""
    found = program()
    if found is None:
        print("the command `shoal` is not installed: put it on PATH, or name its directory in SHOAL_BIN", file=sys.stderr)
        raise SystemExit(127)
    return [found, *(["--home", home] if home else []), *words]


def run(home: str | None, *words: str) -> int:
    """Runs a `shoal` command to its end; its exit code."""
    return subprocess.run(command(home, *words), check=False).returncode


def output(home: str | None, *words: str) -> str:
    """What a `shoal` command prints. SystemExit with its code when it fails."""
    done = subprocess.run(command(home, *words), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    return done.stdout.strip()


def answers(home: str | None = None) -> bool:
    """True if an agent answers."""
    if program() is None:
        return False
    done = subprocess.run(command(home, "status"), capture_output=True, check=False)
    return done.returncode == 0


def as_json(home: str | None, *words: str) -> Any:
    """What a `shoal` command answers, as data."""
    return json.loads(output(home, "-o", "json", *words))
