"""`pycompss COMMAND …`: the command-line client's commands, as far as they have a meaning here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

from pycompss._doors import runcompss, shoal_command

_USAGE = """usage: pycompss COMMAND [ARGUMENTS]

  run [OPTIONS] PROGRAM.py [ARGUMENTS]   run a program
  exec COMMAND [ARGUMENTS]               run any command
  init, environment                      nothing to prepare: says where the agent is
  job submit|status|list|history|cancel  applications: `shoal submit`, `shoal apps`, `shoal cancel`
  components list|add|remove             agents: `shoal agents`, `shoal join`, `shoal leave`
  monitor start|stop                     the address of the agent's pages
  gengraph [APP], gentrace [APP]         `shoal graph`, `shoal timeline`
  jupyter [ARGUMENTS]                    Jupyter with pycompss on its path
  version"""


def main(words: list[str] | None = None) -> int:
    """Runs a command; its exit code."""
    words = sys.argv[1:] if words is None else words
    while words and words[0] in ("-d", "--debug"):
        words = words[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_USAGE, file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    name, rest = words[0], words[1:]
    if name in ("-v", "--version"):
        name = "version"
    handler = _COMMANDS.get(name)
    if handler is not None:
        return handler(rest)
    if name in ("app", "inspect", "install", "dep_check", "tutorial", "gui"):
        print(f"pycompss {name}: there is nothing like it here; programs are files that `pycompss run` runs", file=sys.stderr)
        return 2
    from shoal.errors import nearest

    print(f"pycompss: unknown command {name!r}{nearest(name, _COMMANDS)}\n{_USAGE}", file=sys.stderr)
    return 2


def _run(words: list[str]) -> int:
    return runcompss.main(words, "pycompss run")


def _exec(words: list[str]) -> int:
    if not words:
        print("usage: pycompss exec COMMAND [ARGUMENTS]", file=sys.stderr)
        return 2
    try:
        return subprocess.run(words, check=False).returncode
    except OSError as error:
        print(f"pycompss exec: {words[0]} cannot be run: {error.strerror}", file=sys.stderr)
        return 127


def _environment(words: list[str]) -> int:
    kinds = {"docker", "remote", "cluster"} & set(words)
    if kinds:
        print(f"pycompss: there are no {kinds.pop()} environments here; agents are started with `shoal up`", file=sys.stderr)
        return 2
    if os.environ.get("SHOAL_SOCKET"):
        print(f"local: the agent at {os.environ['SHOAL_SOCKET']}")
    elif shoal_command.answers():
        print("local: the agent of this machine")
    else:
        print("local: no agent; programs run sequentially (`shoal up` starts one)")
    return 0


def _job(words: list[str]) -> int:
    action, rest = (words[0] if words else ""), words[1:]
    if action == "submit":
        from pycompss._doors.options import UsageError, parse, say_without_meaning

        try:
            parsed = parse(
                "pycompss job submit", rest, runcompss.OPTIONS | {"app_name", "exec_time", "num_nodes", "qos", "queue"}
            )
        except UsageError as error:
            print(error, file=sys.stderr)
            return 2
        say_without_meaning("pycompss job submit", parsed, ())
        return shoal_command.run(None, "submit", *parsed.rest)
    if action in ("list", "history"):
        return shoal_command.run(None, "apps")
    if action == "status" and rest:
        return shoal_command.run(None, "tasks", rest[0])
    if action == "cancel" and rest:
        return shoal_command.run(None, "cancel", rest[0])
    print("usage: pycompss job submit PROGRAM | status APP | list | history | cancel APP", file=sys.stderr)
    return 2


def _components(words: list[str]) -> int:
    if not words or words[0] == "list":
        return shoal_command.run(None, "agents")
    how = "`shoal token create` here, `shoal join TOKEN` there" if words[0] == "add" else "`shoal leave` there"
    print(f"pycompss components {words[0]}: agents come and go by themselves: {how}", file=sys.stderr)
    return 2


def _monitor(words: list[str]) -> int:
    if words[:1] == ["stop"]:
        print("the agent's pages end with the agent: `shoal down`")
        return 0
    print(shoal_command.as_json(None, "status").get("http") or "this agent has no pages; start it with --http ADDRESS:PORT")
    return 0


def _picture(command: str) -> Callable[[list[str]], int]:
    return lambda words: shoal_command.run(None, command, *(words or ["last"]))


def _jupyter(words: list[str]) -> int:
    program = shutil.which("jupyter")
    if program is None:
        print("pycompss jupyter: Jupyter is not installed; pip install notebook", file=sys.stderr)
        return 127
    paths = os.pathsep.join([*shoal_command.python_paths(), os.environ.get("PYTHONPATH", "")])
    return subprocess.run([program, *(words or ["notebook"])], env={**os.environ, "PYTHONPATH": paths}, check=False).returncode


def _version(words: list[str]) -> int:
    import shoal

    print(f"pycompss over Shoal {shoal.__version__}")
    return 0


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": _run, "exec": _exec, "init": _environment, "environment": _environment, "env": _environment, "job": _job,
    "components": _components, "monitor": _monitor, "gengraph": _picture("graph"), "gentrace": _picture("timeline"),
    "jupyter": _jupyter, "version": _version,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
