"""@data_transformation: a task in front of the task that turns one of its arguments into what it takes."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

from shoal import parameter as names
from shoal._command import TEMPLATE
from shoal._declaration import Declaration
from shoal._decorators import apply
from shoal._task import Task
from shoal.errors import nearest
from shoal.parameter import COLLECTION_IN, DIRECTORY_IN, DIRECTORY_OUT, FILE_IN, FILE_OUT, IN, TRANSFORMATION, Parameter

# kind → (how the transforming task takes its input, what its second argument is; None: it returns the value)
_KINDS: dict[int, tuple[Parameter, Parameter | None]] = {
    names.OBJECT_TO_FILE: (IN, FILE_OUT),
    names.COLLECTION_TO_FILE: (COLLECTION_IN, FILE_OUT),
    names.OBJECT_TO_DIRECTORY: (IN, DIRECTORY_OUT),
    names.COLLECTION_TO_DIRECTORY: (COLLECTION_IN, DIRECTORY_OUT),
    names.FILE_TO_OBJECT: (FILE_IN, None),
    names.FILE_TO_COLLECTION: (FILE_IN, None),
    names.DIRECTORY_TO_OBJECT: (DIRECTORY_IN, None),
    names.COLLECTION_TO_OBJECT: (COLLECTION_IN, None),
}


class DTObject:
    """One transformation: `DTObject("param", function, type=OBJECT_TO_FILE, destination="path", other=argument)`.

    `function` gets the argument first, then (types that write) the destination, then the other keywords; `{{parameter}}`
    stands for the value of a parameter. FILE_TO_COLLECTION takes `size`, the number of elements, so that each becomes a
    value of its own. With `is_workflow=True` the function is no task: it runs in the main program, and may call tasks.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        for old, new in (("param_name", "target"), ("func", "function")):
            if old in options:
                options.setdefault(new, options.pop(old))
        given = dict(zip(("target", "function"), args))
        for name in ("target", "function"):
            if name in options and name in given:
                raise TypeError(f"@data_transformation got {name} twice")
            given.setdefault(name, options.pop(name, None))
        if len(args) > 2:
            raise TypeError("@data_transformation takes the parameter and the function; all else by keyword")
        self.target, self.function = given["target"], given["function"]
        if not isinstance(self.target, str) or not callable(self.function):
            raise TypeError('@data_transformation needs the parameter and the function: @dt("param", function)')
        self.kind = options.pop("type", None)
        self.destination = options.pop("destination", None)
        self.size = options.pop("size", None) if self.kind == names.FILE_TO_COLLECTION else None
        self.is_workflow = options.pop("is_workflow", False) in (True, 1, "1", "true", "True")
        self.arguments = options
        if self.kind is not None and self.kind not in _KINDS:
            known = [kind.name for kind in TRANSFORMATION]
            hint = nearest(self.kind, known)
            raise TypeError(f"@data_transformation: unknown type {self.kind!r}{hint}; known: {', '.join(known)}")
        self._task: Any = None

    # ---- Step ----
    def check(self, task: Any) -> None:
        """The transformed parameter must exist, and so must those that its arguments name."""
        if not task.signature.accepts(self.target):
            known = task.signature.all_names()
            raise TypeError(
                f"@data_transformation of {task.name}: no parameter {self.target!r}{nearest(self.target, known)}; "
                f"there are: {', '.join(known) or 'none'}"
            )
        for value in self.arguments.values():
            for name in TEMPLATE.findall(value) if isinstance(value, str) else ():
                if not task.signature.accepts(name):
                    raise ValueError(f"@data_transformation of {task.name}: {{{{{name}}}}} names no parameter")

    def call(self, task: Any, args: tuple, kwargs: dict, onward: Callable) -> Any:
        """Submits the transformation, and the rest with its result in place of the argument."""
        position = task.signature.names.index(self.target) if self.target in task.signature.names else -1
        values = {**_defaults(task), **dict(zip(task.signature.names, args)), **kwargs}
        if self.target not in values:
            return onward(*args, **kwargs)  # Python says what is missing
        replaced = self._transformed(task, values)
        if 0 <= position < len(args):
            return onward(*args[:position], replaced, *args[position + 1 :], **kwargs)
        return onward(*args, **{**kwargs, self.target: replaced})

    def _transformed(self, task: Any, values: dict[str, Any]) -> Any:
        arguments = {name: _resolved(value, values) for name, value in self.arguments.items()}
        source = values[self.target]
        if self.is_workflow:
            return self.function(source, **arguments)
        transform = self._transform()
        output = _KINDS[self.kind][1] if self.kind is not None else None
        if output is None:
            return transform(source, **arguments)
        target = _resolved(self.destination, values) if self.destination is not None else _scratch(task, self.target)
        transform(source, target, **arguments)
        return target

    def _transform(self) -> Any:
        """The function as a task with the directions that the type says."""
        if self._task is None:
            function = self.function.function if isinstance(self.function, Declaration) else self.function
            if self.kind is None:
                self._task = self.function if isinstance(self.function, Task) else Task(function, {"returns": 1})
                return self._task
            source, output = _KINDS[self.kind]
            parameters = list(function.__code__.co_varnames[: function.__code__.co_argcount])
            needed = 1 if output is None else 2
            if len(parameters) < needed:
                kind = TRANSFORMATION(self.kind).name
                raise TypeError(f"@data_transformation {kind}: {function.__qualname__} must take {needed} arguments")
            keywords: dict[str, Any] = {parameters[0]: source}
            if output is None:
                keywords["returns"] = int(self.size) if self.size else 1
            else:
                keywords |= {parameters[1]: output, "returns": 0}
            self._task = Task(function, keywords)
        return self._task

    def __reduce__(self) -> Any:
        options = {**self.arguments, "type": self.kind, "destination": self.destination, "is_workflow": self.is_workflow}
        if self.size is not None:
            options["size"] = self.size
        return _rebuild, (self.target, self.function, options)


def _rebuild(target: str, function: Any, options: dict[str, Any]) -> DTObject:
    return DTObject(target, function, **options)


def _resolved(value: Any, values: dict[str, Any]) -> Any:
    if not isinstance(value, str):
        return value
    whole = TEMPLATE.fullmatch(value)
    if whole is not None:
        return values.get(whole.group(1))
    return TEMPLATE.sub(lambda match: str(values.get(match.group(1), match.group(0))), value)


def _defaults(task: Any) -> dict[str, Any]:
    parameters = inspect.signature(task.function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _scratch(task: Any, target: str) -> str:
    """A path for a transformation without destination."""
    import tempfile

    return os.path.join(tempfile.gettempdir(), f"{task.function.__name__}-{target}-{os.urandom(6).hex()}")


class PerCall:
    """`@dt()` without arguments: each call brings its own transformations, `f(x, dt=DTObject(…))` or a list of them."""

    def check(self, task: Any) -> None:
        """Nothing: calls are checked."""

    def call(self, task: Any, args: tuple, kwargs: dict, onward: Callable) -> Any:
        """Applies what the call brings."""
        given = kwargs.pop("dt", ())
        for step in reversed(given if isinstance(given, (list, tuple)) else (given,)):
            if not isinstance(step, DTObject):
                raise TypeError(f"dt= of a call of {task.name} must be a DTObject or a list of them, not {step!r}")
            step.check(task)
            onward = functools.partial(_apply, step, task, onward)
        return onward(*args, **kwargs)


def _apply(step: DTObject, task: Any, onward: Callable, /, *args: Any, **kwargs: Any) -> Any:
    return step.call(task, args, kwargs, onward)


def data_transformation(*args: Any, **options: Any) -> Callable[[Any], Any]:
    """`@dt("param", function, type=OBJECT_TO_FILE, destination="path")`, or `@dt(DTObject(…), DTObject(…))`, above @task."""
    flat = [one for arg in args for one in (arg if isinstance(arg, (list, tuple)) else (arg,))]
    if flat and all(isinstance(one, DTObject) for one in flat):
        if options:
            raise TypeError("@data_transformation takes DTObjects, or the description of one, not both")
        steps: list[Any] = flat
    elif not args and not options:
        steps = [PerCall()]
    else:
        steps = [DTObject(*args, **options)]

    def change(task: Any) -> None:
        for step in reversed(steps):
            task.add_step(step)

    return lambda target: apply(target, change, "data_transformation", needs_task=True)
