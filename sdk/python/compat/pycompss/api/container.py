"""@container: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

container = not_supported("container", "tasks in containers")
Container = container

__all__ = ["Container", "container"]
