"""`python -m pycompss [OPTIONS] program.py`: the same as `runcompss`, in this process when SHOAL_SOCKET says where to."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the program; its exit code."""
    words = sys.argv[1:]
    if words and not words[0].startswith("-"):
        from shoal.__main__ import run_script

        return run_script(words[0], words[1:])
    from pycompss._doors.runcompss import main as run

    return run(words, "python -m pycompss")


if __name__ == "__main__":
    sys.exit(main())
