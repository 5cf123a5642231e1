"""The hot path in C (native/native.c), where it was built for this interpreter: `native` is the module, or None.

Everything works without it, slower. SHOAL_NATIVE=0 leaves it out, for tests and for comparison.
"""

from __future__ import annotations

import os
from typing import Any

_REVISION = 2  # of native/module.c: one that was built for another SDK does not fit

native: Any = None
if os.environ.get("SHOAL_NATIVE") != "0":
    try:
        import _shoal_native as native
    except ImportError:
        native = None
    if native is not None and getattr(native, "REVISION", 1) != _REVISION:
        native = None
