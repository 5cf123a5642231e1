"""@IO: such a task takes no computing unit."""

from shoal import io_task as IO

io = Io = IO

__all__ = ["IO", "Io", "io"]
