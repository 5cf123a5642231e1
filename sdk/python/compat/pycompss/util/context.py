"""Where code runs: in the main program, in a task, or without an agent."""

from __future__ import annotations

from shoal import _runtime


class Context:
    """Answers that question. There is one, CONTEXT."""

    def in_master(self) -> bool:
        """True in the main program of an application that has an agent."""
        return _runtime.attempt_session is None and _runtime.attach() is not None

    def in_worker(self) -> bool:
        """True inside a task."""
        return _runtime.attempt_session is not None

    def in_pycompss(self) -> bool:
        """True unless tasks run when they are called."""
        return self.in_worker() or self.in_master()

    def is_nesting_enabled(self) -> bool:
        """True: tasks may call tasks."""
        return True


CONTEXT = Context()
in_master = CONTEXT.in_master
in_worker = CONTEXT.in_worker
in_pycompss = CONTEXT.in_pycompss
is_nesting_enabled = CONTEXT.is_nesting_enabled

__all__ = ["CONTEXT", "in_master", "in_pycompss", "in_worker", "is_nesting_enabled"]
