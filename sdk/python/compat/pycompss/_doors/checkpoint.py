"""COMPSs's checkpoint options as Shoal's: where, when, and what not."""

from __future__ import annotations

import os
import re

from pycompss._doors.options import Parsed, UsageError

_POLICIES = ("NoCheckpoint", "PeriodicTime", "FinishedTasks", "InstantiatedGroup")
_PARAMETERS = {"period.time": "15", "finished.tasks": "3", "instantiated.group": "3", "avoid.checkpoint": ""}


def environment(parsed: Parsed) -> dict[str, str]:
    """What the program finds in its environment; nothing when no checkpoint is asked for. UsageError."""
    policy = _policy(parsed.get("checkpoint"))
    parameters = _parameters(parsed.get("checkpoint_params"))
    folder = parsed.get("checkpoint_folder")
    if not folder:
        if policy == "NoCheckpoint":
            return {}
        folder = "checkpoint"
    # Without a policy a folder is read, and written by compss_snapshot() only.
    when = {
        "NoCheckpoint": "snapshot",
        "PeriodicTime": f"time:{parameters['period.time']}",
        "FinishedTasks": f"finished:{parameters['finished.tasks']}",
        "InstantiatedGroup": f"group:{parameters['instantiated.group']}",
    }[policy]
    return {
        "SHOAL_CHECKPOINT": os.path.abspath(folder),
        "SHOAL_CHECKPOINT_POLICY": when,
        "SHOAL_CHECKPOINT_AVOID": parameters["avoid.checkpoint"],
        "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0"),  # sets in the same order in every run
    }


def _policy(said: str) -> str:
    """Its plain name: COMPSs's are names of Java classes."""
    name = said.rpartition(".")[2].removeprefix("CheckpointPolicy") or "NoCheckpoint"
    for policy in _POLICIES:
        if name.lower() == policy.lower():
            return policy
    raise UsageError(f"--checkpoint={said}: the policies are {', '.join(_POLICIES)}")


def _parameters(said: str) -> dict[str, str]:
    found = dict(_PARAMETERS)
    for part in re.findall(r"[^,\[]+(?:\[[^\]]*\])?", said):
        name, colon, value = part.strip().partition(":")
        value = value.strip()
        if name not in _PARAMETERS or not colon:
            raise UsageError(f"--checkpoint_params: {part!r} is none of {', '.join(f'{name}:…' for name in _PARAMETERS)}")
        if name == "avoid.checkpoint":
            value = ",".join(word.strip() for word in value.strip("[]").split(",") if word.strip())
        elif not re.fullmatch(r"0*[1-9][0-9]*(ms|s|m|h)?" if name == "period.time" else r"0*[1-9][0-9]*", value):
            raise UsageError(f"--checkpoint_params: {name}:{value} is not a number above 0")
        found[name] = value
    return found
