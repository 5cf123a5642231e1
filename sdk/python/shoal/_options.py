"""TaskOptions: what a task asks of the place that runs it, gathered from `@task`, `@constraint`, `@on_failure`, `@binary`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from typing import Any

from shoal._environment import NONE as NO_ENVIRONMENT
from shoal._future import Future
from shoal._protocol import OnFailure
from shoal.errors import nearest

CONSTRAINT_KEYS = frozenset(
    [
        "app_software", "computing_units", "host_queues", "is_local", "labels", "memory_size", "memory_type",
        "operating_system_distribution", "operating_system_type", "operating_system_version", "processor_architecture",
        "processor_internal_memory_size", "processor_name", "processor_property_name", "processor_property_value",
        "processor_speed", "processor_type", "processors", "python_version", "storage_bandwidth", "storage_size",
        "storage_type", "wall_clock_limit",
    ]
)  # fmt: skip
_DYNAMIC = frozenset({"computing_units", "memory_size", "storage_size"})
_PROCESSOR_KEYS = {
    "processortype": "processor_type",
    "computingunits": "computing_units",
    "name": "processor_name",
    "speed": "processor_speed",
    "architecture": "processor_architecture",
    "propertyname": "processor_property_name",
    "propertyvalue": "processor_property_value",
    "internalmemorysize": "processor_internal_memory_size",
}
_ENVIRONMENT = re.compile(r"^\$(?:\{(\w+)\}|(\w+))$")
DEFAULT_RETRIES = 3

# Environment variables that decorators of this program name, and, inside a task, the values they have in the main program:
# they are what it meant, wherever the task runs.
_mentioned: set[str] = set()
inherited: dict[str, str] = {}


@dataclass(frozen=True)
class Options:
    """Mirror of client::TaskOptions."""

    constraints: dict[str, str] = field(default_factory=dict)
    on_failure: OnFailure = OnFailure.RETRY
    retries: int = DEFAULT_RETRIES
    timeout_ms: int = 0
    priority: bool = False
    streams: bool = False
    command: tuple[str, ...] = ()
    working_dir: str = ""
    fail_by_exit_value: bool = True
    is_replicated: bool = False
    is_distributed: bool = False
    environment: bytes = NO_ENVIRONMENT

    def message(self) -> list:
        """The fields in protocol order."""
        return [
            self.constraints, int(self.on_failure), self.retries, self.timeout_ms, self.priority, self.streams,
            list(self.command), self.working_dir, self.fail_by_exit_value, self.is_replicated, self.is_distributed,
            self.environment,
        ]  # fmt: skip

    def changed(self, **changes: Any) -> Options:
        """A copy with some fields replaced."""
        return replace(self, **changes)


def parse_on_failure(management: Any, where: str) -> OnFailure:
    """The policy that a program names. ValueError for an unknown one."""
    try:
        return OnFailure[str(management).upper()]
    except KeyError:
        names = [policy.name for policy in OnFailure]
        hint = nearest(management, names)
        raise ValueError(f"{where}: unknown failure policy {management!r}{hint}; known: {', '.join(names)}") from None


def check_constraints(given: dict[str, Any]) -> dict[str, Any]:
    """`given` with aliases replaced and `processors` unfolded. TypeError for an unknown key."""
    checked: dict[str, Any] = {}
    for name, value in given.items():
        key = _snake_case(name)
        if key not in CONSTRAINT_KEYS:
            hint = nearest(name, CONSTRAINT_KEYS)
            raise TypeError(f"@constraint has no key {name!r}{hint}; known: {', '.join(sorted(CONSTRAINT_KEYS))}")
        if key == "is_local" and not isinstance(value, bool):
            raise TypeError("@constraint: is_local must be True or False")
        if key == "processors":
            checked.update(_unfold_processors(value))
        elif key == "labels":
            if not isinstance(value, dict):
                raise TypeError(f"@constraint: labels must be a dict, such as {{'gpu': 'yes'}}, not {value!r}")
            checked.update({f"label.{label}": str(text) for label, text in value.items()})
        elif isinstance(value, (list, tuple)):
            checked[key] = ",".join(map(str, value))
        else:
            checked[key] = value
    for value in checked.values():
        mention(value)
    return checked


def _snake_case(name: str) -> str:
    """The legacy spellings: computingUnits and ComputingUnits are computing_units."""
    key = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return "storage_bandwidth" if key == "storage_bw" else key


def _unfold_processors(processors: Any) -> dict[str, Any]:
    """The CPU entry of a `processors` list; other processor types become `processor_type` entries of their own."""
    unfolded: dict[str, Any] = {}
    if not isinstance(processors, (list, tuple)) or not all(isinstance(processor, dict) for processor in processors):
        raise TypeError(f"@constraint: processors must be a list of dicts, not {processors!r}")
    for processor in processors:
        entry = {}
        for name, value in processor.items():
            key = _PROCESSOR_KEYS.get(name.lower().replace("_", ""))
            if key is None:
                raise TypeError(f"@constraint: processors has no key {name!r}")
            entry[key] = value
        kind = str(entry.pop("processor_type", "CPU")).upper()
        if kind == "CPU":
            unfolded.update(entry)
        else:
            unfolded.update({f"{kind.lower()}.{key}": value for key, value in entry.items()})
    return unfolded


def resolve_static(constraints: dict[str, Any], parameters: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """(values that are known now, expressions to be evaluated at each call); `parameters` are those of the task."""
    fixed: dict[str, str] = {}
    dynamic: dict[str, str] = {}
    for key, value in constraints.items():
        if key == "is_local" and not value:
            continue  # what every task is without being asked
        if isinstance(value, bool):
            fixed[key] = "true" if value else "false"
        elif isinstance(value, str) and (value in parameters or _is_expression(key, value)):
            dynamic[key] = value
        else:
            fixed[key] = environment_value(str(value), f"@constraint: {key}")
    return fixed, dynamic


def _is_expression(key: str, text: str) -> bool:
    """True for what is to be computed at each call: numeric keys whose text is neither a number nor a variable."""
    return key in _DYNAMIC and not _ENVIRONMENT.match(text) and not _is_number(text)


def evaluate(expressions: dict[str, str], scope: dict[str, Any], values: dict[str, Any], task: str) -> dict[str, str]:
    """Dynamic constraints of one call: globals of the function and arguments of the call are visible."""
    evaluated = {}
    for key, expression in expressions.items():
        names = [name for name, value in values.items() if type(value) is Future and re.search(rf"\b{name}\b", expression)]
        if names:
            raise ValueError(
                f"constraint {key}={expression!r} of task {task} needs the value of {names[0]!r}, which is a future: "
                "call wait_on() on it first"
            )
        try:
            evaluated[key] = str(eval(expression, scope, values))
        except Exception as error:
            raise ValueError(f"constraint {key}={expression!r} of task {task} cannot be evaluated: {error}") from error
    return evaluated


def mention(value: Any) -> None:
    """Notes that a decorator names an environment variable, if it does: tasks that call tasks will need its value."""
    match = _ENVIRONMENT.match(value) if isinstance(value, str) else None
    if match is not None:
        _mentioned.add(match.group(1) or match.group(2))


def mentioned_environment() -> dict[str, str]:
    """The variables that decorators name, with their values."""
    values = {name: inherited.get(name, os.environ.get(name)) for name in sorted(_mentioned)}
    return {name: value for name, value in values.items() if value is not None}


def environment_value(text: str, where: str) -> str:
    """`text`, or the environment variable it names. ValueError when that is not set."""
    match = _ENVIRONMENT.match(text)
    if match is None:
        return text
    variable = match.group(1) or match.group(2)
    value = inherited.get(variable, os.environ.get(variable))
    if value is None:
        raise ValueError(f"{where} refers to the environment variable {variable}, which is not set")
    return value


def whole_number(given: Any, scope: dict[str, Any], where: str) -> int:
    """A whole number that a program gives as such, as text, as "$VARIABLE", or by the name of a global in `scope`."""
    value = given
    if isinstance(given, str):
        value = environment_value(given.strip(), where)
        if value.isidentifier():
            if value not in scope:
                raise ValueError(f"{where}={given!r} is neither a number nor a global of the function's module")
            value = scope[value]
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{where}={given!r} is not a whole number") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
