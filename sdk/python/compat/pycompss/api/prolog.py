"""@prolog."""

from shoal import prolog

Prolog = prolog

__all__ = ["Prolog", "prolog"]
