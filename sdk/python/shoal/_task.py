"""@task: makes a function a task. Calling it submits the call and returns futures of its results."""

from __future__ import annotations

import functools
import inspect
import pickle
import re
from typing import Any

from shoal import _codec, _environment, _function, _options, _runtime, _serialize, _steps
from shoal._call import CallBuilder
from shoal._command import TEMPLATE
from shoal._declaration import Declaration, Declared
from shoal._function import MISSING
from shoal._future import Future
from shoal._native import native
from shoal._protocol import Direction, Kind, OnFailure
from shoal.errors import COMPSsException
from shoal.parameter import IN, TYPE, Parameter

# value_of(parameter.attribute), as in returns="value_of(matrix.rows)".
_VALUE_OF = re.compile(r"^\s*value[-_]of\s*\((.*)\)\s*$")


class Task(Declaration):
    """A function whose calls are tasks. Made by `@task`; called like the function."""

    def _setup(self, function: Any, keywords: dict[str, Any], writable_inputs: bool) -> None:
        super()._setup(function, keywords, writable_inputs)
        _steps.join(self)

    # ---- calling ----
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._steps:
            return _steps.run(self, args, kwargs)
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
        if self._takes_returns(kwargs):
            del kwargs["returns"]
        try:
            if self._binary is not None:
                from shoal._local import run_binary

                return run_binary(self, args, kwargs)
            return _function.awaited(self.prepared()(*args, **kwargs))
        except COMPSsException:
            raise
        except Exception:
            if self._options.on_failure not in (OnFailure.IGNORE, OnFailure.CANCEL_SUCCESSORS):
                raise
            if len(self._defaults) > ("returns" in self._defaults):
                from shoal._local import apply_defaults

                apply_defaults(self, self._defaults, args, kwargs)
            return self._defaults.get("returns")
        finally:
            for name, parameter in self._parameters.items():
                if parameter.content is TYPE.STREAM and parameter.direction is Direction.OUT:
                    stream = inspect.signature(self.function).bind(*args, **kwargs).arguments.get(name)
                    if stream is not None:  # else left to its default
                        stream.close()

    def _prepare(self, session: Any) -> None:
        """Registers the function with `session`, once."""
        if not self._resolved:
            fixed, self._dynamic = _options.resolve_static(self._constraints, self._signature.all_names())
            self._options = self._options.changed(constraints=fixed)
            if self._environment:
                environment = _environment.named(self._environment, f"@task of {self.name}")
                self._options = self._options.changed(environment=environment)
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
        where = self._options.environment if self._environment else b""  # one function in two environments is two
        identity = _function.function_id(language, self.name, self._payload + where)
        with session.lock:
            if identity not in session.registered:
                options = self._options.message()
                session.add_message(Kind.REGISTER, [identity, self.name, language, self._payload, options])
                session.registered[identity] = True
        self._function_part = _codec.function_part(identity)
        self._session = session

    def _call_natively(self, session: Any, args: tuple, hints: list[Any]) -> Any:
        """Submits a call of plain values and futures with at most one result; MISSING when it is of another kind."""
        if not self._signature.min_positional <= len(args) <= self._signature.max_positional:
            return MISSING
        with session.lock:
            datum = session._datum + 1 if hints else 0
            call = native.pack_call(session.tasks + 1, self._function_part, args, datum, session.inline_max, Future, session)
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
        returns = kwargs.pop("returns") if self._takes_returns(kwargs) else MISSING
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
                given = self._with_defaults({**named, **varkeywords})
                constraints = _options.evaluate(self._dynamic, self.function.__globals__, given, self.name)
                options = options.changed(constraints={**options.constraints, **constraints})
            if self._binary is not None:
                values = {**named, **{f"{self._signature.varargs}.{i}": v for i, v in enumerate(varargs)}}
                options = self._binary.pack(builder, self._with_defaults(values), self.parameter_of, options, self._around)
                accesses = builder.accesses
            else:
                accesses = self._pack_python(builder, positional, varargs, keyword_only, varkeywords)
            if builder.streams:
                options = options.changed(streams=True)
                self._register_writers(session, builder)
            hints = self._hints if returns is MISSING else _function.results_of_declaration(returns)
            if hints is None:
                hints = self._evaluate_returns({**named, **varkeywords}, self._returns if returns is MISSING else returns)
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
            if value is MISSING and name in self._path_defaults:
                value = self._path_defaults[name]
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
            if value is MISSING:
                value = self._path_defaults.get(name, MISSING)
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

    def _takes_returns(self, kwargs: dict) -> bool:
        """True if `returns=` of a call says how many results it has, not what a parameter is."""
        return "returns" in kwargs and not self._signature.accepts("returns") and self._signature.varkeywords is None

    def _evaluate_returns(self, values: dict[str, Any], declared: Any) -> list[Any]:
        """`returns="…"`: the name of a global, `{{parameter}}`, or an expression over the arguments."""
        text = TEMPLATE.sub(lambda match: match.group(1), str(declared))
        text = _VALUE_OF.sub(lambda match: match.group(1), text)
        try:
            count = eval(text, self.function.__globals__, self._with_defaults(values))
            return _function.results_of_declaration(count if isinstance(count, (int, list, tuple)) else int(count)) or []
        except Exception as error:
            raise ValueError(f"returns={declared!r} of task {self.name} cannot be evaluated: {error}") from error

    def _register_writers(self, session: Any, builder: CallBuilder) -> None:
        writer = f"{session.app.hex()}/{session.tasks + 1}"
        for stream in builder.stream_outputs:
            stream.add_writer(session, writer)

    def _with_defaults(self, values: dict[str, Any]) -> dict[str, Any]:
        if not any(value is MISSING for value in values.values()):
            return values
        parameters = inspect.signature(self.function).parameters
        return {name: parameters[name].default if value is MISSING else value for name, value in values.items()}

    def command_line(self, values: dict[str, Any]) -> tuple[list[str], str, dict[str, tuple[str, str]]]:
        """(command, working directory, redirected streams) of a @binary call that runs here, without an agent."""
        assert self._binary is not None
        rest = values.pop(self._signature.varargs, ()) if self._signature.varargs else ()
        values.update({f"{self._signature.varargs}.{index}": value for index, value in enumerate(rest)})
        return self._binary.command_line(values, self.parameter_of, self._around)

    def _run_locally(self, args: tuple, kwargs: dict) -> Any:
        from shoal.api import wait_on

        call = self.prepared()
        return _function.awaited(call(*[wait_on(a) for a in args], **{k: wait_on(v) for k, v in kwargs.items()}))


def task(*args: Any, **keywords: Any) -> Any:
    """Decorator: `@task(returns=…, a=INOUT, …)`, or plain `@task`.

    Options: returns, target_direction, priority, on_failure, retries, time_out, is_replicated, is_distributed,
    varargs_type, defaults; every other keyword gives a parameter its direction (shoal.parameter).
    """
    if len(args) == 1 and not keywords and (callable(args[0]) or isinstance(args[0], (staticmethod, classmethod, Declared))):
        return Task(args[0])
    if args:
        raise TypeError("@task takes keywords only: @task(returns=int, a=INOUT)")
    return lambda function: Task(function, keywords)


__all__ = ["Task", "task"]
