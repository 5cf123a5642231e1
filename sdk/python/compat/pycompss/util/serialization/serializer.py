"""Objects to files and back."""

from __future__ import annotations

from typing import Any

from shoal import _serialize


def serialize_to_file(obj: Any, file_name: str, logger: Any = None) -> None:
    """Writes `obj` to a file; says so to `logger` at level debug."""
    if logger is not None:
        logger.debug("writing a %s to %s", type(obj).__qualname__, file_name)
    with open(file_name, "wb") as file:
        for part in _serialize.dumps(obj).parts:
            file.write(part)


def deserialize_from_file(file_name: str, logger: Any = None) -> Any:
    """Reads what serialize_to_file wrote."""
    if logger is not None:
        logger.debug("reading %s", file_name)
    with open(file_name, "rb") as file:
        return _serialize.loads(bytearray(file.read()))


def serialize_to_bytes(obj: Any, logger: Any = None) -> bytes:
    """`obj` as bytes."""
    del logger
    return _serialize.dumps(obj).join()


def deserialize_from_bytes(data: bytes, logger: Any = None) -> Any:
    """The object that serialize_to_bytes made bytes of."""
    del logger
    return _serialize.loads(bytearray(data))
