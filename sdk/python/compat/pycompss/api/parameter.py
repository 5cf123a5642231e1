"""All names that describe parameters."""

from shoal.parameter import *  # noqa: F403
from shoal.parameter import __all__ as __all__
