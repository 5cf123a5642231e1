"""@julia: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

julia = not_supported("julia", "Julia scripts as tasks")
Julia = julia

__all__ = ["Julia", "julia"]
