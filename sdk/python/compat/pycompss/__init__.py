"""The `pycompss` interface over Shoal: programs written for PyCOMPSs run unchanged."""

__shoal_compatibility__ = True
