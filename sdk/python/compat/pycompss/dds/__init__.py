"""Distributed data sets: `DDS().load(range(100), 10).map(f).filter(g).reduce_by_key(h).collect()`, run by tasks."""

from pycompss.dds.dds import DDS

__all__ = ["DDS"]
