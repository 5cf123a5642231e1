"""`python -m shoal.executor [--socket PATH] [--token TOKEN]`, or `--zygote --control-fd N`."""

from __future__ import annotations

import argparse
import os
import sys

from shoal.__main__ import compat_directory


def main() -> int:
    """Runs one executor, or a zygote, until the agent closes the connection."""
    parser = argparse.ArgumentParser(prog="python -m shoal.executor", description="Runs tasks for a Shoal agent.")
    parser.add_argument("--socket", default=os.environ.get("SHOAL_SOCKET"), help="the agent's socket ($SHOAL_SOCKET)")
    parser.add_argument("--token", default=os.environ.get("SHOAL_EXECUTOR_TOKEN", ""), help="sent back in the greeting")
    parser.add_argument("--zygote", action="store_true", help="fork executors on request")
    parser.add_argument("--control-fd", type=int, help="descriptor on which a zygote gets its requests")
    options = parser.parse_args()
    if not options.socket:
        parser.error("no agent given: pass --socket or set SHOAL_SOCKET (executors are started by the agent)")
    os.environ["SHOAL_SOCKET"] = options.socket
    compat = compat_directory()
    if compat is not None and compat not in sys.path:
        sys.path.append(compat)

    from shoal.executor import _process

    _process.die_with_parent()
    if options.zygote:
        if options.control_fd is None:
            parser.error("--zygote needs --control-fd")
        from shoal.executor._zygote import Zygote

        return Zygote(options.control_fd, options.socket).run()
    from shoal.executor._loop import run_executor

    return run_executor(options.socket, options.token)


if __name__ == "__main__":
    sys.exit(main())
