"""@task. Inputs may be changed by the task, as PyCOMPSs programs expect: they get private copies."""

from __future__ import annotations

from typing import Any

from shoal import Task as _Task
from shoal._declaration import Declared as _Declared


def task(*args: Any, **keywords: Any) -> Any:
    """`@task(returns=…, parameter=DIRECTION, …)`."""
    if len(args) == 1 and not keywords and (callable(args[0]) or isinstance(args[0], (staticmethod, classmethod, _Declared))):
        return _Task(args[0], writable_inputs=True)
    if args:
        raise TypeError("@task takes keywords only: @task(returns=int, a=INOUT)")
    return lambda function: _Task(function, keywords, writable_inputs=True)


Task = task

__all__ = ["Task", "task"]
