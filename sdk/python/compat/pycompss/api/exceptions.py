"""COMPSsException."""

from shoal import COMPSsException

__all__ = ["COMPSsException"]
