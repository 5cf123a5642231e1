"""What a task is declared to be: the keywords of @task and what the decorators around it add."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Callable
from typing import Any

from shoal import _function, _general, _options
from shoal._command import Binary
from shoal._function import MISSING, Signature
from shoal._options import Options
from shoal._protocol import Direction, OnFailure
from shoal.errors import NotSupportedError, nearest
from shoal.parameter import IN, TYPE, Parameter, as_parameter

_ALIASES = {
    "targetDirection": "target_direction",
    "isDistributed": "is_distributed",
    "isReplicated": "is_replicated",
    "timeOut": "time_out",
    "varargsType": "varargs_type",
    "computingNodes": "computing_nodes",
    "processesPerNode": "processes_per_node",
    "onFailure": "on_failure",
    "isReduce": "is_reduce",
    "chunkSize": "chunk_size",
    "cacheReturns": "cache_returns",
}
# Accepted for compatibility; they change where or how fast a task runs elsewhere, never what it computes.
_HINTS = frozenset({"cache_returns", "tracing_hook", "processes_per_node"})
_NUMBA = ("numba", "numba_flags", "numba_signature", "numba_declaration")
OPTIONS = frozenset(
    {"returns", "target_direction", "varargs_type", "computing_nodes", "defaults", "on_failure", "retries", "time_out",
     "priority", "environment", "is_replicated", "is_distributed", "is_reduce", "chunk_size", *_HINTS, *_NUMBA}
)  # fmt: skip

# From top to bottom. Other runtimes of the programming model do not see what stands below @task: a program that relied on
# it here would run without its constraints there.
ORDER = "@implement, @constraint, @on_failure, @reduction, @data_transformation, @prolog, @epilog, @binary and its kin, @task"

_MILLISECONDS_MAX = 1 << 53
_COUNT_MAX = (1 << 32) - 1


class Declared:
    """A function with decorators but no @task below them: a plain function, or one in the wrong order."""

    def __init__(self, function: Callable) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.decorator = ""  # the last one
        self.needs_task = ""  # the decorator without which calling the function would be a wrong result

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.needs_task:
            name = f"{self.function.__module__}.{self.function.__qualname__}"
            raise TypeError(f"@{self.needs_task} of {name} has no @task: put @task(…) directly above the function")
        return self.function(*args, **kwargs)


class Declaration:
    """The part of a task that decorators write. `Task` adds calling."""

    def __init__(self, function: Any, keywords: dict[str, Any] | None = None, *, writable_inputs: bool = False):
        self._setup(function, {_ALIASES.get(k, k): v for k, v in (keywords or {}).items()}, writable_inputs)

    def _setup(self, function: Any, keywords: dict[str, Any], writable_inputs: bool) -> None:
        self.function = _checked(function)
        functools.update_wrapper(self, self.function)  # type: ignore[arg-type]
        self.name = f"{self.function.__module__}.{self.function.__qualname__}"
        self._keywords = keywords
        self._writable_inputs = writable_inputs
        self._signature = Signature(self.function)
        self._constraints: dict[str, Any] = {}
        self._binary: Binary | None = None
        self._binary_decorator = ""
        self._around: tuple[Binary | None, Binary | None] = (None, None)  # @prolog, @epilog
        self._steps: tuple[Any, ...] = ()  # what happens to a call before it is submitted: shoal._steps
        self._numba: dict[str, Any] = {}
        self._defaults: dict[str, Any] = {}
        self._parameters: dict[str, Parameter] = {}
        self._varargs = IN
        self._returns: Any = MISSING
        self._options = Options()
        self._local = False
        self._environment = ""  # the name of one; the program's own unless said
        self._read_keywords()
        self._changed()

    def _read_keywords(self) -> None:
        keywords = dict(self._keywords)
        where = f"@task of {self.name}"
        self._returns = keywords.pop("returns", MISSING)
        if self._returns is not MISSING:
            _function.check_returns(self._returns, where)
        self._self_direction = as_parameter(
            keywords.pop("target_direction", Parameter(direction=Direction.INOUT)), self.name, "target_direction"
        )
        self._varargs = as_parameter(keywords.pop("varargs_type", IN), self.name, "varargs_type")
        self._refuse_several_nodes(keywords.pop("computing_nodes", 1))
        self._defaults.update(keywords.pop("defaults", None) or {})
        self._options = Options(
            on_failure=_options.parse_on_failure(keywords.pop("on_failure", "RETRY"), where),
            retries=_count(keywords.pop("retries", _options.DEFAULT_RETRIES), f"{where}: retries"),
            timeout_ms=_milliseconds(keywords.pop("time_out", 0), where),
            priority=bool(keywords.pop("priority", False)),
            is_replicated=bool(keywords.pop("is_replicated", False)),
            is_distributed=bool(keywords.pop("is_distributed", False)),
        )
        if not self._signature.accepts("environment"):
            self._environment = str(keywords.pop("environment", None) or "")
        self._read_numba(keywords, where)
        self._read_reduction(keywords)
        for name in [name for name in keywords if name in _HINTS and not self._signature.accepts(name)]:
            del keywords[name]
        for name, given in keywords.items():
            self._add_parameter(name, given)

    def _add_parameter(self, name: str, given: Any) -> None:
        signature = self._signature
        if not signature.accepts(name) and signature.varkeywords is None:
            known = signature.all_names()
            raise TypeError(
                f"@task of {self.name}: {name!r} is neither a parameter of the function nor an option of @task"
                f"{nearest(name, [*known, *OPTIONS])}; parameters: {', '.join(known) or 'none'}; "
                f"options: {', '.join(sorted(OPTIONS))}"
            )
        parameter = as_parameter(given, self.name, name)
        if name == signature.varargs:
            self._varargs = parameter
        else:
            self._parameters[name] = parameter

    def _refuse_several_nodes(self, nodes: Any) -> None:
        scope = self.function.__globals__ if hasattr(self.function, "__globals__") else {}
        if _options.whole_number(nodes or 1, scope, f"@task of {self.name}: computing_nodes") != 1:
            raise NotSupportedError(f"@task of {self.name}: computing_nodes > 1 (multi-node tasks) is not supported yet")

    def _read_numba(self, keywords: dict[str, Any], where: str) -> None:
        given = {name: keywords.pop(name) for name in _NUMBA if name in keywords and not self._signature.accepts(name)}
        if given.get("numba"):
            from shoal._numba import check

            self._numba = check(given, where)

    def _read_reduction(self, keywords: dict[str, Any]) -> None:
        accepts = self._signature.accepts
        is_reduce = keywords.pop("is_reduce", False) if not accepts("is_reduce") else False
        chunk_size = keywords.pop("chunk_size", 0) if not accepts("chunk_size") else 0
        if is_reduce:
            from shoal._steps import Reduction

            self._steps = (*self._steps, Reduction(chunk_size))

    def _changed(self) -> None:
        """Forgets what was computed from the declaration. Called by decorators above @task."""
        self._payload: bytes | None = None
        self._session: Any = None  # the last session the function was registered with
        self._function_part = b""
        self._result_hints: list[Any] | Any | None = MISSING
        self._hints: list[Any] | None = None
        self._resolved = False  # constraints: environment variables are read at the first call
        self._dynamic: dict[str, str] = {}
        self._bare: Any = None
        self._prepared: Callable | None = None
        self._path_defaults = self._defaults_of_paths()
        self._plain = (
            all(p.is_plain_in for p in self._parameters.values())
            and self._varargs.is_plain_in
            and (self._signature.names[:1] != ("self",) or self._self_direction.is_plain_in)
            and self._binary is None
            and not self._local
        )

    def _defaults_of_paths(self) -> dict[str, Any]:
        """Defaults of parameters that are files or directories: used as if the call had named them."""
        paths = (TYPE.FILE, TYPE.DIRECTORY, TYPE.COLLECTION_FILE)
        names = [name for name, parameter in self._parameters.items() if parameter.content in paths]
        declared = inspect.signature(self.function).parameters if names else {}
        empty = inspect.Parameter.empty
        return {name: declared[name].default for name in names if name in declared and declared[name].default is not empty}

    # ---- what decorators add ----
    def add_constraints(self, constraints: dict[str, Any]) -> None:
        """@constraint."""
        self._constraints.update(constraints)
        self._changed()

    def set_on_failure(self, policy: OnFailure, defaults: dict[str, Any]) -> None:
        """@on_failure."""
        for name in defaults:
            if name != "returns" and not self._signature.accepts(name):
                hint = nearest(name, [*self._signature.all_names(), "returns"])
                raise TypeError(f"@on_failure of {self.name}: the function has no parameter {name!r}{hint}")
        self._options = self._options.changed(on_failure=policy)
        self._defaults.update(defaults)
        self._changed()

    def set_binary(self, binary: Binary, decorator: str = "binary") -> None:
        """@binary and its kin. ValueError when a placeholder names no parameter."""
        if self._binary_decorator:
            raise TypeError(f"{self.name} has two decorators that say what runs: @{self._binary_decorator} and @{decorator}")
        self.check_placeholders(binary, decorator)
        self._binary = binary
        self._binary_decorator = decorator
        self._changed()

    def set_around(self, prolog: Binary | None, epilog: Binary | None) -> None:
        """@prolog and @epilog: commands before and after. ValueError when a placeholder names no parameter."""
        for binary, decorator in ((prolog, "prolog"), (epilog, "epilog")):
            if binary is not None:
                self.check_placeholders(binary, decorator)
        self._around = (prolog or self._around[0], epilog or self._around[1])
        self._changed()

    def check_placeholders(self, binary: Binary, decorator: str) -> None:
        """ValueError when a `{{placeholder}}` names no parameter."""
        for placeholder in binary.placeholders():
            name = placeholder.split(".")[0]
            if not self._signature.accepts(name):
                known = self._signature.all_names()
                raise ValueError(
                    f"@{decorator} of {self.name}: {{{{{placeholder}}}}} names no parameter{nearest(name, known)}; "
                    f"there are: {', '.join(known) or 'none'}"
                )

    def add_step(self, step: Any) -> None:
        """@reduction, @data_transformation, @implement: the step of the outermost decorator is the first of a call."""
        step.check(self)
        self._steps = (step, *self._steps)
        self._changed()

    def set_function(self, function: Callable) -> None:
        """@opencl: `function` runs instead of the declared one, whose signature stays."""
        self.function = function
        self._changed()

    def set_io(self) -> None:
        """@IO: takes no computing unit."""
        self._constraints.setdefault("computing_units", 0)
        self._changed()

    def set_local(self) -> None:
        """@local."""
        self._local = True
        self._changed()

    def bare(self) -> Any:
        """The same task without steps, to be called by the last of them."""
        if self._bare is None:
            bare = self.__class__.__new__(self.__class__)
            bare.__dict__.update(self.__dict__)
            bare._steps = ()
            self._bare = bare
        return self._bare

    def prepared(self) -> Callable:
        """The function as it is run: compiled where numba is asked for, between its @prolog and @epilog."""
        if self._prepared is None:
            self._prepared = _function.prepare(self.function, self._extra_spec())
        return self._prepared

    def _extra_spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = {}
        if self._numba:
            spec["numba"] = self._numba
        if self._binary is None and self._around != (None, None):
            spec["around"] = [None if binary is None else binary.fields() for binary in self._around]
        return spec

    def _spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self._extra_spec()
        if self._writable_inputs:
            spec["writable"] = True
        if self._options.on_failure in (OnFailure.IGNORE, OnFailure.CANCEL_SUCCESSORS):
            spec["keep"] = True
            if self._defaults:
                spec["defaults"] = {name: self._whole_path(name, value) for name, value in self._defaults.items()}
        if _general.serializer() != "cloudpickle":
            spec["serializer"] = _general.serializer()
        environment = _options.mentioned_environment()
        if environment:
            spec["environment"] = environment
        return spec

    def _whole_path(self, name: str, default: Any) -> Any:
        """A default of @on_failure: the name of a file means what it means to the main program."""
        declared = self._parameters.get(name)
        paths = declared is not None and declared.content in (TYPE.FILE, TYPE.DIRECTORY)
        return os.path.abspath(default) if paths and isinstance(default, (str, os.PathLike)) else default

    def _hints_of_results(self) -> list[Any] | None:
        if self._returns is MISSING:
            if self._binary is not None:
                return []
            return _function.results_of_code(self.function)
        return _function.results_of_declaration(self._returns)

    def parameter_of(self, name: str) -> Parameter:
        """How the parameter `name` is used."""
        return self._parameters.get(name, self._varargs if "." in name else IN)

    @property
    def signature(self) -> Signature:
        """The function's parameters."""
        return self._signature

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters that @task mentions."""
        return self._parameters

    @property
    def constraints(self) -> dict[str, Any]:
        """What @constraint asks for, as it was written."""
        return self._constraints

    @property
    def fails_by_exit_value(self) -> bool:
        """False for commands whose exit value is a result."""
        return self._binary is None or self._binary.fail_by_exit_value

    @property
    def declares_results(self) -> bool:
        """True if a call returns something."""
        return bool(self._hints_of_results())

    # ---- travelling inside other functions (nested tasks) ----
    def __reduce__(self) -> Any:
        reference = _function.reference_of(self.function)
        if reference is not None:
            return _task_by_reference, reference
        # Two steps, because a recursive function refers to its own task.
        return _empty, (self.__class__,), self._travelling_state()

    def _travelling_state(self) -> dict[str, Any]:
        return {
            "function": self.function,
            "keywords": self._keywords,
            "writable_inputs": self._writable_inputs,
            "constraints": self._constraints,
            "binary": None if self._binary is None else self._binary.fields(),
            "around": [None if binary is None else binary.fields() for binary in self._around],
            "steps": self._steps,
            "on_failure": int(self._options.on_failure),
            "defaults": self._defaults,
            "local": self._local,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._setup(state["function"], state["keywords"], state["writable_inputs"])
        self._constraints = state["constraints"]
        self._binary = None if state["binary"] is None else Binary(*state["binary"])
        prolog, epilog = (None if fields is None else Binary(*fields) for fields in state["around"])
        self._around = (prolog, epilog)
        self._steps = state["steps"]
        self._options = self._options.changed(on_failure=OnFailure(state["on_failure"]))
        self._defaults = state["defaults"]
        self._local = state["local"]
        self._changed()

    def __repr__(self) -> str:
        return f"<task {self.name}>"


def _checked(function: Any) -> Callable:
    if isinstance(function, Declaration):
        raise TypeError(f"{function.name} has @task twice")
    if isinstance(function, Declared):
        name = f"{function.function.__module__}.{function.function.__qualname__}"
        raise TypeError(
            f"decorators of {name} are in the wrong order: @{function.decorator} goes above @task; from top to bottom: {ORDER}"
        )
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        name = f"{function.__func__.__module__}.{function.__func__.__qualname__}"
        raise TypeError(f"decorators of {name} are in the wrong order: @{kind} goes above @task")
    if isinstance(function, type) or not callable(function):
        what = f"the class {function.__qualname__}" if isinstance(function, type) else f"a {type(function).__name__}"
        raise TypeError(f"@task decorates functions and methods, not {what}")
    return function


def _milliseconds(seconds: Any, where: str) -> int:
    text = _options.environment_value(str(seconds or 0), f"{where}: time_out")
    try:
        given = round(float(text) * 1000)
    except (TypeError, ValueError, OverflowError):
        given = -1
    if not 0 <= given <= _MILLISECONDS_MAX:
        raise TypeError(f"{where}: time_out must be a number of seconds, not {seconds!r}") from None
    return given


def _count(given: Any, where: str) -> int:
    try:
        count = int(given)
    except (TypeError, ValueError):
        count = -1
    if not 0 <= count <= _COUNT_MAX:
        raise TypeError(f"{where} must be a whole number from 0 to {_COUNT_MAX}, not {given!r}")
    return count


def _empty(kind: Any) -> Any:
    return kind.__new__(kind)


def _task_by_reference(module: str, qualified: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in qualified.split("."):
        found = getattr(found, part)
    return found
