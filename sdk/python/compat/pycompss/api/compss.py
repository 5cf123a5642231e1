"""@compss: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

compss = not_supported("compss", "nested COMPSs applications")
COMPSs = Compss = compss

__all__ = ["COMPSs", "Compss", "compss"]
