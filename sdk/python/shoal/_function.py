"""What is known of a task's function: its parameters, how many results it has, and the bytes that executors get."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import sys
import textwrap
from collections.abc import Callable
from types import CoroutineType, FunctionType
from typing import Any

from shoal import _general, _serialize

SPEC_VERSION = 1


class Missing:
    """Type of MISSING: a parameter that the call leaves to its default."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<default>"


MISSING = Missing()


class Signature:
    """Parameters of a function, and a compiled binder for calls."""

    __slots__ = ("_binder", "keyword_only", "max_positional", "min_positional", "names", "varargs", "varkeywords")

    def __init__(self, function: Callable) -> None:
        parameters = inspect.signature(function).parameters.values()
        kinds = inspect.Parameter
        positional = [p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
        keyword_only = [p for p in parameters if p.kind is kinds.KEYWORD_ONLY]
        self.names = tuple(p.name for p in positional)
        self.keyword_only = tuple(p.name for p in keyword_only)
        self.varargs = next((p.name for p in parameters if p.kind is kinds.VAR_POSITIONAL), None)
        self.varkeywords = next((p.name for p in parameters if p.kind is kinds.VAR_KEYWORD), None)
        self.min_positional = sum(p.default is kinds.empty for p in positional)
        if any(p.default is kinds.empty for p in keyword_only):
            self.min_positional = sys.maxsize  # never callable with positional arguments only
        self.max_positional = sys.maxsize if self.varargs else len(positional)
        self._binder = _compile_binder(getattr(function, "__name__", "task"), list(parameters))

    def bind(self, args: tuple, kwargs: dict) -> tuple[tuple, tuple, tuple, dict]:
        """(positional values, *args, keyword-only values, **kwargs); MISSING for defaults. TypeError as Python's own."""
        return self._binder(*args, **kwargs)

    def accepts(self, name: str) -> bool:
        """True if a parameter `name` can be given."""
        return name in self.names or name in self.keyword_only or name in (self.varargs, self.varkeywords)

    def all_names(self) -> list[str]:
        """Every parameter's name, *args and **kwargs included."""
        extra = [name for name in (self.varargs, self.varkeywords) if name is not None]
        return [*self.names, *self.keyword_only, *extra]


def _compile_binder(name: str, parameters: list) -> Callable:
    """A function of the same parameters that returns them: Python's own binding, at C speed, with its own messages."""
    kinds = inspect.Parameter
    declared: list[str] = []
    positional: list[str] = []
    keyword_only: list[str] = []
    varargs, varkeywords = "()", "{}"
    last_kind = None
    for p in parameters:
        if last_kind is kinds.POSITIONAL_ONLY and p.kind is not kinds.POSITIONAL_ONLY:
            declared.append("/")
        if p.kind is kinds.KEYWORD_ONLY and last_kind not in (kinds.KEYWORD_ONLY, kinds.VAR_POSITIONAL):
            declared.append("*")
        default = "" if p.default is kinds.empty else "=__missing"
        if p.kind is kinds.VAR_POSITIONAL:
            declared.append(f"*{p.name}")
            varargs = p.name
        elif p.kind is kinds.VAR_KEYWORD:
            declared.append(f"**{p.name}")
            varkeywords = p.name
        else:
            declared.append(p.name + default)
            (keyword_only if p.kind is kinds.KEYWORD_ONLY else positional).append(p.name)
        last_kind = p.kind
    if last_kind is kinds.POSITIONAL_ONLY:
        declared.append("/")
    name = name if name.isidentifier() else "task"
    source = (
        f"def {name}({', '.join(declared)}):\n"
        f"    return {_tuple(positional)}, {varargs}, {_tuple(keyword_only)}, {varkeywords}\n"
    )
    scope: dict[str, Any] = {"__missing": MISSING}
    exec(source, scope)
    return scope[name]


def _tuple(names: list[str]) -> str:
    return "(" + "".join(name + ", " for name in names) + ")"


# ---- results ----
def check_returns(returns: Any, where: str) -> None:
    """TypeError for a `returns=` that says neither how many results there are nor what they are."""
    numbers = (complex, float, bytes, bytearray, set, frozenset)
    wrong = isinstance(returns, numbers) or (isinstance(returns, int) and returns < 0)
    if wrong or (isinstance(returns, str) and not returns.strip()):
        raise TypeError(
            f"{where}: returns={returns!r} says neither how many results there are nor what they are; it is a number from 0, "
            'a type, a list of types, or the name of a global or "{{parameter}}" with the number'
        )


def results_of_declaration(returns: Any) -> list[Any] | None:
    """One type hint (or None) per result for a literal `returns=`; None when it is to be evaluated per call."""
    if returns is None or returns is False or returns == 0:
        return []
    if isinstance(returns, bool):
        return [None]
    if isinstance(returns, int):
        if returns < 0:  # evaluated per call: what the decorator says is checked there
            raise TypeError(f"returns={returns}: a task cannot have fewer than 0 results")
        return [None] * returns
    if isinstance(returns, str):
        return [None] * int(returns) if returns.strip().isdigit() else None
    if isinstance(returns, (list, tuple)):
        return list(returns)
    if isinstance(returns, dict):
        return [None] * len(returns)
    arguments = getattr(returns, "__args__", None)
    if getattr(returns, "__origin__", None) is tuple and arguments and Ellipsis not in arguments:
        return list(arguments)
    return [returns]


def results_of_code(function: Callable) -> list[Any]:
    """Type hints of the results of a function that does not declare `returns=`: from its annotation, else its code."""
    annotation = getattr(function, "__annotations__", {}).get("return", MISSING)
    if annotation is not MISSING:
        return _results_of_annotation(annotation)
    if inspect.isgeneratorfunction(function):
        return [None]
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return [None]  # built in: it most likely returns something
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError):
        return [None] if _returns_value(code) else []
    return [None] * _count_returns(tree, code.co_name)


def _results_of_annotation(annotation: Any) -> list[Any]:
    if annotation is None or annotation is type(None):
        return []
    if not isinstance(annotation, str):
        return results_of_declaration(annotation) or []
    try:
        tree = ast.parse(annotation, mode="eval").body
    except SyntaxError:
        return [None]
    if isinstance(tree, ast.Constant) and tree.value is None:
        return []
    if isinstance(tree, ast.Subscript) and ast.unparse(tree.value).rpartition(".")[2].lower() == "tuple":
        items = tree.slice.elts if isinstance(tree.slice, ast.Tuple) else [tree.slice]
        if not any(isinstance(item, ast.Constant) and item.value is Ellipsis for item in items):
            return [None] * len(items)
    return [None]


def _count_returns(tree: ast.AST, name: str) -> int:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            values = [r.value for r in _own_returns(node) if r.value is not None and not _is_none(r.value)]
            if not values:
                return 0
            lengths = {len(v.elts) if isinstance(v, ast.Tuple) else 1 for v in values}
            return lengths.pop() if len(lengths) == 1 else 1
    return 1  # a lambda


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _own_returns(node: ast.AST) -> list[ast.Return]:
    found: list[ast.Return] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return):
            found.append(child)
        elif not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            found += _own_returns(child)
    return found


def _returns_value(code: Any) -> bool:
    import dis

    previous = None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "RETURN_VALUE" and not (
            previous is not None and previous.opname == "LOAD_CONST" and previous.argval is None
        ):
            return True
        previous = instruction
    return False


# ---- the bytes executors get ----
class OtherPythonError(RuntimeError):
    """The function's code was made by another version of Python. Not the task's fault: another agent may run it."""


class _Code:
    """A function that travels by value. Its code is loaded only by the version of Python that made it."""

    def __init__(self, code: bytes) -> None:
        self._code = code

    def __reduce__(self) -> Any:
        return _load_code, (list(sys.version_info[:2]), self._code)


def _load_code(made_by: list[int], code: bytes) -> Any:
    """The function. OtherPythonError in another version of Python: byte code of one may crash the other."""
    if made_by != list(sys.version_info[:2]):
        there, here = (".".join(map(str, version)) for version in (made_by, sys.version_info[:2]))
        raise OtherPythonError(
            f"the function was sent by a program that runs Python {there}, and this agent runs tasks with Python {here} "
            f"({sys.executable}): give the agent the same version with --python, or put the function into a module that is "
            "installed on both"
        )
    return pickle.loads(code)


def pack_function(function: Callable, spec: dict[str, Any], name: str) -> bytes:
    """Register.payload. TypeError naming the function when it refers to something that cannot be sent."""
    import cloudpickle

    _serialize.register_app_modules()
    try:
        target: Any = reference_of(function) or _Code(_general.dump_code(function))
        return cloudpickle.dumps((target, {"v": SPEC_VERSION, **spec}), protocol=5)
    except Exception as error:
        raise TypeError(
            f"the function of task {name} cannot be sent to executors: {error}. It (or a default in its decorators) refers "
            "to something that cannot be pickled, such as an open file, a lock or a connection; create that inside "
            "the function or pass what is needed as an argument"
        ) from error


def unpack_function(payload: bytes) -> tuple[Callable, dict[str, Any]]:
    """What pack_function packed: the function, ready to be called, and its spec."""
    target, spec = pickle.loads(payload)
    if isinstance(target, tuple):
        target = _find(*target)
    return prepare(target, spec), spec


def prepare(function: Callable, spec: dict[str, Any]) -> Callable:
    """`function` with what the spec says about running it: compiled by numba, between commands."""
    if "numba" in spec:
        from shoal import _numba

        function = _numba.compiled(function, spec["numba"])
    if "around" in spec:
        from shoal._around import around

        function = around(function, spec["around"])
    return function


def awaited(result: Any) -> Any:
    """What a call of a task's function gives: of a coroutine, its result."""
    if isinstance(result, CoroutineType):
        import asyncio

        return asyncio.run(result)
    return result


def function_id(language: str, name: str, payload: bytes) -> bytes:
    """FunctionId: the same everywhere for the same code."""
    import hashlib  # OpenSSL: 3 MiB that executors do without

    digest = hashlib.sha256(b"\0".join((language.encode(), name.encode(), payload)))
    return digest.digest()[:16]


def reference_of(function: Any) -> tuple[str, str] | None:
    """(module, qualified name) of a function that executors can import; None if it has to travel by value."""
    module = getattr(function, "__module__", None)
    qualified = getattr(function, "__qualname__", "")
    if not module or module in _serialize.by_value_modules or "<" in qualified or module not in sys.modules:
        return None
    try:
        found = _find(module, qualified)
    except (ImportError, AttributeError):
        return None
    return (module, qualified) if found is function else None


def _find(module: str, qualified: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in qualified.split("."):
        found = inspect.getattr_static(found, part)
    return plain_function(found)


def plain_function(found: Any) -> Any:
    """The function inside a task, classmethod or staticmethod."""
    while not isinstance(found, FunctionType):
        inner = getattr(found, "__func__", None) or getattr(found, "function", None)
        if inner is None:
            break
        found = inner
    return found
