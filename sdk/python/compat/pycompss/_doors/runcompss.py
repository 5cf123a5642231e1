"""`runcompss [OPTIONS] PROGRAM.py [ARGUMENTS]`, `pycompss run` and `python -m pycompss`: run a program.

The tasks go to the agent of SHOAL_SOCKET, else to the agent of this machine, else the program runs sequentially.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from pycompss._doors import checkpoint, shoal_command
from pycompss._doors.options import Parsed, UsageError, parse, say_without_meaning

OPTIONS = frozenset(
    """lang pythonpath python_interpreter project resources log_level debug graph tracing monitoring summary scheduler
    scheduler_config_file checkpoint checkpoint_params checkpoint_folder streaming streaming_master_name
    streaming_master_port storage_impl storage_conf task_execution comm conn env_script log_dir base_log_dir
    specific_log_dir master_working_dir uuid master_name master_port jvm_master_opts jvm_workers_opts jvm_worker_opts
    cpu_affinity gpu_affinity fpga_affinity fpga_reprogram io_executors task_count input_profile output_profile
    python_worker_cache python_cache_profiler python_mpi_worker python_propagate_virtual_environment
    python_memory_profile wall_clock_limit shutdown_in_node_failure keep_workingdir enable_external_adaptation
    external_debugger jmx_port provenance zip_provenance socket PyObject_serialize classpath appdir library_path tools
    extrae_config_file extrae_config_file_python extrae_final_directory trace_label tracing_task_dependencies
    generate_trace delete_trace_packages custom_threads ear data_provenance gen_coredump opts nested""".split()
)
_MEANINGFUL = {
    "lang", "pythonpath", "python_interpreter", "env_script", "scheduler", "wall_clock_limit", "socket", "checkpoint",
    "checkpoint_params", "checkpoint_folder",
}  # fmt: skip
_NOT_PASSED = {"SHOAL_WALL_CLOCK", "PWD", "OLDPWD", "SHLVL", "_", "SHOAL_SOCKET", "SHOAL_APP", "SHOAL_EXECUTOR_TOKEN"}
_USAGE = "usage: {command} [OPTIONS] PROGRAM.py [ARGUMENTS]"


def main(words: list[str] | None = None, command: str = "runcompss") -> int:
    """Runs the program; its exit code, or 2 when the command line is wrong."""
    words = sys.argv[1:] if words is None else words
    try:
        parsed = parse(command, words, OPTIONS)
        if parsed.has("version"):
            import shoal

            print(f"{command}: Shoal {shoal.__version__}")
            return 0
        if parsed.has("help") or not parsed.rest:
            print(_USAGE.format(command=command), file=sys.stdout if parsed.has("help") else sys.stderr)
            return 0 if parsed.has("help") else 2
        _check(parsed)
        environment = _environment(parsed)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    say_without_meaning(command, parsed, _MEANINGFUL)
    interpreter = parsed.get("python_interpreter") or sys.executable
    sys.stdout.flush()
    if "SHOAL_SOCKET" not in environment and shoal_command.answers():
        return _submit(parsed, environment, interpreter)
    if "SHOAL_SOCKET" not in environment:
        print(f"{command}: no agent answers (`shoal up` starts one); the program runs sequentially", file=sys.stderr)
        if "SHOAL_CHECKPOINT" in environment:
            print(f"{command}: without an agent there is no checkpoint", file=sys.stderr)
    return subprocess.run([interpreter, "-m", "shoal", *parsed.rest], env=environment, check=False).returncode


def _check(parsed: Parsed) -> None:
    if parsed.get("lang", "python").lower() not in ("python", ""):
        raise UsageError(f"--lang={parsed.get('lang')}: only Python programs run here; C++ programs: `shoal run PROGRAM`")
    if not os.path.exists(parsed.rest[0]):
        raise UsageError(f"there is no program {parsed.rest[0]}")


def _environment(parsed: Parsed) -> dict[str, str]:
    """The caller's environment, after --env_script, with the SDK and --pythonpath on the path."""
    environment = dict(os.environ)
    script = parsed.get("env_script")
    if script:
        if not os.path.isfile(script):
            raise UsageError(f"--env_script: there is no file {script}")
        shell = ["bash", "-c", '. "$0" >&2 && env -0', os.path.abspath(script)]
        done = subprocess.run(shell, stdout=subprocess.PIPE, check=False)
        if done.returncode != 0:
            raise UsageError(f"--env_script: {script} ended with exit value {done.returncode}")
        environment = dict(entry.split("=", 1) for entry in os.fsdecode(done.stdout).split("\0") if "=" in entry)
    given = parsed.get("pythonpath").split(os.pathsep)
    paths = [*given, *shoal_command.python_paths(), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    limit = parsed.get("wall_clock_limit")
    if limit:
        if not limit.replace(".", "", 1).isdigit():
            raise UsageError(f"--wall_clock_limit={limit}: it is a number of seconds")
        environment["SHOAL_WALL_CLOCK"] = limit
    environment.update(checkpoint.environment(parsed))
    if parsed.get("PyObject_serialize") in ("dill", "cloudpickle"):
        environment["SHOAL_SERIALIZER"] = parsed.options.pop("PyObject_serialize")  # what is left has no meaning
    if parsed.get("scheduler"):
        environment["SHOAL_SCHEDULER"] = parsed.get("scheduler")  # the agent knows the names
    if parsed.get("socket"):
        environment["SHOAL_SOCKET"] = parsed.get("socket")
    return environment


def _submit(parsed: Parsed, environment: dict[str, str], interpreter: str) -> int:
    """Through the agent of this machine, with the caller's environment."""
    pairs = [f"{name}={value}" for name, value in environment.items() if name not in _NOT_PASSED and "\n" not in value]
    words = [word for pair in pairs for word in ("--env", pair)]
    command = shoal_command.command(None, "run", "--python", interpreter, *words, *parsed.rest)
    limit = parsed.get("wall_clock_limit")
    with subprocess.Popen(command) as process:
        try:
            return process.wait(float(limit) if limit else None)
        except subprocess.TimeoutExpired:
            print(f"the wall clock limit of {limit} s is over; the tasks are cancelled and the program stops", file=sys.stderr)
            process.send_signal(signal.SIGINT)  # `shoal run` cancels the application
            process.wait()
            return 1
        except KeyboardInterrupt:  # `shoal run` got it as well
            return process.wait()


if __name__ == "__main__":
    sys.exit(main())
