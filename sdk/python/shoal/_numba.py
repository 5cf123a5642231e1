"""@task(numba=…): the function is compiled by numba where it runs. numba itself is never a dependency."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from shoal.errors import NotSupportedError, nearest

_MODES = ("jit", "njit", "generated_jit", "vectorize", "guvectorize", "stencil", "cfunc")
_compiled: dict[tuple[int, str], tuple[Callable, Callable]] = {}


def check(given: dict[str, Any], where: str) -> dict[str, Any]:
    """The numba keywords of @task as (mode, flags, …). NotSupportedError where numba is not installed."""
    mode = given["numba"]
    mode = "jit" if mode is True else mode
    if mode not in _MODES:
        raise TypeError(f"{where}: numba={mode!r}{nearest(mode, _MODES)}; it is True or one of {', '.join(_MODES)}")
    flags = given.get("numba_flags") or {}
    if not isinstance(flags, dict):
        raise TypeError(f"{where}: numba_flags must be a dict, not {type(flags).__name__}")
    if mode in ("guvectorize", "cfunc") and not given.get("numba_signature"):
        raise TypeError(f"{where}: numba={mode!r} needs numba_signature")
    if mode == "guvectorize" and not given.get("numba_declaration"):
        raise TypeError(f"{where}: numba='guvectorize' needs numba_declaration, such as '(n),()->(n)'")
    if importlib.util.find_spec("numba") is None:
        raise NotSupportedError(f"{where}: numba={mode!r} needs the package numba, which is not installed; pip install numba")
    signature, declaration = given.get("numba_signature"), given.get("numba_declaration")
    return {"mode": mode, "flags": dict(flags), "signature": signature, "declaration": declaration}


def compiled(function: Callable, wanted: dict[str, Any]) -> Callable:
    """`function` compiled as `wanted` (what check returned) says; once per process."""
    key = (id(function), repr(sorted(wanted.items(), key=str)))
    if key not in _compiled:
        _compiled[key] = (function, _compile(function, wanted))
    return _compiled[key][1]


def _compile(function: Callable, wanted: dict[str, Any]) -> Callable:
    try:
        import numba
    except ImportError as error:
        raise NotSupportedError(f"the task asks for numba, which cannot be imported here: {error}") from error
    mode, flags, signature = wanted["mode"], dict(wanted["flags"]), wanted["signature"]
    maker = getattr(numba, mode, None)
    if maker is None:
        raise NotSupportedError(f"numba {numba.__version__} has no {mode}")
    if mode in ("jit", "njit"):
        if mode == "jit":
            flags.setdefault("nopython", True)
        return maker(signature, **flags)(function) if signature else maker(**flags)(function)
    if mode == "vectorize":
        return maker(signature, **flags)(function) if signature else maker(**flags)(function)
    if mode == "guvectorize":
        return maker(signature, wanted["declaration"], **flags)(function)
    if mode == "cfunc":
        return maker(signature, **flags)(function).ctypes
    return maker(**flags)(function) if flags else maker(function)
