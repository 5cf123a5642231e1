"""@task. Inputs may be changed by the task, as PyCOMPSs programs expect: they get private copies."""

from __future__ import annotations

from typing import Any

from shoal import Task as _Task


def task(*args: Any, **keywords: Any) -> Any:
    """`@task(returns=…, parameter=DIRECTION, …)`."""
    if len(args) == 1 and callable(args[0]) and not keywords:
        return _Task(args[0], writable_inputs=True)
    if args:
        raise TypeError("@task takes keywords only: @task(returns=int, a=INOUT)")
    return lambda function: _Task(function, keywords, writable_inputs=True)


Task = task
