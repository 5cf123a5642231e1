"""@ompss: OmpSs programs as tasks, where the program is installed."""

from shoal._programs import ompss

OmpSs = Ompss = ompss

__all__ = ["OmpSs", "Ompss", "ompss"]
