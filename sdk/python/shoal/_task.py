"""@task: makes a function a task. Calling it submits the call and returns futures of its results."""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Callable
from typing import Any

from shoal import _codec, _function, _options, _runtime, _serialize
from shoal._call import CallBuilder
from shoal._command import TEMPLATE, Binary
from shoal._function import MISSING, Signature
from shoal._future import Future
from shoal._native import native
from shoal._options import Options
from shoal._protocol import Direction, Kind, OnFailure
from shoal.errors import COMPSsException, NotSupportedError
from shoal.parameter import IN, TYPE, Parameter, as_parameter

_ALIASES = {
    "targetDirection": "target_direction",
    "isDistributed": "is_distributed",
    "isReplicated": "is_replicated",
    "timeOut": "time_out",
    "varargsType": "varargs_type",
    "computingNodes": "computing_nodes",
}
# Accepted for compatibility; they change where or how fast a task runs elsewhere, never what it computes.
_HINTS = {"cache_returns", "tracing_hook", "chunk_size", "is_reduce", "processes_per_node", "numba", "numba_flags",
          "numba_signature", "numba_declaration"}  # fmt: skip


class Task:
    """A function whose calls are tasks. Made by `@task`; called like the function."""

    def __init__(self, function: Callable, keywords: dict[str, Any] | None = None, *, writable_inputs: bool = False):
        self._setup(function, {_ALIASES.get(k, k): v for k, v in (keywords or {}).items()}, writable_inputs)
        for apply in getattr(function, "__shoal_pending__", ()):
            apply(self)

    def _setup(self, function: Callable, keywords: dict[str, Any], writable_inputs: bool) -> None:
        function = _function.plain_function(function)
        if not callable(function):
            raise TypeError(f"@task decorates functions, not {type(function).__name__}")
        functools.update_wrapper(self, function)
        self.function = function
        self.name = f"{function.__module__}.{function.__qualname__}"
        self._keywords = keywords
        self._writable_inputs = writable_inputs
        self._signature = Signature(function)
        self._constraints: dict[str, Any] = {}
        self._binary: Binary | None = None
        self._defaults: dict[str, Any] = {}
        self._parameters: dict[str, Parameter] = {}
        self._varargs = IN
        self._returns: Any = MISSING
        self._options = Options()
        self._local = False
        self._read_keywords()
        self._changed()

    # ---- declaration ----
    def _read_keywords(self) -> None:
        keywords = dict(self._keywords)
        self._returns = keywords.pop("returns", MISSING)
        self._self_direction = as_parameter(
            keywords.pop("target_direction", Parameter(direction=Direction.INOUT)), self.name, "target_direction"
        )
        self._varargs = as_parameter(keywords.pop("varargs_type", IN), self.name, "varargs_type")
        if int(keywords.pop("computing_nodes", 1) or 1) != 1:
            raise NotSupportedError(f"@task of {self.name}: computing_nodes > 1 (multi-node tasks) is not supported yet")
        self._defaults.update(keywords.pop("defaults", None) or {})
        self._options = Options(
            on_failure=_options.parse_on_failure(keywords.pop("on_failure", "RETRY"), f"@task of {self.name}"),
            retries=int(keywords.pop("retries", _options.DEFAULT_RETRIES)),
            timeout_ms=round(float(keywords.pop("time_out", 0) or 0) * 1000),
            priority=bool(keywords.pop("priority", False)),
            is_replicated=bool(keywords.pop("is_replicated", False)),
            is_distributed=bool(keywords.pop("is_distributed", False)),
        )
        for name in [name for name in keywords if name in _HINTS and not self._signature.accepts(name)]:
            del keywords[name]
        for name, given in keywords.items():
            if not self._signature.accepts(name) and self._signature.varkeywords is None:
                raise TypeError(f"@task of {self.name}: {name!r} is neither a parameter of the function nor an option of @task")
            parameter = as_parameter(given, self.name, name)
            if name == self._signature.varargs:
                self._varargs = parameter
            else:
                self._parameters[name] = parameter

    def _changed(self) -> None:
        """Forgets what was computed from the declaration. Called by decorators above @task."""
        self._payload: bytes | None = None
        self._session: Any = None  # the last session the function was registered with
        self._function_part = b""
        self._result_hints: list[Any] | Any | None = MISSING
        self._hints: list[Any] | None = None
        self._resolved = False  # constraints: environment variables are read at the first call
        self._dynamic: dict[str, str] = {}
        self._plain = (
            all(p.is_plain_in for p in self._parameters.values())
            and self._varargs.is_plain_in
            and (self._signature.names[:1] != ("self",) or self._self_direction.is_plain_in)
            and self._binary is None
            and not self._local
        )

    def add_constraints(self, constraints: dict[str, Any]) -> None:
        """@constraint."""
        self._constraints.update(constraints)
        self._changed()

    def set_on_failure(self, policy: OnFailure, defaults: dict[str, Any]) -> None:
        """@on_failure."""
        for name in defaults:
            if name != "returns" and not self._signature.accepts(name):
                raise TypeError(f"@on_failure of {self.name}: the function has no parameter {name!r}")
        self._options = self._options.changed(on_failure=policy)
        self._defaults.update(defaults)
        self._changed()

    def set_binary(self, binary: Binary) -> None:
        """@binary. ValueError when a placeholder names no parameter."""
        for placeholder in binary.placeholders():
            if not self._signature.accepts(placeholder.split(".")[0]):
                raise ValueError(
                    f"@binary of {self.name}: {{{{{placeholder}}}}} names no parameter; "
                    f"there are: {', '.join(self._signature.names) or 'none'}"
                )
        self._binary = binary
        self._changed()

    def set_local(self) -> None:
        """@local."""
        self._local = True
        self._changed()

    # ---- calling ----
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        session = _runtime.current
        if session is None:
            session = _runtime.attach()
            if session is None:
                return self._run_here(args, kwargs)
        if self._session is not session:
            self._prepare(session)
        if self._plain and not kwargs and not self._dynamic and self._hints is not None:
            if native is not None and len(self._hints) < 2:
                call = self._call_natively(session, args, self._hints)
                if call is not MISSING:
                    return call
            packed = self._pack_plain(session, args)
            if packed is not None:
                return self._submit(session, packed, self._hints)
        return self._submit_general(session, args, kwargs)

    def _run_here(self, args: tuple, kwargs: dict) -> Any:
        """Without an agent a call is a call."""
        if self._binary is not None:
            from shoal._local import run_binary

            return run_binary(self, args, kwargs)
        forgiving = self._options.on_failure in (OnFailure.IGNORE, OnFailure.CANCEL_SUCCESSORS)
        try:
            return _finished(self.function(*args, **kwargs))
        except COMPSsException:
            raise
        except Exception:
            if not forgiving:
                raise
            return self._defaults.get("returns")
        finally:
            for name, parameter in self._parameters.items():
                if parameter.content is TYPE.STREAM and parameter.direction is Direction.OUT:
                    inspect.signature(self.function).bind(*args, **kwargs).arguments[name].close()

    def _prepare(self, session: Any) -> None:
        """Registers the function with `session`, once."""
        if not self._resolved:
            fixed, self._dynamic = _options.resolve_static(self._constraints)
            self._options = self._options.changed(constraints=fixed)
            self._resolved = True
        if self._result_hints is MISSING:
            self._result_hints = self._hints_of_results()
        self._hints = self._result_hints
        language = "python"
        if self._payload is None:
            self._payload = b""
            if self._binary is None:
                self._payload = _function.pack_function(self.function, self._spec(), self.name)
        if self._binary is not None:
            language = "command"
        identity = _function.function_id(language, self.name, self._payload)
        with session.lock:
            if identity not in session.registered:
                options = self._options.message()
                session.add_message(Kind.REGISTER, [identity, self.name, language, self._payload, options])
                session.registered[identity] = True
        self._function_part = _codec.function_part(identity)
        self._session = session

    def _hints_of_results(self) -> list[Any] | None:
        if self._returns is MISSING:
            if self._binary is not None:
                return []
            return _function.results_of_code(self.function)
        return _function.results_of_declaration(self._returns)

    def _spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = {}
        if self._writable_inputs:
            spec["writable"] = True
        if self._options.on_failure in (OnFailure.IGNORE, OnFailure.CANCEL_SUCCESSORS):
            spec["keep"] = True
            if self._defaults:
                spec["defaults"] = self._defaults
        return spec

    def _call_natively(self, session: Any, args: tuple, hints: list[Any]) -> Any:
        """Submits a call of plain values with at most one result; MISSING when it is of another kind."""
        if not self._signature.min_positional <= len(args) <= self._signature.max_positional:
            return MISSING
        with session.lock:
            datum = session._datum + 1 if hints else 0
            call = native.pack_call(session.tasks + 1, self._function_part, args, datum, session.inline_max)
            if call is None:
                return MISSING
            session.add_packed_call(call)
            if not hints:
                return None
            session._datum = datum
            return Future(session, datum, hints[0])

    def _pack_plain(self, session: Any, args: tuple) -> list[bytes] | None:
        """The packed accesses of positional arguments that are read-only scalars and futures; None for others."""
        count = len(args)
        if not self._signature.min_positional <= count <= self._signature.max_positional:
            return None
        futures = False
        for arg in args:
            kind = type(arg)
            if kind is Future:
                if arg._session is not session:
                    return None
                futures = True
            elif kind not in _serialize.PLAIN_TYPES:
                return None
        if futures:
            return self._pack_each(session, args)
        if not count:
            return []
        body = pickle.dumps((args, {}, ()), 5)
        if len(body) + _serialize.HEADER_BYTES > session.inline_max:
            return None
        return [_codec.record_access(_serialize.pickle_header(len(body)) + body)]

    @staticmethod
    def _pack_each(session: Any, args: tuple) -> list[bytes] | None:
        """One access per argument: with futures among them that is cheaper than a call record."""
        packed = []
        for arg in args:
            if type(arg) is Future:
                packed.append(_codec.datum_access(arg._datum))
                continue
            blob = _serialize.dumps(arg)
            if blob.size > session.inline_max:
                return None
            packed.append(_codec.literal_access(blob.join()))
        return packed

    def _submit(self, session: Any, accesses: list[bytes], hints: list[Any]) -> Any:
        with session.lock:
            if not hints:
                session.add_call(b"".join((self._function_part, _codec.array_header(len(accesses)), *accesses)))
                return None
            if len(hints) == 1:
                session._datum = datum = session._datum + 1
                header = _codec.array_header(len(accesses) + 1)
                result = _codec.result_access(datum, 0)
                session.add_call(b"".join((self._function_part, header, *accesses, result)))
                return Future(session, datum, hints[0])
            return self._add_call(session, accesses, hints, _codec.NO_OPTIONS)

    def _add_call(self, session: Any, accesses: list[bytes], hints: list[Any], options: bytes) -> Any:
        futures = [session.new_future(hint) for hint in hints]
        results = [_codec.result_access(future._datum, index) for index, future in enumerate(futures)]
        header = _codec.array_header(len(accesses) + len(results))
        session.add_call(b"".join((self._function_part, header, *accesses, *results)), options)
        if not futures:
            return None
        return futures[0] if len(futures) == 1 else futures

    def _submit_general(self, session: Any, args: tuple, kwargs: dict) -> Any:
        positional, varargs, keyword_only, varkeywords = self._signature.bind(args, kwargs)
        if self._local:
            return self._run_locally(args, kwargs)
        named = dict(zip(self._signature.names, positional))
        named.update(zip(self._signature.keyword_only, keyword_only))
        with session.lock:
            builder = CallBuilder(session, self.name)
            builder.has_record = self._binary is None
            options = self._options
            if self._dynamic:
                constraints = _options.evaluate(self._dynamic, self.function.__globals__, {**named, **varkeywords}, self.name)
                options = options.changed(constraints={**options.constraints, **constraints})
            if self._binary is not None:
                values = {**named, **{f"{self._signature.varargs}.{i}": v for i, v in enumerate(varargs)}}
                options = self._binary.pack(builder, self._with_defaults(values), self._parameter, options)
                accesses = builder.accesses
            else:
                accesses = self._pack_python(builder, positional, varargs, keyword_only, varkeywords)
            if builder.streams:
                options = options.changed(streams=True)
                self._register_writers(session, builder)
            hints = self._hints
            if hints is None:
                hints = self._evaluate_returns({**named, **varkeywords})
            packed = _codec.NO_OPTIONS if options is self._options else _codec.pack_value(options.message())
            result = self._add_call(session, accesses, hints, packed)
            for value in builder.to_release:
                session.untrack(value)
            return result

    def _pack_python(
        self, builder: CallBuilder, positional: tuple, varargs: tuple, keyword_only: tuple, varkeywords: dict
    ) -> list[bytes]:
        record_args: list[Any] = []
        record_kwargs: dict[str, Any] = {}
        by_name = False
        names = self._signature.names
        for name, value in zip(names, positional):
            if value is MISSING:
                by_name = True  # the executor's own default applies; what follows is passed by name
                continue
            key: Any = name if by_name else len(record_args)
            replaced = builder.argument(key, name, value, self._direction_of(name, value))
            if by_name:
                record_kwargs[name] = replaced
            else:
                record_args.append(replaced)
        for value in varargs:
            name = self._signature.varargs or ""
            record_args.append(builder.argument(len(record_args), name, value, self._varargs))
        for name, value in [*zip(self._signature.keyword_only, keyword_only), *varkeywords.items()]:
            if value is not MISSING:
                record_kwargs[name] = builder.argument(name, name, value, self._parameters.get(name, IN))
        if not record_args and not record_kwargs:
            return []
        # The record may add accesses while it is pickled, so it is packed before the list is put together.
        record = builder.record(record_args, record_kwargs, lambda: list(names))
        return [record, *builder.accesses]

    def _direction_of(self, name: str, value: Any) -> Parameter:
        declared = self._parameters.get(name)
        if declared is not None:
            return declared
        if name == "self" and self._signature.names[0] == "self" and not isinstance(value, type):
            return self._self_direction
        return IN

    def _evaluate_returns(self, values: dict[str, Any]) -> list[Any]:
        """`returns="…"`: the name of a global, `{{parameter}}`, or an expression over the arguments."""
        text = TEMPLATE.sub(lambda match: match.group(1), str(self._returns))
        try:
            count = eval(text, self.function.__globals__, values)
        except Exception as error:
            raise ValueError(f"returns={self._returns!r} of task {self.name} cannot be evaluated: {error}") from error
        return _function.results_of_declaration(count if isinstance(count, (int, list, tuple)) else int(count)) or []

    def _register_writers(self, session: Any, builder: CallBuilder) -> None:
        writer = f"{session.app.hex()}/{session.tasks + 1}"
        for stream in builder.stream_outputs:
            stream.add_writer(session, writer)

    def _with_defaults(self, values: dict[str, Any]) -> dict[str, Any]:
        parameters = inspect.signature(self.function).parameters
        return {name: parameters[name].default if value is MISSING else value for name, value in values.items()}

    def _parameter(self, name: str) -> Parameter:
        return self._parameters.get(name, self._varargs if "." in name else IN)

    def command_line(self, values: dict[str, Any]) -> tuple[list[str], str, dict[str, tuple[str, str]]]:
        """(command, working directory, redirected streams) of a @binary call that runs here, without an agent."""
        assert self._binary is not None
        rest = values.pop(self._signature.varargs, ()) if self._signature.varargs else ()
        values.update({f"{self._signature.varargs}.{index}": value for index, value in enumerate(rest)})
        return self._binary.command_line(values, self._parameter)

    @property
    def fails_by_exit_value(self) -> bool:
        """False for commands whose exit value is a result."""
        return self._binary is None or self._binary.fail_by_exit_value

    @property
    def declares_results(self) -> bool:
        """True if a call returns something."""
        return bool(self._hints_of_results())

    def _run_locally(self, args: tuple, kwargs: dict) -> Any:
        from shoal.api import wait_on

        return self.function(*[wait_on(a) for a in args], **{k: wait_on(v) for k, v in kwargs.items()})

    # ---- travelling inside other functions (nested tasks) ----
    def __reduce__(self) -> Any:
        reference = _function.reference_of(self.function)
        if reference is not None:
            return _task_by_reference, reference
        # Two steps, because a recursive function refers to its own task.
        return _empty_task, (), self._travelling_state()

    def _travelling_state(self) -> dict[str, Any]:
        return {
            "function": self.function,
            "keywords": self._keywords,
            "writable_inputs": self._writable_inputs,
            "constraints": self._constraints,
            "binary": None if self._binary is None else self._binary.fields(),
            "on_failure": int(self._options.on_failure),
            "defaults": self._defaults,
            "local": self._local,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._setup(state["function"], state["keywords"], state["writable_inputs"])
        self._constraints = state["constraints"]
        self._binary = None if state["binary"] is None else Binary(*state["binary"])
        self._options = self._options.changed(on_failure=OnFailure(state["on_failure"]))
        self._defaults = state["defaults"]
        self._local = state["local"]
        self._changed()

    def __repr__(self) -> str:
        return f"<task {self.name}>"


def _empty_task() -> Task:
    return Task.__new__(Task)


def _task_by_reference(module: str, qualified: str) -> Any:
    __import__(module)
    import sys

    found: Any = sys.modules[module]
    for part in qualified.split("."):
        found = getattr(found, part)
    return found


def _finished(result: Any) -> Any:
    if inspect.iscoroutine(result):
        import asyncio

        return asyncio.run(result)
    return result


def task(*args: Any, **keywords: Any) -> Any:
    """Decorator: `@task(returns=…, a=INOUT, …)`, or plain `@task`.

    Options: returns, target_direction, priority, on_failure, retries, time_out, is_replicated, is_distributed,
    varargs_type, defaults; every other keyword gives a parameter its direction (shoal.parameter).
    """
    if len(args) == 1 and callable(args[0]) and not keywords:
        return Task(args[0])
    if args:
        raise TypeError("@task takes keywords only: @task(returns=int, a=INOUT)")
    return lambda function: Task(function, keywords)


__all__ = ["Task", "task"]
