"""Starts applications from Python."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

import shoal
from shoal import _runtime


def launch_pycompss_application(app: str, func: str | None, *args: Any, **options: Any) -> Any:
    """Runs the function `func` of the program `app` as a main program, and waits for its tasks; its result.

    `args` and the keywords that are no options of the runtime are passed on; a list and a dict, or `args=[…], kwargs={…}`,
    mean the same. With `func=None` the program itself is run. The tasks go to the agent of SHOAL_SOCKET; without one they
    run when they are called.
    """
    from pycompss.interactive import _OPTIONS

    if len(args) == 2 and isinstance(args[0], (list, tuple)) and isinstance(args[1], dict):
        args, options = tuple(args[0]), {**args[1], **options}  # the older form: a list and a dict
    args = (*args, *options.pop("args", ()))
    options.update(options.pop("kwargs", {}))
    passed = {name: value for name, value in options.items() if name not in _OPTIONS}
    if func is None or func == "__main__":
        from shoal.__main__ import run_script

        return run_script(app, [str(word) for word in args])
    path = os.path.abspath(app)
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise FileNotFoundError(f"there is no program {app}")
    sys.path.insert(0, os.path.dirname(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        try:
            function = getattr(module, func)
        except AttributeError:
            raise AttributeError(f"the program {app} has no function {func!r}") from None
        result = shoal.wait_on(function(*args, **passed))
        if _runtime.current is not None:
            shoal.barrier()
        return result
    finally:
        sys.path.remove(os.path.dirname(path))


def launch_multiple_pycompss_applications(app: str, func: str | None, instances: int, *args: Any, **options: Any) -> list[Any]:
    """Runs the same program several times, one after the other; the results."""
    return [launch_pycompss_application(app, func, *args, **options) for _ in range(int(instances))]


__all__ = ["launch_multiple_pycompss_applications", "launch_pycompss_application"]
