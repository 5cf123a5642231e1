"""Decorators that need a program of their own: @julia, @ompss, @decaf, @opencl. Refused at decoration where it is missing."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

from shoal import _options
from shoal._command import Binary
from shoal._decorators import apply, command_of, keywords_only
from shoal.errors import NotSupportedError, TaskFailedError


def _require(decorator: str, program: str, working_dir: str, what: str) -> None:
    """NotSupportedError unless `program` can be run from here."""
    import shutil

    places = [program, os.path.join(working_dir, program)] if os.sep in program else [os.path.join(working_dir, program)]
    if shutil.which(program) is None and not any(os.access(place, os.X_OK) and os.path.isfile(place) for place in places):
        raise NotSupportedError(f"@{decorator} needs {what}: {program!r} is not installed here")


def _one_node(decorator: str, options: dict[str, Any]) -> None:
    nodes = options.pop("computing_nodes", options.pop("computingNodes", 1))
    if _options.whole_number(nodes or 1, {}, f"@{decorator}: computing_nodes") != 1:
        raise NotSupportedError(f"@{decorator}(computing_nodes={nodes!r}): tasks over several nodes are not supported yet")


def _deco(command: Binary, decorator: str) -> Callable[[Any], Any]:
    return lambda target: apply(target, lambda task: task.set_binary(command, decorator), decorator, needs_task=True)


def julia(*positional: Any, script: str = "", executor: str = "julia", args: str | None = None, **options: Any) -> Any:
    """`@julia(script="fit.jl", args="{{data}}")` above @task: calls run the script. Needs the Julia interpreter here."""
    keywords_only("julia", positional, 'script="fit.jl"')
    if not script:
        raise TypeError('@julia needs the script: @julia(script="fit.jl")')
    _one_node("julia", options)
    command = command_of("julia", executor, args, options)
    _require("julia", executor, command.working_dir, "the Julia interpreter")
    return _deco(Binary(command.program, command.args, command.working_dir, command.fail_by_exit_value, [script]), "julia")


def ompss(*positional: Any, binary: Any = None, args: str | None = None, **options: Any) -> Any:
    """`@ompss(binary="./solver")` above @task: calls run a program compiled with OmpSs. Needs the program here."""
    keywords_only("ompss", positional, 'binary="./solver"')
    _one_node("ompss", options)
    command = command_of("ompss", binary, args, options)
    _require("ompss", command.program, command.working_dir, "the program that OmpSs compiled")
    return _deco(command, "ompss")


def decaf(
    *positional: Any,
    df_script: str = "",
    df_executor: str = "executor.sh",
    df_lib: str = "libdecaf.so",
    runner: str = "mpirun",
    args: str | None = None,
    **options: Any,
) -> Any:
    """`@decaf(df_script="graph.py", df_executor="run.sh")` above @task: makes the dataflow graph, then runs it.

    Needs the MPI launcher, the script that makes the graph and the script that runs it.
    """
    keywords_only("decaf", positional, 'df_script="graph.py"')
    del df_lib  # named in the executor script
    df_script = options.pop("dfScript", df_script)
    df_executor = options.pop("dfExecutor", df_executor)
    options.pop("dfLib", None)
    if not df_script:
        raise TypeError('@decaf needs the script of the graph: @decaf(df_script="graph.py")')
    _one_node("decaf", options)
    import shutil

    program = df_executor if os.sep in df_executor or shutil.which(df_executor) else f"./{df_executor}"
    command = command_of("decaf", program, args, options)
    _require("decaf", runner, command.working_dir, "an MPI launcher")
    _require("decaf", program, command.working_dir, "the script that runs the dataflow graph")
    if not os.path.isfile(os.path.join(command.working_dir, df_script)):
        raise NotSupportedError(f"@decaf needs the script of the graph: there is no {df_script!r}")
    graph = Binary("python3", None, command.working_dir, True, [df_script])

    def change(task: Any) -> None:
        task.set_binary(command, "decaf")
        task.set_around(graph, None)

    return lambda target: apply(target, change, "decaf", needs_task=True)


def opencl(*positional: Any, kernel: str = "", working_dir: str = "", **options: Any) -> Any:
    """`@opencl(kernel="add.cl")` above @task: calls run the kernel that has the function's name. Needs pyopencl here.

    Arrays are buffers: read ones IN, written ones (INOUT, OUT) are updated; numbers are passed as they are. There is one
    work item for each element of the first array.
    """
    keywords_only("opencl", positional, 'kernel="add.cl"')
    working_dir = options.pop("workingDir", working_dir)
    if options:
        raise TypeError(f"@opencl has no option {sorted(options)[0]!r}")
    if not kernel:
        raise TypeError('@opencl needs the file of the kernel: @opencl(kernel="add.cl")')
    if importlib.util.find_spec("pyopencl") is None:
        raise NotSupportedError("@opencl needs OpenCL: the package 'pyopencl' is not installed here")
    path = os.path.join(working_dir, kernel)
    try:
        with open(path) as file:
            source = file.read()
    except OSError as error:
        raise TypeError(f"@opencl cannot read the kernel {path!r}: {error.strerror}") from None

    def change(task: Any) -> None:
        written = [name for name, parameter in task.parameters.items() if parameter.direction.name not in ("IN", "IN_DELETE")]
        task.set_function(KernelCall(task.function, source, written))

    return lambda target: apply(target, change, "opencl", needs_task=True)


class KernelCall:
    """Runs an OpenCL kernel with a function's arguments."""

    def __init__(self, function: Callable, source: str, written: list[str]) -> None:
        self.__module__ = function.__module__
        self.__qualname__ = self.__name__ = function.__name__
        self._names = list(function.__code__.co_varnames[: function.__code__.co_argcount])
        self._source = source
        self._written = written

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        import numpy
        import pyopencl  # type: ignore[import-not-found]

        values = {**dict(zip(self._names, args)), **kwargs}
        arrays = {name: value for name, value in values.items() if isinstance(value, numpy.ndarray)}
        if not arrays:
            raise TaskFailedError(f"the kernel {self.__name__} needs at least one array")
        context = pyopencl.create_some_context(interactive=False)
        queue = pyopencl.CommandQueue(context)
        program = pyopencl.Program(context, self._source).build()
        flags = pyopencl.mem_flags
        buffers = {
            name: pyopencl.Buffer(context, flags.READ_WRITE | flags.COPY_HOST_PTR, hostbuf=numpy.ascontiguousarray(array))
            for name, array in arrays.items()
        }
        first = next(iter(arrays.values()))
        operands = [buffers.get(name, values[name]) for name in self._names]
        getattr(program, self.__name__)(queue, (first.size,), None, *operands)
        for name in self._written:
            if name in buffers:
                pyopencl.enqueue_copy(queue, arrays[name], buffers[name])
        queue.finish()
