"""@data_transformation: a task in front of the task that turns one of its arguments into what it takes."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable
from typing import Any

from shoal import parameter as names
from shoal._command import TEMPLATE
from shoal._declaration import Declaration
from shoal._decorators import apply
from shoal._task import Task
from shoal.errors import nearest
from shoal.parameter import COLLECTION_IN, DIRECTORY_IN, DIRECTORY_OUT, FILE_IN, FILE_OUT, IN, Parameter

# kind → (how the transforming task takes its input, what its second argument is; None: it returns the value)
_KINDS: dict[str, tuple[Parameter, Parameter | None]] = {
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

    `function` gets the argument first, then (types that write) the destination, then the other keywords. A keyword whose
    value is the name of a parameter, or `{{parameter}}`, gets that parameter's value. FILE_TO_COLLECTION takes `size`, the
    number of elements, so that each becomes a value of its own.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
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
        self.arguments = options
        if self.kind is not None and self.kind not in _KINDS:
            raise TypeError(
                f"@data_transformation: unknown type {self.kind!r}{nearest(self.kind, _KINDS)}; known: {', '.join(_KINDS)}"
            )
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
        values = {**dict(zip(task.signature.names, args)), **kwargs}
        if self.target not in values:
            return onward(*args, **kwargs)  # left to its default, which is what the task takes
        replaced = self._transformed(task, values)
        if 0 <= position < len(args):
            return onward(*args[:position], replaced, *args[position + 1 :], **kwargs)
        return onward(*args, **{**kwargs, self.target: replaced})

    def _transformed(self, task: Any, values: dict[str, Any]) -> Any:
        arguments = {name: _resolved(value, values) for name, value in self.arguments.items()}
        source = values[self.target]
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
                raise TypeError(f"@data_transformation {self.kind}: {function.__qualname__} must take {needed} arguments")
            keywords: dict[str, Any] = {parameters[0]: source}
            if output is None:
                keywords["returns"] = int(self.size) if self.size else 1
            else:
                keywords |= {parameters[1]: output, "returns": 0}
            self._task = Task(function, keywords)
        return self._task

    def __reduce__(self) -> Any:
        options = {**self.arguments, "type": self.kind, "destination": self.destination}
        if self.size is not None:
            options["size"] = self.size
        return _rebuild, (self.target, self.function, options)


def _rebuild(target: str, function: Any, options: dict[str, Any]) -> DTObject:
    return DTObject(target, function, **options)


def _resolved(value: Any, values: dict[str, Any]) -> Any:
    if not isinstance(value, str):
        return value
    whole = TEMPLATE.fullmatch(value)
    if whole is not None or value in values:
        return values.get(whole.group(1) if whole is not None else value)
    return TEMPLATE.sub(lambda match: str(values.get(match.group(1), match.group(0))), value)


def _scratch(task: Any, target: str) -> str:
    """A path for a transformation without destination."""
    return os.path.join(tempfile.gettempdir(), f"{task.function.__name__}-{target}-{uuid.uuid4().hex[:12]}")


def data_transformation(*args: Any, **options: Any) -> Callable[[Any], Any]:
    """`@dt("param", function, type=OBJECT_TO_FILE, destination="path")`, or `@dt(DTObject(…), DTObject(…))`, above @task."""
    flat = [one for arg in args for one in (arg if isinstance(arg, (list, tuple)) else (arg,))]
    if flat and all(isinstance(one, DTObject) for one in flat):
        if options:
            raise TypeError("@data_transformation takes DTObjects, or the description of one, not both")
        steps = flat
    else:
        steps = [DTObject(*args, **options)]

    def change(task: Any) -> None:
        for step in reversed(steps):
            task.add_step(step)

    return lambda target: apply(target, change, "data_transformation", needs_task=True)
