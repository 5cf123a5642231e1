"""The environments of this program: the bundles of packages that `shoal run --environment` brought along."""

from __future__ import annotations

import os

from shoal.errors import nearest

# What the agent tells its processes: the id of the program's environment ("-": none), then NAME=ID of others.
VARIABLE = "SHOAL_ENVIRONMENT"
NONE = bytes(16)


def _read() -> tuple[bytes, dict[str, bytes]]:
    words = os.environ.get(VARIABLE, "").split()
    own = NONE
    named: dict[str, bytes] = {}
    for word in words:
        name, equals, text = word.rpartition("=")
        try:
            identity = bytes.fromhex(text)
        except ValueError:
            continue
        if len(identity) != len(NONE):
            continue
        if equals:
            named[name] = identity
        else:
            own = identity
    return own, named


def ids() -> list[bytes]:
    """What a driver says in its greeting: the program's environment first, then those its tasks may name."""
    own, named = _read()
    return [own, *named.values()] if named or own != NONE else []


def named(name: str, where: str) -> bytes:
    """The environment that a task asks for by `name`. ValueError when the program was started without it."""
    known = _read()[1]
    if name not in known:
        raise ValueError(
            f"{where}: environment={name!r} is not known{nearest(name, known)}; start the program with "
            f"`shoal run --environment {name}=FILE`"
        )
    return known[name]


def is_inside(path: str) -> bool:
    """True for a directory of the program's environment: every agent has one of its own."""
    own = _read()[0]
    return own != NONE and f"/built/{own.hex()}/" in path + "/"
