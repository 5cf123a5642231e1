"""`call.py APPLICATION FUNCTION [ARGUMENTS]`: calls a function of a program or module as a main program."""

from __future__ import annotations

import importlib
import os
import sys


def main(words: list[str]) -> None:
    """Calls the function with the arguments as text, prints its result if there is one."""
    import shoal

    application, name, arguments = words[0], words[1], words[2:]
    if os.path.isfile(application):
        from pycompss.runtime.launch import launch_pycompss_application

        result = launch_pycompss_application(application, name, *arguments)
    else:
        sys.path.insert(0, os.getcwd())
        result = shoal.wait_on(getattr(importlib.import_module(application), name)(*arguments))
    if result is not None:
        print(result)


if __name__ == "__main__":
    main(sys.argv[1:])
