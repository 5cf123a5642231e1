"""@binary."""

from shoal import binary

Binary = binary

__all__ = ["Binary", "binary"]
