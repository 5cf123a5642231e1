"""What a program says of itself when it connects to its agent."""

from __future__ import annotations

import os
import sys

from shoal import _environment

NO_CHECKPOINT: list = ["", "", []]


def python_path() -> list[str]:
    """Entries of sys.path that an executor of the same interpreter would not have by itself."""
    prefixes = tuple(os.path.realpath(prefix) + "/lib" for prefix in {sys.prefix, sys.base_prefix})
    entries = (os.path.realpath(entry or os.getcwd()) for entry in sys.path)
    own = (entry for entry in entries if not entry.startswith(prefixes) and not _environment.is_inside(entry))
    return list(dict.fromkeys(entry for entry in own if os.path.isdir(entry)))


def checkpoint() -> list:
    """Folder, policy, and functions whose results are not saved, as `shoal run --checkpoint` set them."""
    folder = os.environ.get("SHOAL_CHECKPOINT", "")
    avoid = os.environ.get("SHOAL_CHECKPOINT_AVOID", "")
    return [
        os.path.abspath(folder) if folder else "",
        os.environ.get("SHOAL_CHECKPOINT_POLICY", ""),
        [name.strip() for name in avoid.split(",") if name.strip()],
    ]
