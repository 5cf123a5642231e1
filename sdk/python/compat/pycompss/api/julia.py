"""@julia: Julia scripts as tasks, where Julia is installed."""

from shoal._programs import julia

Julia = julia

__all__ = ["Julia", "julia"]
