"""Options as COMPSs's commands take them: `--name=value`, `--flag`, `-d`. Those without meaning here say so, once."""

from __future__ import annotations

import sys
from collections.abc import Iterable

_METHOD = "`shoal graph last`, `shoal timeline last`, `shoal tasks` and `shoal explain` show it, always"

# What to do instead, where there is something.
HINTS = {
    "graph": _METHOD,
    "tracing": _METHOD,
    "monitoring": "`shoal status` prints the address of the agent's pages",
    "summary": _METHOD,
    "project": "agents find out by themselves what their machine has",
    "resources": "agents find out by themselves what their machine has",
    "storage_impl": "the agents' store keeps persistent objects",
    "streaming": "streams need no server: they are there",
    "log_level": "`shoal logs` shows what programs and tasks wrote",
    "PyObject_serialize": "small objects always travel inside of messages; dill: SHOAL_SERIALIZER=dill",
    "classpath": "only Python programs run here",
}
SHORT = {"d": "log_level", "g": "graph", "t": "tracing", "m": "monitoring", "p": "provenance", "h": "help", "v": "version"}


class UsageError(Exception):
    """The command line cannot be understood."""


class Parsed:
    """What a command line says: options, then the rest."""

    def __init__(self, options: dict[str, str], rest: list[str]) -> None:
        self.options = options
        self.rest = rest

    def get(self, name: str, default: str = "") -> str:
        """The value of an option; `default` when it was not given."""
        return self.options.get(name, default)

    def has(self, name: str) -> bool:
        """True if the option was given."""
        return name in self.options


def parse(command: str, words: list[str], known: Iterable[str]) -> Parsed:
    """The options before the first word that is none. UsageError for an unknown one, with the nearest known."""
    from shoal.errors import nearest

    names = set(known)
    options: dict[str, str] = {}
    index = 0
    while index < len(words) and words[index].startswith("-") and words[index] not in ("-", "--"):
        word = words[index]
        index += 1
        name, _, value = word.lstrip("-").partition("=")
        if not word.startswith("--"):
            name = SHORT.get(name, name)
        name = name.replace("-", "_")
        if name not in names and name not in ("help", "version"):
            raise UsageError(f"{command}: unknown option {word.partition('=')[0]}{nearest(name, names)}")
        options[name] = value
    if index < len(words) and words[index] == "--":
        index += 1
    return Parsed(options, words[index:])


def say_without_meaning(command: str, parsed: Parsed, meaningful: Iterable[str]) -> None:
    """One line on standard error for each option that changes nothing here."""
    for name in parsed.options:
        if name in set(meaningful) or name in ("help", "version"):
            continue
        hint = HINTS.get(name)
        print(f"{command}: --{name} has no meaning here{'; ' + hint if hint else ''}", file=sys.stderr)
