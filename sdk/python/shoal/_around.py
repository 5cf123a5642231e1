"""Commands before and after a Python task (@prolog, @epilog), run where the task runs."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from shoal._command import Binary
from shoal.errors import TaskFailedError


def around(function: Callable, commands: list[list[Any] | None]) -> Callable:
    """`function` between two commands, given as fields of Binary; their placeholders get the call's arguments."""
    prolog, epilog = (None if fields is None else Binary(*fields) for fields in commands)
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if prolog is not None:
            run(prolog, bound.arguments, "@prolog")
        result = function(*args, **kwargs)
        if epilog is not None:
            run(epilog, bound.arguments, "@epilog")
        return result

    return call


def run(binary: Binary, values: dict[str, Any], decorator: str) -> None:
    """Runs a command to its end; TaskFailedError when it cannot be run, or fails and is not allowed to."""
    words, working_dir = binary.filled(values)
    sys.stdout.flush()
    sys.stderr.flush()
    import shlex
    import subprocess

    try:
        code = subprocess.run(words, cwd=working_dir or None, check=False, stdin=subprocess.DEVNULL).returncode
    except OSError as error:
        raise TaskFailedError(f"{decorator}: {shlex.join(words)} cannot be run: {error.strerror}") from error
    if code and binary.fail_by_exit_value:
        raise TaskFailedError(f"{decorator}: {shlex.join(words)} ended with exit value {code}")
