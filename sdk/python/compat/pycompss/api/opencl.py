"""@opencl: OpenCL kernels as tasks, where pyopencl is installed."""

from shoal._programs import opencl

OpenCL = Opencl = opencl

__all__ = ["OpenCL", "Opencl", "opencl"]
