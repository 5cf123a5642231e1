"""All names that describe parameters."""

from shoal.parameter import *
from shoal.parameter import __all__ as __all__
