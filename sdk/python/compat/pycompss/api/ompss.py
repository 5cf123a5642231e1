"""@ompss: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

ompss = not_supported("ompss", "OmpSs programs as tasks")
OmpSs = ompss

__all__ = ["OmpSs", "ompss"]
