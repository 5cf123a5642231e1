"""@implement: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

implement = not_supported("implement", "alternative implementations of a task")
Implement = implement

__all__ = ["Implement", "implement"]
