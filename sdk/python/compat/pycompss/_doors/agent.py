"""`compss_agent_start`, `compss_agent_call_operation`, `compss_agent_add_resources` and their kin.

An agent started here has a home directory of its own below COMPSS_AGENT_HOME (default: ~/.local/state/shoal-agents), named
after its REST port. The first one founds a realm, further ones on this machine join it, so they share work at once.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable

from pycompss._doors import shoal_command
from pycompss._doors.options import Parsed, UsageError, parse, say_without_meaning

DEFAULT_PORT = "46101"
_START = frozenset(
    """hostname rest_port comm_port comm project resources pythonpath classpath python_interpreter log_dir log_level debug
    scheduler reuse_resources_on_block python_mpi_worker python_worker_cache python_propagate_virtual_environment jvm_opts
    tracing summary input_profile output_profile library_path appdir conn""".split()
)
_CALL = frozenset("master_node master_port lang method_name cei array stop forward_to parameters_array".split())
_RESOURCES = frozenset(
    """agent_node agent_port comm cpu gpu fpga other mem_type mem_size os_type os_distr os_version software queues""".split()
)


def start(words: list[str] | None = None) -> int:
    """compss_agent_start: runs an agent until it is stopped; its exit code."""
    return _guarded("compss_agent_start", words, _START, _start)


def call_operation(words: list[str] | None = None) -> int:
    """compss_agent_call_operation: starts an application at an agent and prints its id."""
    return _guarded("compss_agent_call_operation", words, _CALL, _call)


def add_resources(words: list[str] | None = None) -> int:
    """compss_agent_add_resources: agents of a region share work by themselves; says whether the named one is there."""
    return _guarded("compss_agent_add_resources", words, _RESOURCES, _add)


def reduce_resources(words: list[str] | None = None) -> int:
    """compss_agent_reduce_resources: says how an agent takes itself away."""
    return _guarded("compss_agent_reduce_resources", words, _RESOURCES, _reduce)


def lost_resources(words: list[str] | None = None) -> int:
    """compss_agent_lost_resources: nothing to do, agents notice by themselves."""
    return _guarded("compss_agent_lost_resources", words, _RESOURCES, _lost)


def _guarded(command: str, words: list[str] | None, known: frozenset[str], action: Callable[[str, Parsed], int]) -> int:
    try:
        parsed = parse(command, sys.argv[1:] if words is None else words, known)
        if parsed.has("help"):
            print(f"usage: {command} [OPTIONS] …; options: {', '.join(f'--{name}' for name in sorted(known))}")
            return 0
        return action(command, parsed)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2


def home_of(port: str) -> str:
    """The home directory of the agent with this REST port."""
    base = os.environ.get("COMPSS_AGENT_HOME") or os.path.expanduser("~/.local/state/shoal-agents")
    return os.path.join(base, port)


def _start(command: str, parsed: Parsed) -> int:
    name = parsed.get("hostname")
    if not name:
        raise UsageError(f"{command}: --hostname=NAME is needed")
    meaningful = {"hostname", "rest_port", "comm_port", "python_interpreter", "pythonpath"}
    say_without_meaning(command, parsed, meaningful)
    port = parsed.get("rest_port") or DEFAULT_PORT
    home = home_of(port)
    os.makedirs(home, exist_ok=True)
    listen = f"{_address(name)}:{parsed.get('comm_port') or 0}"
    label = name if not _is_local(name) else f"{socket.gethostname().split('.')[0]}-{port}"
    if not os.path.isdir(os.path.join(home, "realm")):
        other = _running_neighbour(port)
        if other is not None:
            token = shoal_command.output(other, "token", "create")
            joined = shoal_command.run(home, "join", token, "--name", label)
            if joined != 0:
                return joined
    settings = ["--name", label, "--http", f"{_address(name)}:{port}", "--listen", listen]
    if parsed.get("python_interpreter"):
        settings += ["--python", parsed.get("python_interpreter")]
    if parsed.get("pythonpath"):
        os.environ["PYTHONPATH"] = os.pathsep.join([parsed.get("pythonpath"), os.environ.get("PYTHONPATH", "")]).strip(
            os.pathsep
        )
    sys.stdout.flush()
    words = shoal_command.command(home, "up", "--foreground", *settings)
    os.execv(words[0], words)


def _address(name: str) -> str:
    return "127.0.0.1" if name in ("localhost", "127.0.0.1") else name


def _is_local(name: str) -> bool:
    return name in ("localhost", "127.0.0.1", "::1")


def _running_neighbour(port: str) -> str | None:
    """The home of another agent that was started here and answers."""
    base = os.path.dirname(home_of(port))
    for entry in sorted(os.listdir(base)) if os.path.isdir(base) else ():
        home = os.path.join(base, entry)
        ready = os.path.exists(os.path.join(home, "run", "ready"))
        if entry != port and ready and shoal_command.answers(home):
            return home
    return None


def _agent(parsed: Parsed, node: str, port: str) -> str:
    """The home of the agent that a command is for. UsageError when it is not on this machine."""
    host = parsed.get(node) or "127.0.0.1"
    home = home_of(parsed.get(port) or DEFAULT_PORT)
    if not (_is_local(host) or host == socket.gethostname()) and not os.path.isdir(home):
        raise UsageError(f"the agent of {host} is not on this machine: run the command there, or `shoal --agent NAME submit`")
    if not os.path.isdir(home):
        raise UsageError(f"no agent with port {os.path.basename(home)} was started here (compss_agent_start --rest_port=…)")
    return home


def _call(command: str, parsed: Parsed) -> int:
    if parsed.get("lang", "PYTHON").upper() not in ("PYTHON", ""):
        raise UsageError(f"{command}: --lang={parsed.get('lang')}: only Python programs run here")
    if not parsed.rest:
        raise UsageError(f"usage: {command} [OPTIONS] PROGRAM.py|MODULE [ARGUMENTS]")
    say_without_meaning(command, parsed, {"master_node", "master_port", "lang", "method_name", "stop", "forward_to"})
    home = _agent(parsed, "master_node", "master_port")
    application, arguments = parsed.rest[0], parsed.rest[1:]
    method = parsed.get("method_name")
    if not method and os.path.isfile(application):
        words = [application, *arguments]
    else:
        door = os.path.join(os.path.dirname(os.path.abspath(__file__)), "call.py")
        words = [door, application, method or "main", *arguments]
    stop = parsed.has("stop")
    app = shoal_command.output(home, "submit", *words)
    print(app)
    sys.stdout.flush()
    if not stop:
        return 0
    code = subprocess.run(shoal_command.command(home, "attach", app), stdout=subprocess.DEVNULL, check=False).returncode
    homes = [home]
    for target in filter(None, parsed.get("forward_to").split(";")):
        homes.append(home_of(target.rpartition(":")[2]))
    for each in homes:
        shoal_command.run(each, "down")
    return code


def _add(command: str, parsed: Parsed) -> int:
    if not parsed.rest:
        raise UsageError(f"usage: {command} [OPTIONS] AGENT [Port=PORT]")
    say_without_meaning(command, parsed, {"agent_node", "agent_port"})
    home = _agent(parsed, "agent_node", "agent_port")
    ports = [word.partition("=")[2] for word in parsed.rest[1:] if word.lower().startswith("port=")]
    agents = shoal_command.as_json(home, "agents")
    names = {row.get("name") for row in (agents.get("agents", []) if isinstance(agents, dict) else agents)}
    wanted = {parsed.rest[0], *(f"{socket.gethostname().split('.')[0]}-{port}" for port in ports)}
    if names & wanted:
        print(f"{command}: {sorted(names & wanted)[0]} is in the region already and shares its work", file=sys.stderr)
        return 0
    print(
        f"{command}: {parsed.rest[0]} is not in the region ({', '.join(sorted(map(str, names)))}). Let it join: "
        "`shoal token create` here, `shoal join TOKEN` there",
        file=sys.stderr,
    )
    return 1


def _reduce(command: str, parsed: Parsed) -> int:
    name = parsed.rest[0] if parsed.rest else "the agent"
    print(f"{command}: {name} takes itself away with `shoal leave`, run there; its tasks go elsewhere", file=sys.stderr)
    return 1


def _lost(command: str, parsed: Parsed) -> int:
    del parsed
    print(f"{command}: nothing to do; agents notice by themselves, and run again what was lost", file=sys.stderr)
    return 0
