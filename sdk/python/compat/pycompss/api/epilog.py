"""@epilog: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

epilog = not_supported("epilog", "commands after a task")
Epilog = epilog

__all__ = ["Epilog", "epilog"]
