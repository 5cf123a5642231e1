"""The functions that a main program calls."""

from __future__ import annotations

from typing import Any

import shoal
from shoal import TaskGroup
from shoal.errors import NotSupportedError

compss_wait_on_directory = shoal.wait_on_directory
compss_wait_on_file = shoal.wait_on_file
compss_open = shoal.open_file
compss_barrier = shoal.barrier
compss_barrier_group = shoal.barrier_group
compss_cancel_group = shoal.cancel_group
compss_delete_object = shoal.delete_object
compss_delete_file = shoal.delete_file
compss_file_exists = shoal.file_exists
barrier = shoal.barrier


def compss_wait_on(*values: Any, mode: str = "rw", **aliases: Any) -> Any:
    """Waits for values; one gives the value, several give a list."""
    return shoal.wait_on(*values, mode=aliases.get("to_write", mode))


def compss_start(*_args: Any, **_options: Any) -> None:
    """Connects to the agent that the environment names, if any. Usually implicit."""
    shoal.session()


def compss_stop(*_args: Any, **_options: Any) -> None:
    """Waits for all tasks and ends the application. Usually implicit."""
    shoal.disconnect()


def compss_get_number_of_resources() -> int:
    """Agents that can run tasks; 1 without an agent."""
    session = shoal.session()
    if session is None:
        return 1
    answer = session.request("agents", {})
    agents = answer.get("agents", []) if isinstance(answer, dict) else answer
    return max(1, len(agents or []))


def compss_request_resources(*_args: Any, **_options: Any) -> None:
    """Refuses: elasticity by request is not there yet."""
    raise NotSupportedError("compss_request_resources (elasticity) is not supported by this version of Shoal")


def compss_free_resources(*_args: Any, **_options: Any) -> None:
    """Refuses: elasticity by request is not there yet."""
    raise NotSupportedError("compss_free_resources (elasticity) is not supported by this version of Shoal")


def compss_set_wall_clock(*_args: Any, **_options: Any) -> None:
    """Refuses: a limit on the run time of the whole application is not there yet."""
    raise NotSupportedError("compss_set_wall_clock is not supported by this version of Shoal")


def compss_snapshot() -> None:
    """Nothing to do: finished results are kept as the program runs."""


def compss_add_logger(_name: str) -> None:
    """Nothing to do: loggers of the program are left as they are."""


__all__ = [
    "TaskGroup", "barrier", "compss_add_logger", "compss_barrier", "compss_barrier_group", "compss_cancel_group",
    "compss_delete_file", "compss_delete_object", "compss_file_exists", "compss_free_resources",
    "compss_get_number_of_resources", "compss_open", "compss_request_resources", "compss_set_wall_clock",
    "compss_snapshot", "compss_start", "compss_stop", "compss_wait_on", "compss_wait_on_directory",
    "compss_wait_on_file",
]  # fmt: skip
