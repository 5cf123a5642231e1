"""@local."""

from shoal import local

Local = local

__all__ = ["Local", "local"]
