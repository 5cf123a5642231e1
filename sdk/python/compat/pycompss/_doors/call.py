"""`call.py APPLICATION FUNCTION [ARGUMENTS]`: calls a function of a program or module as a main program."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any


def main(words: list[str]) -> None:
    """Calls the function with the arguments as text, prints its result if there is one."""
    _show(call(words[0], words[1], words[2:]))


def run_request(text: str) -> None:
    """What the agent runs for an application started over REST: `text` is JSON and names the program (a module, or the
    path of a file), the function, its arguments, and the file that the result is written to, if it is wanted."""
    request = json.loads(text)
    result = call(request["program"], request["function"], request["arguments"])
    if not request.get("result"):
        _show(result)
        return
    from pycompss.util.serialization.serializer import serialize_to_file

    serialize_to_file(result, request["result"])


def call(application: str, name: str, arguments: list[Any]) -> Any:
    """Calls the function `name` of a program or module as a main program, waits for its tasks; its result."""
    import shoal
    from shoal import _runtime

    if os.path.isfile(application):
        from pycompss.runtime.launch import launch_pycompss_application

        return launch_pycompss_application(application, name, *arguments)
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(application)
    except ModuleNotFoundError as error:
        if error.name and not (application + ".").startswith(error.name + "."):
            raise
        sys.exit(f"there is no module {application!r} in {os.getcwd()} or on PYTHONPATH (compss_agent_start --pythonpath=…)")
    function = getattr(module, name, None)
    if not callable(function):
        sys.exit(f"the module {application!r} has no function {name!r}")
    result = shoal.wait_on(function(*arguments))
    if _runtime.current is not None:
        shoal.barrier()
    return result


def _show(result: Any) -> None:
    if result is not None:
        print(result)


if __name__ == "__main__":
    main(sys.argv[1:])
