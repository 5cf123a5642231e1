"""@on_failure."""

from shoal import on_failure

OnFailure = onFailure = On_failure = on_failure

__all__ = ["OnFailure", "On_failure", "onFailure", "on_failure"]
