"""PyCOMPSs in notebooks: start() and stop(), and what the application is doing.

    import pycompss.interactive as ipycompss
    ipycompss.start()
    …
    ipycompss.stop(sync=True)

Without an agent (no SHOAL_SOCKET) tasks run when they are called, and there is nothing to look at.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from typing import Any

import shoal
from pycompss.util import _graph
from shoal import _runtime
from shoal.errors import ShoalError

# Options of start(): the meaning of all but `monitor` and `verbose` lies in the runtime that they were made for.
_OPTIONS = frozenset(
    """log_level debug o_c graph trace monitor project_xml resources_xml summary task_execution storage_impl storage_conf
    streaming_backend streaming_master_name streaming_master_port task_count app_name uuid log_dir master_working_dir
    extrae_cfg extrae_final_directory comm conn master_name master_port scheduler jvm_workers cpu_affinity
    gpu_affinity fpga_affinity fpga_reprogram profile_input profile_output scheduler_config external_adaptation
    propagate_virtual_environment mpi_worker worker_cache shutdown_in_node_failure io_executors env_script
    reuse_on_block nested_enabled tracing_task_dependencies trace_label extrae_cfg_python wcl cache_profiler ear
    data_provenance checkpoint_policy checkpoint_params checkpoint_folder verbose disable_external python_interpreter
    base_log_dir specific_log_dir classpath pythonpath jvm_master""".split()
)

# "waits for 2 inputs: from task 3, 4", as the scheduler says it.
_FROM_TASKS = re.compile(r"from task (\d+(?:, \d+)*)")


def start(*_positional: Any, verbose: bool = False, **options: Any) -> None:
    """Connects to the agent of SHOAL_SOCKET. Options of COMPSs's own runtime are accepted; unknown ones are named once."""
    del verbose
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        print(f"pycompss.interactive.start: options without meaning here: {', '.join(unknown)}", file=sys.stderr)
    session = shoal.session()
    if session is None:
        print("pycompss: no agent (SHOAL_SOCKET is not set); tasks run when they are called")
    else:
        print(f"pycompss: application {session.app.hex()} at the agent {session.path}")


def stop(sync: bool = False, _hard_stop: bool = False) -> None:
    """Ends the application. With `sync` the futures among the notebook's variables become values first."""
    session = _runtime.current
    if session is None:
        print("pycompss: nothing runs")
        return
    if _hard_stop:
        session.close()
        _runtime.current = None
        return
    if sync:
        namespace = sys.modules["__main__"].__dict__
        for name, value in list(namespace.items()):
            if name.startswith("_") or isinstance(value, type(sys)):
                continue
            if type(value) is shoal.Future or isinstance(value, (list, tuple, dict)) or session.tracked(value) is not None:
                try:
                    namespace[name] = shoal.wait_on(value)
                except Exception as error:
                    print(f"pycompss: {name} has no value: {type(error).__name__}: {error}", file=sys.stderr)
    shoal.disconnect()
    print("pycompss: stopped")


def _ask(method: str, **params: Any) -> dict[str, Any]:
    session = _runtime.attach()
    if session is None:
        raise ShoalError("there is nothing to look at without an agent: run the notebook with SHOAL_SOCKET set")
    session.flush()
    answer = session.request(method, params)
    return answer if isinstance(answer, dict) else {}


def _tasks(limit: int = 10_000) -> list[dict[str, Any]]:
    session = _runtime.attach()
    app = session.app.hex() if session is not None else ""
    return _ask("app.tasks", app=app, limit=limit).get("tasks", [])


def _tasks_with_edges() -> list[dict[str, Any]]:
    """Each task with `after`, the tasks it waits for: known of those that ended, told by the others."""
    rows = _tasks()
    session = _runtime.attach()
    app = session.app.hex() if session is not None else ""
    ended = {row.get("task"): row.get("after", []) for row in _ask("app.trace", app=app).get("tasks", [])}
    for row in rows:
        waits_for = _FROM_TASKS.search(str(row.get("why", "")))
        told = [int(number) for number in waits_for.group(1).split(", ")] if waits_for else []
        row["after"] = ended.get(row.get("task"), told)
    return rows


def _show(make: Any, refresh_rate: float, timeout: float) -> Any:
    """Once; or again every `refresh_rate` seconds until `timeout` seconds are over or nothing is left to do."""
    deadline = time.monotonic() + timeout
    while True:
        view, busy = make()
        left = deadline - time.monotonic()
        _graph.display(view, clear=timeout > 0)
        if timeout <= 0 or left <= 0 or not busy:
            return view
        time.sleep(max(0.05, min(refresh_rate, left)))


def _busy(rows: list[dict[str, Any]]) -> bool:
    return any(row.get("state") not in ("done", "failed", "cancelled") for row in rows)


def current_task_graph(fit: bool = False, refresh_rate: float = 1, timeout: float = 0) -> Any:
    """The tasks that are not finished, as a picture in notebooks, as Graphviz text elsewhere.

    With `timeout` it is drawn again every `refresh_rate` seconds until then.
    """
    del fit

    def make() -> tuple[Any, bool]:
        rows = [row for row in _tasks_with_edges() if _busy([row])]
        return _graph.TaskGraph(rows), bool(rows)

    return _show(make, refresh_rate, timeout)


def complete_task_graph(fit: bool = False, refresh_rate: float = 1, timeout: float = 0) -> Any:
    """All tasks of the application, as current_task_graph does."""
    del fit

    def make() -> tuple[Any, bool]:
        rows = _tasks_with_edges()
        return _graph.TaskGraph(rows), _busy(rows)

    return _show(make, refresh_rate, timeout)


def tasks_info(refresh_rate: float = 1, timeout: float = 0) -> Any:
    """For each function: how often it was called, how many calls are done, and how long they took."""

    def make() -> tuple[Any, bool]:
        rows = _tasks()
        table = []
        for name in dict.fromkeys(row.get("function", "") for row in rows):
            own = [row for row in rows if row.get("function") == name]
            times = [row["run_us"] / 1e6 for row in own if row.get("run_us")]
            mean = sum(times) / len(times) if times else 0.0
            done = sum(row.get("state") == "done" for row in own)
            table.append(
                [name, len(own), done, f"{mean:.6f}", f"{min(times, default=0.0):.6f}", f"{max(times, default=0.0):.6f}"]
            )
        return _graph.Table(["function", "calls", "done", "mean s", "min s", "max s"], table), _busy(rows)

    return _show(make, refresh_rate, timeout)


def tasks_status(refresh_rate: float = 1, timeout: float = 0) -> Any:
    """How many tasks are in which state."""

    def make() -> tuple[Any, bool]:
        rows = _tasks()
        counts = Counter(row.get("state", "") for row in rows)
        return _graph.Table(["state", "tasks"], [[state, counts[state]] for state in sorted(counts)]), _busy(rows)

    return _show(make, refresh_rate, timeout)


def statistics() -> Any:
    """Tasks, time inside them and repeated attempts, for each agent."""
    rows = _tasks()
    table = []
    for agent in sorted({row.get("agent_name") or row.get("agent") or "-" for row in rows}):
        own = [row for row in rows if (row.get("agent_name") or row.get("agent") or "-") == agent]
        seconds = sum(row.get("run_us") or 0 for row in own) / 1e6
        repeated = sum(max(0, (row.get("attempts") or 1) - 1) for row in own)
        table.append([agent, len(own), f"{seconds:.6f}", repeated])
    view = _graph.Table(["agent", "tasks", "seconds in tasks", "repeated"], table)
    _graph.display(view)
    return view


def resources_status(refresh_rate: float = 1, timeout: float = 0) -> Any:
    """The agents: their state, region and computing units."""

    def make() -> tuple[Any, bool]:
        agents = _ask("agent.agents").get("agents", [])
        table = [[a.get("name", ""), a.get("status", ""), a.get("region", ""), a.get("computing_units", "")] for a in agents]
        return _graph.Table(["agent", "status", "region", "computing units"], table), True

    return _show(make, refresh_rate, timeout)


def monitoring_information() -> Any:
    """What the agent of this program says about itself."""
    status = _ask("agent.status")
    view = _graph.Table(["what", "value"], [[key, value] for key, value in sorted(status.items())])
    _graph.display(view)
    return view


__all__ = [
    "complete_task_graph", "current_task_graph", "monitoring_information", "resources_status", "start", "statistics", "stop",
    "tasks_info", "tasks_status",
]  # fmt: skip
