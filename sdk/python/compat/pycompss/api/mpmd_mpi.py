"""@mpmd_mpi: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

mpmd_mpi = not_supported("mpmd_mpi", "MPMD MPI programs as tasks")
MpmdMPI = Mpmd_mpi = MPMD_MPI = mpmd_mpi

__all__ = ["MPMD_MPI", "MpmdMPI", "Mpmd_mpi", "mpmd_mpi"]
