"""Shoal: write a sequential program, mark functions as tasks, run it over a federation of agents.

    from shoal import task, wait_on, INOUT

    @task(returns=int)
    def square(x):
        return x * x

    print(sum(wait_on([square(i) for i in range(10)])))

Run it with `shoal run program.py`; without an agent (`python program.py`) it runs sequentially.
"""

from shoal._decorators import (
    binary,
    constraint,
    epilog,
    implement,
    io_task,
    local,
    on_failure,
    prolog,
    reduction,
)
from shoal._future import Future
from shoal._general import serializer
from shoal._journal import once, snapshot
from shoal._runtime import connect, disconnect, session
from shoal._task import Task, task
from shoal._transform import DTObject, data_transformation
from shoal._wall_clock import set_wall_clock
from shoal.api import (
    TaskGroup,
    barrier,
    barrier_group,
    cancel_group,
    delete_file,
    delete_object,
    file_exists,
    free_agents,
    number_of_resources,
    open_file,
    request_agents,
    share,
    wait_on,
    wait_on_directory,
    wait_on_file,
)
from shoal.errors import (
    AgentConnectionError,
    AlreadyExistsError,
    COMPSsException,
    NotFoundError,
    NotSupportedError,
    RequestError,
    ShoalError,
    TaskCancelledError,
    TaskFailedError,
    TaskTimeoutError,
)
from shoal.parameter import *  # noqa: F403
from shoal.parameter import __all__ as _parameter_names
from shoal.store import Persistent, Receipt, Ref, delete_alias, get, get_by_alias, make_persistent, put, store
from shoal.streams import FileStream, ObjectStream, Record

__version__ = "0.1.0"

__all__ = [
    *_parameter_names,
    "AgentConnectionError", "AlreadyExistsError", "COMPSsException", "DTObject", "FileStream", "Future", "NotFoundError",
    "NotSupportedError", "ObjectStream", "Persistent", "Receipt", "Record", "Ref", "RequestError", "ShoalError",
    "Task", "TaskCancelledError", "TaskFailedError", "TaskGroup", "TaskTimeoutError", "barrier", "barrier_group",
    "binary", "cancel_group", "connect", "constraint", "data_transformation", "delete_alias", "delete_file",
    "delete_object", "disconnect", "epilog", "file_exists", "free_agents", "get", "get_by_alias", "implement", "io_task",
    "local", "make_persistent", "number_of_resources", "on_failure", "once", "open_file", "prolog", "put", "reduction",
    "request_agents", "serializer", "session", "set_wall_clock", "share", "snapshot", "store", "task", "wait_on",
    "wait_on_directory", "wait_on_file",
]  # fmt: skip
