"""A logger that writes to standard output."""

from __future__ import annotations

import logging
import sys


def create_logger() -> logging.Logger:
    """The logger of test programs: level debug, to standard output. Always the same."""
    logger = logging.getLogger("pycompss.tests")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    return logger


__all__ = ["create_logger"]
