"""The functions that a main program calls."""

from __future__ import annotations

import logging
import sys
from typing import IO, Any

import shoal
from shoal.errors import ShoalError


class TaskGroup(shoal.TaskGroup):
    """`with TaskGroup("name", implicit_barrier=True):` the tasks called inside belong to the group. Groups nest."""

    def __init__(self, group_name: str, implicit_barrier: bool = True) -> None:
        super().__init__(group_name, implicit_barrier)


def compss_start(
    log_level: str = "off", tracing: bool = False, interactive: bool = False, disable_external: bool = False
) -> None:
    """Connects to the agent that the environment names, if any. Usually implicit; the options have no meaning here."""
    del log_level, tracing, interactive, disable_external
    shoal.session()


def compss_stop(code: int = 0, _hard_stop: bool = False) -> None:
    """Waits for all tasks and ends the application. Usually implicit. Another `code` than 0 ends it without waiting."""
    if code or _hard_stop:
        session = shoal.session()
        if session is not None:
            session.close()
        return
    shoal.disconnect()


def compss_wait_on(*values: Any, mode: str = "rw", to_write: Any = None, **aliases: Any) -> Any:
    """Waits for values, inside lists, tuples and dicts too; one gives the value, several give a list.

    `mode="r"` promises not to change the values: tasks go on using theirs. Results of tasks that were cancelled (with their
    group, or after a failure with CANCEL_SUCCESSORS) are None; those of tasks that failed raise what the task raised.
    """
    if aliases:
        raise TypeError(f"compss_wait_on has no option {sorted(aliases)[0]!r}; it is mode='rw' or mode='r'")
    if to_write is not None:
        mode = "rw" if to_write else "r"
    return shoal.wait_on(*values, mode=mode, cancelled_is_none=True)


def compss_wait_on_file(*file_names: Any) -> Any:
    """Brings the last version of files to where the program knows them; nested lists are allowed."""
    return shoal.wait_on_file(*file_names)


def compss_wait_on_directory(*directory_names: Any) -> Any:
    """Brings the last version of directories to where the program knows them; nested lists are allowed."""
    return shoal.wait_on_directory(*directory_names)


def compss_open(file_name: Any, mode: str = "r") -> IO[Any]:
    """Waits for the last version of a file, then opens it."""
    return shoal.open_file(file_name, mode)


def compss_barrier(no_more_tasks: bool = False) -> None:
    """Waits for all tasks."""
    shoal.barrier(no_more_tasks)


def compss_barrier_group(group_name: str) -> None:
    """Waits for the tasks of a group. Raises COMPSsException if one of them did."""
    shoal.barrier_group(group_name)


def compss_cancel_group(group_name: str) -> None:
    """Cancels the tasks of a group, pending and running."""
    shoal.cancel_group(group_name)


def compss_delete_object(*objects: Any) -> Any:
    """Tells that objects will not be used again: what the agents hold of them is freed after its last reader.

    True for each, since nothing of it is left then; False without an agent, which holds nothing.
    """
    shoal.delete_object(*objects)
    deleted = [shoal.session() is not None for _ in objects]
    return deleted[0] if len(deleted) == 1 else deleted


def compss_delete_file(*file_names: Any) -> Any:
    """Deletes files after their last reader. True for those that were known."""
    return shoal.delete_file(*file_names)


def compss_file_exists(*file_names: Any) -> Any:
    """True for files on disk and for those that a task is going to write."""
    return shoal.file_exists(*file_names)


def compss_get_number_of_resources() -> int:
    """Agents that can run tasks; 1 without an agent."""
    return shoal.number_of_resources()


def compss_request_resources(num_resources: int, group_name: str | None = None) -> None:
    """Asks for more agents and goes on; when they are there, the group is cancelled. Nothing to do without an agent.

    Unless the agent's setting elastic_max lets it make some, it says so once on standard error, and the program goes on.
    """
    shoal.request_agents(num_resources, group_name)


def compss_free_resources(num_resources: int, group_name: str | None = None) -> None:
    """Gives back agents that compss_request_resources made, once they are idle; then the group is cancelled."""
    shoal.free_agents(num_resources, group_name)


def compss_set_wall_clock(wall_clock_limit: float) -> None:
    """At the limit, in seconds from now, all tasks are cancelled and the program stops with exit code 1."""
    shoal.set_wall_clock(wall_clock_limit)


def compss_snapshot() -> None:
    """Writes all finished versions to the checkpoint (`runcompss --checkpoint_folder`), if the program has one."""
    shoal.snapshot()


def compss_add_logger(logger_name: str) -> None:
    """Sends what the logger says to standard error, with time and level. ShoalError without an agent."""
    if shoal.session() is None:
        raise ShoalError("compss_add_logger needs the runtime: run the program with `shoal run`")
    logger = logging.getLogger(logger_name)
    if not any(getattr(handler, "is_shoal", False) for handler in logger.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.is_shoal = True  # type: ignore[attr-defined]
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)


barrier = compss_barrier

__all__ = [
    "TaskGroup", "barrier", "compss_add_logger", "compss_barrier", "compss_barrier_group", "compss_cancel_group",
    "compss_delete_file", "compss_delete_object", "compss_file_exists", "compss_free_resources",
    "compss_get_number_of_resources", "compss_open", "compss_request_resources", "compss_set_wall_clock",
    "compss_snapshot", "compss_start", "compss_stop", "compss_wait_on", "compss_wait_on_directory",
    "compss_wait_on_file",
]  # fmt: skip
