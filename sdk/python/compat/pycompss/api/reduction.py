"""@reduction."""

from shoal import reduction

Reduction = reduction

__all__ = ["Reduction", "reduction"]
