"""Future, under the name that programs check values against."""

from shoal import Future

__all__ = ["Future"]
