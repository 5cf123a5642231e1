"""`python -m shoal SCRIPT [ARGS…]`: runs a program as `shoal run` does, and ends it with the right exit code."""

from __future__ import annotations

import os
import sys
import traceback
import types
from collections.abc import Callable

from shoal import _runtime

_USAGE = "usage: python -m shoal SCRIPT [ARGS...]"


def compat_directory() -> str | None:
    """Where the compatibility packages lie in a source tree; None when they are installed on their own."""
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "compat")
    return path if os.path.isdir(path) else None


def run_script(script: str, arguments: list[str]) -> int:
    """Runs `script` as `__main__`; the exit code of the program: its own, or 1 after an uncaught or a task's failure."""
    path = os.path.abspath(script)
    if os.path.isdir(path):
        path = os.path.join(path, "__main__.py")
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        print(f"shoal: cannot read the program {script}: {error.strerror}", file=sys.stderr)
        return 2
    sys.argv = [script, *arguments]
    sys.path[0] = os.path.dirname(path)  # as `python SCRIPT` does; -m had put the working directory there
    compat = compat_directory()
    if compat is not None and compat not in sys.path:
        sys.path.append(compat)
    module = types.ModuleType("__main__")
    module.__file__ = path
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    limit = os.environ.get("SHOAL_WALL_CLOCK")
    if limit:
        from shoal._wall_clock import set_wall_clock

        set_wall_clock(float(limit))
    code = _guarded(lambda: exec(compile(source, path, "exec"), module.__dict__))
    if code:
        _runtime.note_failure()
        return code
    return _guarded(_runtime.disconnect)


def _guarded(action: Callable[[], object]) -> int:
    try:
        action()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        traceback.print_exception(type(error), error, trace)
        return 1
    return 0


def main() -> int:
    """Entry of `python -m shoal`."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(_USAGE, file=sys.stderr if len(sys.argv) < 2 else sys.stdout)
        return 2 if len(sys.argv) < 2 else 0
    return run_script(sys.argv[1], sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
