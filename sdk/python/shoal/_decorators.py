"""Decorators around @task: constraint, on_failure, binary, local, reduction, and those that are not there yet."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from shoal import _options
from shoal._command import Binary
from shoal._task import Task
from shoal.errors import NotSupportedError


def _apply(target: Any, change: Callable[[Task], None], decorator: str) -> Any:
    """Applies `change` to the task; a plain function remembers it until @task comes above."""
    if isinstance(target, Task):
        change(target)
    elif isinstance(target, (staticmethod, classmethod)):
        _apply(target.__func__, change, decorator)
    elif callable(target):
        pending = list(getattr(target, "__shoal_pending__", ()))
        target.__shoal_pending__ = [*pending, change]
    else:
        raise TypeError(f"@{decorator} decorates tasks, not {type(target).__name__}")
    return target


def constraint(**constraints: Any) -> Callable[[Any], Any]:
    """`@constraint(computing_units=2, memory_size=4, processor_architecture="aarch64", labels={"gpu": "yes"})`.

    What an agent must have to run the task. Values: literals, "$VARIABLE", or (computing_units, memory_size,
    storage_size) an expression over globals and arguments of the task, evaluated at each call.
    """
    checked = _options.check_constraints(constraints)
    return lambda target: _apply(target, lambda task: task.add_constraints(checked), "constraint")


def on_failure(management: str = "", **defaults: Any) -> Callable[[Any], Any]:
    """`@on_failure(management="IGNORE", returns=0, out=[])`: RETRY (default), FAIL, IGNORE or CANCEL_SUCCESSORS.

    The other keywords are the values that results and written parameters get when a failure is ignored.
    """
    policy = _options.parse_on_failure(management, "@on_failure")
    return lambda target: _apply(target, lambda task: task.set_on_failure(policy, defaults), "on_failure")


def binary(
    binary: str,
    args: str | None = None,
    working_dir: str = "",
    fail_by_exit_value: bool = True,
    **unsupported: Any,
) -> Callable[[Any], Any]:
    """`@binary(binary="sed", args="-i s/a/b/ {{file}}")` above @task: calls run a command.

    `{{name}}` stands for a parameter of the task. Without `args` the parameters follow the program in order.
    """
    working_dir = unsupported.pop("workingDir", working_dir)
    engine = unsupported.pop("engine", None)
    unsupported.pop("image", None)
    if engine:
        raise NotSupportedError("@binary(engine=…): commands in containers are not supported yet")
    if unsupported:
        raise TypeError(f"@binary has no option {sorted(unsupported)[0]!r}")
    if not isinstance(binary, str) or not binary:
        raise TypeError("@binary needs the program: @binary(binary='date')")
    command = Binary(binary, args, working_dir, bool(fail_by_exit_value))
    return lambda target: _apply(target, lambda task: task.set_binary(command), "binary")


def local(target: Any = None) -> Any:
    """`@local`: waits for the arguments and calls the plain function in the main program."""
    if target is None:
        return local
    if isinstance(target, Task):
        return _apply(target, Task.set_local, "local")

    @functools.wraps(target)
    def call(*args: Any, **kwargs: Any) -> Any:
        from shoal.api import wait_on

        return target(*[wait_on(arg) for arg in args], **{name: wait_on(arg) for name, arg in kwargs.items()})

    return call


def reduction(chunk_size: Any = 0, is_reduce: bool = True, **_: Any) -> Callable[[Any], Any]:
    """`@reduction(chunk_size=N)` above a task with one COLLECTION_IN: calls become a tree of calls on N elements each."""

    def decorate(target: Any) -> Any:
        if not isinstance(target, Task):
            raise TypeError("@reduction goes above @task")

        @functools.wraps(target)
        def call(*args: Any, **kwargs: Any) -> Any:
            size = int(chunk_size) if str(chunk_size).isdigit() else 0
            if not is_reduce or size < 2 or not args or not isinstance(args[0], (list, tuple)):
                return target(*args, **kwargs)
            level = list(args[0])
            while len(level) > size:
                chunks = [level[start : start + size] for start in range(0, len(level), size)]
                level = [chunk[0] if len(chunk) == 1 else target(chunk, *args[1:], **kwargs) for chunk in chunks]
            return target(level, *args[1:], **kwargs)

        return call

    return decorate


def io_task(target: Any = None) -> Any:
    """`@IO`: a task that mostly waits for I/O. It runs like any other task here."""
    return io_task if target is None else target


def not_supported(name: str, feature: str) -> Callable[..., Any]:
    """A decorator that is part of the interface but refuses, naming the feature."""

    def decorator(*_args: Any, **_keywords: Any) -> Any:
        raise NotSupportedError(
            f"@{name} ({feature}) is not supported by this version of Shoal; the program was stopped where it is used"
        )

    decorator.__name__ = name
    decorator.__doc__ = f"Refuses: {feature} is not supported yet."
    return decorator
