"""What happens to a call of a task before it is submitted: @reduction, @implement; @data_transformation is its own file.

A step gets the call and the rest of the way, and calls the rest as often as it needs: once with other arguments, many
times for a tree, or not at all.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from shoal import _journal, _options, _runtime
from shoal._protocol import Direction
from shoal.errors import ShoalError
from shoal.parameter import TYPE

_AGENTS_FRESH_S = 5.0
_DURATIONS_FRESH_S = 0.5
_ROWS_MAX = 200


class Step(Protocol):
    """One thing that a decorator does to calls."""

    def check(self, task: Any) -> None:
        """TypeError or ValueError, naming the task, when it cannot be applied to it."""

    def call(self, task: Any, args: tuple, kwargs: dict, onward: Callable) -> Any:
        """Does its part of the call; `onward(*args, **kwargs)` is the rest."""


def run(task: Any, args: tuple, kwargs: dict) -> Any:
    """The call of a task that has steps."""
    onward: Callable = task.bare()
    for step in reversed(task._steps):
        onward = _bound(step, task, onward)
    return onward(*args, **kwargs)


def _bound(step: Step, task: Any, onward: Callable) -> Callable:
    return lambda *args, **kwargs: step.call(task, args, kwargs, onward)


class Reduction:
    """A call with a collection becomes a tree of calls with `chunk_size` elements each."""

    def __init__(self, chunk_size: Any) -> None:
        self.chunk_size = chunk_size
        _options.mention(chunk_size)

    def check(self, task: Any) -> None:
        """There must be exactly one collection that is read, and one result."""
        collections = self._collections(task)
        if len(collections) > 1:
            raise TypeError(f"@reduction of {task.name}: exactly one parameter may be a COLLECTION_IN; there are {collections}")
        if not collections and not task.signature.names and not task.signature.varargs:
            raise TypeError(f"@reduction of {task.name}: the task has no parameter to reduce")

    @staticmethod
    def _collections(task: Any) -> list[str]:
        kinds = (TYPE.COLLECTION, TYPE.COLLECTION_FILE)
        read = (Direction.IN, Direction.IN_DELETE)
        return [name for name, p in task.parameters.items() if p.content in kinds and p.direction in read]

    def _chunk(self, task: Any) -> int:
        scope = getattr(task.function, "__globals__", {})
        return _options.whole_number(self.chunk_size or 0, scope, f"@reduction of {task.name}: chunk_size")

    def call(self, task: Any, args: tuple, kwargs: dict, onward: Callable) -> Any:
        """The tree. A collection that is not here yet, or small enough, is one call."""
        size = self._chunk(task)
        key, items = self._operand(task, args, kwargs)
        if size < 2 or items is None or len(items) <= size:
            return onward(*args, **kwargs)

        def reduce(part: list) -> Any:
            if isinstance(key, int):
                return onward(*args[:key], part, *args[key + 1 :], **kwargs)
            return onward(*args, **{**kwargs, key: part})

        level = list(items)
        while len(level) > size:
            chunks = [level[start : start + size] for start in range(0, len(level), size)]
            level = [chunk[0] if len(chunk) == 1 else reduce(chunk) for chunk in chunks]
        return reduce(level)

    def _operand(self, task: Any, args: tuple, kwargs: dict) -> tuple[Any, list | tuple | None]:
        """Where the collection is in the call: position or keyword; None when it is not a list or tuple."""
        names = task.signature.names
        declared = self._collections(task)
        candidates = declared or [name for name in names if name != "self"]
        for name in candidates:
            position = names.index(name) if name in names else -1
            value = args[position] if 0 <= position < len(args) else kwargs.get(name)
            if isinstance(value, (list, tuple)):
                return (position if 0 <= position < len(args) else name), value
        return 0, None


# ---- @implement ----
# Alternatives by the full name of the task they stand in for; its own module may be imported later.
_alternatives: dict[str, list[Any]] = {}


def register_alternative(core: str, alternative: Any) -> None:
    """@implement: `alternative` may run instead of the task named `core`. TypeError when their parameters differ."""
    module, _, name = core.rpartition(".")
    main = sys.modules.get("__main__")
    if alternative.function.__module__ == "__main__" and _names_main(module, main):
        core = f"__main__.{name}"
    known = _alternatives.setdefault(core, [])
    known[:] = [other for other in known if other.name != alternative.name] + [alternative]
    found = _find_task(core)
    if found is not None:
        join(found)


def _names_main(module: str, main: Any) -> bool:
    import os

    file = getattr(main, "__file__", None) or ""
    return module == "__main__" or module.rpartition(".")[2] == os.path.splitext(os.path.basename(file))[0]


def _find_task(name: str) -> Any:
    from shoal._task import Task

    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:cut]))
        for part in parts[cut:]:
            found = getattr(found, part, None)
        if isinstance(found, Task):
            return found
    return None


def join(task: Any) -> None:
    """Gives a task the alternatives that are registered for it."""
    alternatives = _alternatives.get(task.name)
    if not alternatives:
        return
    for alternative in alternatives:
        if alternative.signature.all_names() != task.signature.all_names():
            raise TypeError(
                f"@implement: {alternative.name} has other parameters ({', '.join(alternative.signature.all_names())}) than "
                f"{task.name} ({', '.join(task.signature.all_names())}), which it is to stand in for"
            )
    for step in task._steps:
        if isinstance(step, Alternatives):
            step.others = alternatives
            return
    task._steps = (*task._steps, Alternatives(alternatives))
    task._changed()


class Alternatives:
    """A call goes to the implementation that an agent can run and that was the fastest so far."""

    def __init__(self, others: list[Any]) -> None:
        self.others = others
        self._calls: dict[str, int] = {}
        self._turn = itertools.count()

    def __reduce__(self) -> Any:
        return Alternatives, (self.others,)

    def check(self, task: Any) -> None:
        """Nothing: join() compares the parameters."""

    def call(self, task: Any, args: tuple, kwargs: dict, onward: Callable) -> Any:
        """One call, by one of the implementations."""
        session = _runtime.attach()
        if session is None:
            return onward(*args, **kwargs)
        chosen = self._choose(task, session)
        if _runtime.attempt is None:
            # Durations are not the same in every run, and a program that runs again must make the same calls.
            name = _journal.journal_of(session).value(f"implement:{task.name}", lambda: chosen.name, wait=False)
            chosen = next((one for one in (task, *self.others) if one.name == name), chosen)
        self._calls[chosen.name] = self._calls.get(chosen.name, 0) + 1
        return onward(*args, **kwargs) if chosen is task else chosen.bare()(*args, **kwargs)

    def _choose(self, task: Any, session: Any) -> Any:
        knowledge = _knowledge_of(session)
        candidates = [one for one in (task, *self.others) if knowledge.can_run(one)] or [task, *self.others]
        if len(candidates) == 1:
            return candidates[0]
        means = knowledge.durations()
        unknown = [one for one in candidates if one.name not in means]
        if unknown:  # each is tried, in turn; meanwhile those that were measured take their turns, too
            return min(candidates, key=lambda one: self._calls.get(one.name, 0))
        return min(candidates, key=lambda one: means[one.name])


class _Knowledge:
    """What a session's agent knows about places and durations, asked now and then."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._agents: list[dict] | None = None
        self._agents_at = -_AGENTS_FRESH_S
        self._means: dict[str, float] = {}
        self._means_at = -_DURATIONS_FRESH_S
        self._means_tasks = -1

    def can_run(self, task: Any) -> bool:
        """False if no agent known here has the computing units and labels that the task asks for."""
        now = time.monotonic()
        if now - self._agents_at > _AGENTS_FRESH_S:
            self._agents_at = now
            answer = self._ask("agent.agents", {})
            self._agents = None if answer is None else answer.get("agents", [])
        if not self._agents:
            return True
        fixed, dynamic = _options.resolve_static(task.constraints, task.signature.all_names())
        units = int(float(fixed.get("computing_units", 1))) if "computing_units" not in dynamic else 1
        labels = {key[len("label.") :]: value for key, value in fixed.items() if key.startswith("label.")}
        return any(_fits(agent, units, labels) for agent in self._agents)

    def durations(self) -> dict[str, float]:
        """Mean run time of the app's tasks that are done, by the name of their function."""
        now = time.monotonic()
        if now - self._means_at > _DURATIONS_FRESH_S and self._session.tasks != self._means_tasks:
            self._means_tasks = self._session.tasks
            answer = self._ask("app.tasks", {"app": self._session.app.hex(), "state": "done", "limit": _ROWS_MAX})
            self._means_at = time.monotonic()
            times: dict[str, list[int]] = {}
            for row in (answer or {}).get("tasks", []):
                times.setdefault(row.get("function", ""), []).append(row.get("run_us", 0))
            self._means.update({name: sum(values) / len(values) for name, values in times.items()})
        return self._means

    def _ask(self, method: str, params: dict) -> Any:
        try:
            return self._session.request(method, params)
        except ShoalError:
            return None  # an agent that does not tell: nothing is known


def _fits(agent: dict, units: int, labels: dict[str, str]) -> bool:
    has = agent.get("computing_units")
    if has is None:
        return True  # the head of a region of its own: what lies below is not known here
    own = agent.get("labels") or {}
    return int(has) >= max(units, 1) and all(own.get(key) == value for key, value in labels.items())


def _knowledge_of(session: Any) -> _Knowledge:
    if session.knowledge is None:
        session.knowledge = _Knowledge(session)
    return session.knowledge


__all__ = ["Alternatives", "Reduction", "Step", "join", "register_alternative", "run"]
