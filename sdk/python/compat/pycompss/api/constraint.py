"""@constraint."""

from shoal import constraint

Constraint = constraint

__all__ = ["Constraint", "constraint"]
