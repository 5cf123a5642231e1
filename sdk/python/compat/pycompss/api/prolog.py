"""@prolog: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

prolog = not_supported("prolog", "commands before a task")
Prolog = prolog

__all__ = ["Prolog", "prolog"]
