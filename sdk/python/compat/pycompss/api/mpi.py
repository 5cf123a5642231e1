"""@mpi: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

mpi = not_supported("mpi", "MPI programs as tasks")
Mpi = MPI = mpi

__all__ = ["MPI", "Mpi", "mpi"]
