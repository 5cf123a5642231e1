"""@on_failure."""

from shoal import on_failure

OnFailure = onFailure = on_failure

__all__ = ["OnFailure", "onFailure", "on_failure"]
