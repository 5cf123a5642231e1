"""@decaf: Decaf workflows as tasks, where an MPI launcher and the workflow's scripts are installed."""

from shoal._programs import decaf

Decaf = decaf

__all__ = ["Decaf", "decaf"]
