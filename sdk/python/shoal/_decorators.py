"""Decorators around @task: what a task needs, what runs, what happens to its calls; and those that are not there yet."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from shoal import _options
from shoal._command import Binary
from shoal._declaration import Declaration, Declared
from shoal._steps import Reduction, register_alternative
from shoal._task import Task
from shoal.errors import NotSupportedError, nearest


def apply(target: Any, change: Callable[[Any], None], decorator: str, *, needs_task: bool = False) -> Any:
    """Applies `change` to the task. Above a plain function it does nothing, but @task above it is an error.

    With `needs_task`, so is calling the function, because it would run something else.
    """
    if isinstance(target, Declaration):
        change(target)
        return target
    if isinstance(target, (staticmethod, classmethod)):
        inner = apply(target.__func__, change, decorator, needs_task=needs_task)
        return target if inner is target.__func__ else type(target)(inner)
    if isinstance(target, type) or not callable(target):
        what = f"the class {target.__qualname__}" if isinstance(target, type) else f"a {type(target).__name__}"
        raise TypeError(f"@{decorator} decorates tasks, not {what}")
    hidden = _task_below(target)
    if hidden is not None:
        other = getattr(target, "__qualname__", "") or type(target).__name__
        raise TypeError(
            f"decorators of {hidden.name} are in the wrong order: between @{decorator} and @task there is another decorator "
            f"({other}); put @{decorator} directly above @task"
        )
    declared = target if isinstance(target, Declared) else Declared(target)
    declared.decorator = decorator
    if needs_task:
        declared.needs_task = decorator
    return declared


def _task_below(target: Any) -> Declaration | None:
    """The task that a foreign decorator wrapped; what is said above that would be said of the wrapper, and lost."""
    while target is not None and not isinstance(target, (Declaration, Declared)):
        target = getattr(target, "__wrapped__", None)
    return target if isinstance(target, Declaration) else None


def keywords_only(decorator: str, args: tuple, example: str) -> None:
    """TypeError for `@decorator` without parentheses and for positional arguments."""
    if args:
        raise TypeError(f"@{decorator} takes keywords: @{decorator}({example})")


def constraint(*args: Any, **constraints: Any) -> Callable[[Any], Any]:
    """`@constraint(computing_units=2, memory_size=4, processor_architecture="aarch64", labels={"gpu": "yes"})`.

    What an agent must have to run the task. Values: literals, "$VARIABLE", or (computing_units, memory_size,
    storage_size) an expression over globals and arguments of the task, evaluated at each call.
    """
    keywords_only("constraint", args, "computing_units=2")
    checked = _options.check_constraints(constraints)
    return lambda target: apply(target, lambda task: task.add_constraints(checked), "constraint")


def on_failure(*args: Any, management: str = "", **defaults: Any) -> Callable[[Any], Any]:
    """`@on_failure(management="IGNORE", returns=0, out=[])`: RETRY (default), FAIL, IGNORE or CANCEL_SUCCESSORS.

    The other keywords are the values that results and written parameters get when a failure is ignored.
    """
    keywords_only("on_failure", args, 'management="IGNORE"')
    policy = _options.parse_on_failure(management, "@on_failure")
    return lambda target: apply(target, lambda task: task.set_on_failure(policy, defaults), "on_failure")


def command_of(
    decorator: str, binary: Any, args: Any, options: dict[str, Any], *, fails: bool = True, takes_parameters: bool = True
) -> Binary:
    """The command that a decorator declares. TypeError for unknown options, NotSupportedError for containers."""
    working_dir = options.pop("workingDir", options.pop("working_dir", ""))
    fails = bool(options.pop("failByExitValue", options.pop("fail_by_exit_value", fails)))
    params = options.pop("params", None)  # the name of `args` in older programs
    args = params if args is None else args
    engine = options.pop("engine", None)
    options.pop("image", None)
    if engine:
        raise NotSupportedError(f"@{decorator}(engine=…): commands in containers are not supported yet")
    if options:
        name = sorted(options)[0]
        raise TypeError(f"@{decorator} has no option {name!r}{nearest(name, ('args', 'working_dir', 'fail_by_exit_value'))}")
    if not isinstance(binary, str) or not binary:
        raise TypeError(f"@{decorator} needs the program: @{decorator}(binary='date')")
    if args is not None and not isinstance(args, str):
        raise TypeError(f"@{decorator}: args must be one string, as on a command line, not {type(args).__name__}")
    import shlex

    try:
        shlex.split(args or "")
    except ValueError as error:
        raise TypeError(f"@{decorator}: args={args!r} is no command line: {error}") from None
    if args is None and not takes_parameters:
        args = ""
    return Binary(binary, args, str(working_dir or ""), fails)


def binary(*positional: Any, binary: Any = None, args: str | None = None, **options: Any) -> Callable[[Any], Any]:
    """`@binary(binary="sed", args="-i s/a/b/ {{file}}")` above @task: calls run a command.

    `{{name}}` stands for a parameter of the task, in `args` and `working_dir`; a name that is none is refused here.
    Without `args` the parameters follow the program in order. With `fail_by_exit_value=False` and `returns=int` the exit
    value is the result.
    """
    keywords_only("binary", positional, "binary='date'")
    command = command_of("binary", binary, args, options)
    return lambda target: apply(target, lambda task: task.set_binary(command), "binary", needs_task=True)


def prolog(*positional: Any, binary: Any = None, args: str | None = None, **options: Any) -> Callable[[Any], Any]:
    """`@prolog(binary="mkdir", args="-p {{where}}")`: a command that runs before the task, at the same place."""
    keywords_only("prolog", positional, "binary='date'")
    command = command_of("prolog", binary, args, options, takes_parameters=False)
    return lambda target: apply(target, lambda task: task.set_around(command, None), "prolog", needs_task=True)


def epilog(*positional: Any, binary: Any = None, args: str | None = None, **options: Any) -> Callable[[Any], Any]:
    """`@epilog(binary="rm", args="{{scratch}}")`: a command that runs after the task, at the same place.

    The task does not fail with it, unless `fail_by_exit_value=True`.
    """
    keywords_only("epilog", positional, "binary='date'")
    command = command_of("epilog", binary, args, options, fails=False, takes_parameters=False)
    return lambda target: apply(target, lambda task: task.set_around(None, command), "epilog", needs_task=True)


def local(target: Any = None) -> Any:
    """`@local`: waits for the arguments and calls the plain function in the main program."""
    if target is None:
        return local
    if isinstance(target, Task):
        return apply(target, Task.set_local, "local")

    @functools.wraps(target)
    def call(*args: Any, **kwargs: Any) -> Any:
        from shoal.api import wait_on

        return target(*[wait_on(arg) for arg in args], **{name: wait_on(arg) for name, arg in kwargs.items()})

    return call


def reduction(*positional: Any, chunk_size: Any = 0, is_reduce: bool = True, **options: Any) -> Callable[[Any], Any]:
    """`@reduction(chunk_size=N)` around a task with one COLLECTION_IN: calls become a tree of calls on N elements each.

    `chunk_size` is a number, "$VARIABLE" or the name of a global. The task must be able to reduce its own results.
    """
    keywords_only("reduction", positional, "chunk_size=4")
    chunk_size = options.pop("chunkSize", chunk_size)
    is_reduce = options.pop("isReduce", is_reduce)
    if options:
        name = sorted(options)[0]
        raise TypeError(f"@reduction has no option {name!r}{nearest(name, ('chunk_size', 'is_reduce'))}")
    change = (lambda task: task.add_step(Reduction(chunk_size))) if is_reduce else (lambda task: None)
    return lambda target: apply(target, change, "reduction")


def implement(*positional: Any, source_class: str = "", method: str = "", **options: Any) -> Callable[[Any], Any]:
    """`@implement(source_class="module", method="function")` above @task: another way to do what that task does.

    Calls of the named task go to the implementation that the agents can run (its constraints) and, once each was
    measured, to the one that takes the least time.
    """
    keywords_only("implement", positional, 'source_class="module", method="function"')
    source_class = options.pop("sourceClass", source_class)
    if options:
        name = sorted(options)[0]
        raise TypeError(f"@implement has no option {name!r}{nearest(name, ('source_class', 'method'))}")
    if not source_class or not method:
        raise TypeError('@implement needs the task it stands in for: @implement(source_class="module", method="function")')
    core = f"{source_class}.{method}"
    return lambda target: apply(target, lambda task: register_alternative(core, task), "implement", needs_task=True)


def io_task(target: Any = None, **options: Any) -> Any:
    """`@IO`: a task that mostly waits for I/O. It takes no computing unit."""
    if options:
        raise TypeError(f"@IO has no option {sorted(options)[0]!r}")
    return io_task if target is None else apply(target, lambda task: task.set_io(), "IO")


def not_supported(name: str, feature: str) -> Callable[..., Any]:
    """A decorator that is part of the interface but refuses, naming the feature."""

    def decorator(*_args: Any, **_keywords: Any) -> Any:
        raise NotSupportedError(
            f"@{name} ({feature}) is not supported by this version of Shoal; the program was stopped where it is used"
        )

    decorator.__name__ = name
    decorator.__doc__ = f"Refuses: {feature} is not supported yet."
    return decorator
