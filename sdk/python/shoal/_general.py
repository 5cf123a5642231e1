"""What carries objects that plain pickle cannot: cloudpickle, or dill where a program asks for it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

_NAMES = ("cloudpickle", "dill")
_chosen = os.environ.get("SHOAL_SERIALIZER", "cloudpickle")
_classes: dict[tuple[str, Any], Any] = {}


def serializer(name: str | None = None) -> str:
    """Says, and with `name` sets for what is sent from now on, what carries objects that plain pickle cannot.

    "cloudpickle", or "dill", which knows more kinds of objects (locks, open files, frames) and must be installed where
    tasks run, too. The environment variable SHOAL_SERIALIZER chooses as well.
    """
    global _chosen
    if name is not None:
        if name not in _NAMES:
            raise ValueError(f"serializer({name!r}): it is {' or '.join(map(repr, _NAMES))}")
        if name == "dill":
            _dill()
        _chosen = name
    return _chosen


def _package() -> Any:
    if _chosen == "dill":
        return _dill()
    if _chosen != "cloudpickle":
        raise ValueError(f"SHOAL_SERIALIZER={_chosen!r}: it is {' or '.join(map(repr, _NAMES))}")
    import cloudpickle

    return cloudpickle


def _dill() -> Any:
    try:
        import dill
    except ImportError:
        raise ModuleNotFoundError(
            "the serializer dill is asked for but not installed: `pip install dill` here and where tasks run"
        ) from None
    return dill


def _options() -> dict[str, Any]:
    # Without `recurse` dill takes all globals of a function's module along.
    return {"protocol": 5, "recurse": True} if _chosen == "dill" else {"protocol": 5}


def dump_code(value: Any) -> bytes:
    """A function that travels by value."""
    return _package().dumps(value, **_options())


def pickler_class(override: Callable) -> Any:
    """A pickler that asks `override(object, substitute, consumed)` first."""
    known = _classes.get((_chosen, override))
    if known is None:
        known = _classes[_chosen, override] = _make(getattr(_package(), "CloudPickler", None) or _package().Pickler, override)
    return known


def _make(base: Any, override: Callable) -> Any:
    class GeneralPickler(base):
        def __init__(self, file: io.BytesIO, buffer_callback: Any, substitute: Any, consumed: Any) -> None:
            super().__init__(file, buffer_callback=buffer_callback, **_options())
            self._substitute = substitute
            self._consumed = consumed

        def reducer_override(self, obj: Any) -> Any:
            reduced = override(obj, self._substitute, self._consumed)
            if reduced is not NotImplemented:
                return reduced
            general = getattr(super(), "reducer_override", None)
            return NotImplemented if general is None else general(obj)

    return GeneralPickler
