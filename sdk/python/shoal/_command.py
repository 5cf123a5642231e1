"""Commands as tasks: what @binary declares, and how a call of it becomes an argument vector."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shoal._future import Future
from shoal._options import Options, environment_value
from shoal.parameter import IOSTREAM, TYPE, Parameter

if TYPE_CHECKING:
    from shoal._call import CallBuilder

TEMPLATE = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")


class Binary:
    """A program with `{{parameter}}` placeholders in its arguments and working directory."""

    __slots__ = ("args", "fail_by_exit_value", "program", "working_dir")

    def __init__(self, program: str, args: str | None, working_dir: str, fail_by_exit_value: bool) -> None:
        self.program = program
        self.args = args
        self.working_dir = working_dir
        self.fail_by_exit_value = fail_by_exit_value

    def fields(self) -> list[Any]:
        """The constructor's arguments."""
        return [self.program, self.args, self.working_dir, self.fail_by_exit_value]

    def placeholders(self) -> list[str]:
        """Names between double braces."""
        return TEMPLATE.findall(f"{self.args or ''} {self.working_dir}")

    def pack(
        self, builder: CallBuilder, values: dict[str, Any], parameter_of: Callable[[str], Parameter], options: Options
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
            command=tuple(self._words(words, texts)),
            working_dir=_fill(self.working_dir, texts),
            fail_by_exit_value=self.fail_by_exit_value,
        )

    def command_line(
        self, values: dict[str, Any], parameter_of: Callable[[str], Parameter]
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
                redirects[parameter.stream.value] = (text, "rb" if parameter.stream is IOSTREAM.STDIN else "wb")
        return self._words(words, texts), _fill(self.working_dir, texts), redirects

    def _words(self, parameters: list[str], texts: dict[str, str]) -> list[str]:
        """Program and arguments: those declared, else the parameters in order."""
        words = shlex.split(self.args) if self.args is not None else parameters
        return [environment_value(self.program, "@binary"), *[_fill(word, texts) for word in words]]


def _fill(text: str, texts: dict[str, str]) -> str:
    return TEMPLATE.sub(lambda match: texts.get(match.group(1), match.group(0)), text)


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
