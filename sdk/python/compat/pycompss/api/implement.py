"""@implement."""

from shoal import implement

Implement = implement

__all__ = ["Implement", "implement"]
