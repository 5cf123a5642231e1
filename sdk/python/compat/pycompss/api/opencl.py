"""@opencl: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

opencl = not_supported("opencl", "OpenCL kernels as tasks")
OpenCL = opencl

__all__ = ["OpenCL", "opencl"]
