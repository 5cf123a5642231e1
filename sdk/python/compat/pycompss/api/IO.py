"""@IO: such a task runs like any other."""

from shoal import io_task as IO

io = Io = IO

__all__ = ["IO", "Io", "io"]
