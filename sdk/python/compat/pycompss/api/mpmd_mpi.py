"""@mpmd_mpi: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

mpmd_mpi = not_supported("mpmd_mpi", "MPMD MPI programs as tasks")
MpmdMPI = mpmd_mpi

__all__ = ["MpmdMPI", "mpmd_mpi"]
