"""OT: which objects of the program tasks write."""

from __future__ import annotations

from typing import Any

from shoal import Future, _runtime


class ObjectTracker:
    """What the session knows about objects. Without an agent nothing is tracked."""

    def is_tracked(self, obj: Any) -> Any:
        """The identifier of an object that a task writes, or of a future; None for others."""
        session = _runtime.current
        if type(obj) is Future:
            return f"{obj._datum}"
        entry = session.tracked(obj) if session is not None else None
        return None if entry is None else f"{entry.datum}"

    def get_object_id(self, obj: Any) -> str:
        """The identifier of an object that a task writes, or of a future; empty for others."""
        return self.is_tracked(obj) or ""

    @property
    def pending_to_synchronize(self) -> set[str]:
        """Identifiers of the objects that tasks write."""
        session = _runtime.current
        return set() if session is None else {str(entry.datum) for entry in session.tracked_entries()}

    def is_obj_to_synchronize(self, obj: Any) -> bool:
        """True when compss_wait_on would have to fetch it."""
        return self.is_tracked(obj) is not None and not (type(obj) is Future and obj._final)

    is_pending_to_synchronize = is_obj_to_synchronize

    def stop_tracking(self, obj: Any, collection: bool = False) -> None:
        """Forgets an object; its value stays what the program has."""
        del collection
        if _runtime.current is not None and type(obj) is not Future:
            _runtime.current.untrack(obj)

    def clean_object_tracker(self, hard_stop: bool = False) -> None:
        """Nothing to do: the session's end forgets all."""
        del hard_stop


OT = ObjectTracker()

__all__ = ["OT", "ObjectTracker"]
