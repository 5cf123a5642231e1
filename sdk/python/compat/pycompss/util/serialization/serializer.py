"""Objects to files and back."""

from __future__ import annotations

from typing import Any

from shoal import _serialize


def serialize_to_file(obj: Any, file_name: str) -> None:
    """Writes `obj` to a file."""
    with open(file_name, "wb") as file:
        for part in _serialize.dumps(obj).parts:
            file.write(part)


def deserialize_from_file(file_name: str) -> Any:
    """Reads what serialize_to_file wrote."""
    with open(file_name, "rb") as file:
        return _serialize.loads(bytearray(file.read()))
