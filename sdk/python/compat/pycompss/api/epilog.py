"""@epilog."""

from shoal import epilog

Epilog = epilog

__all__ = ["Epilog", "epilog"]
