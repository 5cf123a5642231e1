"""start() and stop() for notebooks."""

from __future__ import annotations

from typing import Any

import shoal


def start(**_options: Any) -> None:
    """Connects to the agent of SHOAL_SOCKET. Options for COMPSs's own runtime are accepted and have no effect."""
    if shoal.session() is None:
        shoal.connect()


def stop(sync: bool = False, **_options: Any) -> None:
    """Ends the application. Results are fetched with compss_wait_on before."""
    del sync
    shoal.disconnect()
