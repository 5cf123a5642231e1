"""Commands as tasks: what @binary declares, and how a call of it becomes an argument vector."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shoal._future import Future
from shoal._options import Options, environment_value, mention
from shoal.parameter import IOSTREAM, TYPE, Parameter

if TYPE_CHECKING:
    from shoal._call import CallBuilder

TEMPLATE = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")

# A word of `args=` that a shell would expand, and in which nothing else has a meaning to a shell.
_WILDCARD = re.compile(r"[\w./*?\[\]@%+,:=-]+")

Around = tuple["Binary | None", "Binary | None"]


class Binary:
    """A program with `{{parameter}}` placeholders in its arguments and working directory.

    `lead` are words between the program and its arguments, such as the script that an interpreter runs.
    """

    __slots__ = ("args", "fail_by_exit_value", "lead", "program", "working_dir")

    def __init__(
        self,
        program: str,
        args: str | None,
        working_dir: str,
        fail_by_exit_value: bool,
        lead: tuple[str, ...] | list[str] = (),
    ) -> None:
        self.program = program
        self.args = args
        self.working_dir = working_dir
        self.fail_by_exit_value = fail_by_exit_value
        self.lead = tuple(lead)
        mention(program)

    def fields(self) -> list[Any]:
        """The constructor's arguments."""
        return [self.program, self.args, self.working_dir, self.fail_by_exit_value, list(self.lead)]

    def placeholders(self) -> list[str]:
        """Names between double braces."""
        return TEMPLATE.findall(f"{self.args or ''} {self.working_dir}")

    def pack(
        self,
        builder: CallBuilder,
        values: dict[str, Any],
        parameter_of: Callable[[str], Parameter],
        options: Options,
        around: Around = (None, None),
    ) -> Options:
        """Adds the accesses of a call to `builder`; the call's options, with literals filled into the command.

        Placeholders of files and futures stay: the agent that runs the command fills them in.
        """
        texts: dict[str, str] = {}
        words: list[str] = []
        for name, value in values.items():
            parameter = parameter_of(name)
            if parameter.content in (TYPE.FILE, TYPE.DIRECTORY):
                if value is None:
                    continue
                builder.path(name, value, parameter)
            elif type(value) is Future:
                builder.named_future(name, value)
            else:
                texts[name] = _text(value)
                builder.named_literal(name, texts[name])
            if parameter.stream is IOSTREAM.UNSPECIFIED:
                words.append(f"{parameter.prefix}{{{{{name}}}}}")
        return options.changed(
            command=tuple(between(self._words(words, texts), around, texts)),
            working_dir=_fill(self.working_dir, texts),
            fail_by_exit_value=self.fail_by_exit_value,
        )

    def command_line(
        self, values: dict[str, Any], parameter_of: Callable[[str], Parameter], around: Around = (None, None)
    ) -> tuple[list[str], str, dict[str, tuple[str, str]]]:
        """(command, working directory, {standard stream: (path, mode)}) of a call whose values are all here."""
        texts = {name: _text(value) for name, value in values.items() if value is not None}
        words: list[str] = []
        redirects: dict[str, tuple[str, str]] = {}
        for name, text in texts.items():
            parameter = parameter_of(name)
            if parameter.stream is IOSTREAM.UNSPECIFIED:
                words.append(parameter.prefix + text)
            else:
                writes = "ab" if parameter.direction.name != "OUT" else "wb"
                mode = "rb" if parameter.stream is IOSTREAM.STDIN else writes
                redirects[parameter.stream.value] = (text, mode)
        command = between(self._words(words, texts), around, texts)
        return command, _fill(self.working_dir, texts), redirects

    def filled(self, values: dict[str, Any]) -> tuple[list[str], str]:
        """(argument vector, working directory) of a command that takes no parameters but by placeholders."""
        texts = {name: _text(value) for name, value in values.items()}
        return self.words(texts), _fill(self.working_dir, texts)

    def words(self, texts: dict[str, str]) -> list[str]:
        """The argument vector with what is known filled in, of a command that takes parameters by placeholders only."""
        return self._words([], texts)

    def _words(self, parameters: list[str], texts: dict[str, str]) -> list[str]:
        """Program and arguments: those declared, else the parameters in order."""
        import shlex

        words = shlex.split(self.args) if self.args is not None else parameters
        command = [environment_value(self.program, "@binary"), *self.lead, *[_fill(word, texts) for word in words]]
        return expanding(command, words) if self.args is not None else command


def expanding(command: list[str], declared: list[str]) -> list[str]:
    """`command`, run by a shell that expands the wildcards in `declared`, the words of `args=`; else as it is."""
    if not any(_WILDCARD.fullmatch(word) and set(word) & set("*?[") for word in declared):
        return command
    first = len(command) - len(declared)
    parts = [f'"${{{index + 1}}}"' for index in range(first)]
    for index, word in enumerate(declared):
        parts.append(word if _WILDCARD.fullmatch(word) and set(word) & set("*?[") else f'"${{{first + index + 1}}}"')
    return ["/bin/sh", "-c", "exec " + " ".join(parts), "sh", *command]


def between(command: list[str], around: Around, texts: dict[str, str]) -> list[str]:
    """`command` after the command of @prolog and before that of @epilog, as one command.

    A shell runs them; their words are its arguments, so nothing in them is read as shell text.
    """
    prolog, epilog = around
    if prolog is None and epilog is None:
        return command
    words: list[str] = []

    def quoted(part: list[str]) -> str:
        first = len(words) + 1
        words.extend(part)
        return " ".join(f'"${{{index}}}"' for index in range(first, len(words) + 1))

    lines = []
    if prolog is not None:
        ended = "|| exit $?" if prolog.fail_by_exit_value else "|| :"
        lines.append(f"{quoted(prolog.words(texts))} </dev/null >&2 {ended}")
    lines.append(f"{quoted(command)}\ncode=$?")
    if epilog is not None:
        ended = "|| exit $?" if epilog.fail_by_exit_value else "|| :"
        lines.append(f"{quoted(epilog.words(texts))} </dev/null >&2 {ended}")
    lines.append("exit $code")
    return ["/bin/sh", "-c", "\n".join(lines), "sh", *words]


def _fill(text: str, texts: dict[str, str]) -> str:
    return TEMPLATE.sub(lambda match: texts.get(match.group(1), match.group(0)), text)


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
