"""`compss_agent_start`, `compss_agent_call_operation`, `compss_agent_add_resources` and their kin.

An agent started here has a home directory of its own below COMPSS_AGENT_HOME (default: ~/.local/state/shoal-agents), named
after its REST port. The first one founds a realm, further ones on this machine join it, so they share work at once.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable

from pycompss._doors import rest, shoal_command
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
    """compss_agent_add_resources: agents of a region share work by themselves; gives tasks again to one that was taken off."""
    return _guarded("compss_agent_add_resources", words, _RESOURCES, _add)


def reduce_resources(words: list[str] | None = None) -> int:
    """compss_agent_reduce_resources: another agent gets no more tasks from this one."""
    return _guarded("compss_agent_reduce_resources", words, _RESOURCES, _reduce)


def lost_resources(words: list[str] | None = None) -> int:
    """compss_agent_lost_resources: the same; what a lost agent had is run elsewhere in any case."""
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
    except rest.RestError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1


def home_of(port: str) -> str:
    """The home directory of the agent with this REST port."""
    base = os.environ.get("COMPSS_AGENT_HOME") or os.path.expanduser("~/.local/state/shoal-agents")
    return os.path.join(base, port)


def _start(command: str, parsed: Parsed) -> int:
    name = parsed.get("hostname")
    if not name:
        raise UsageError(f"{command}: --hostname=NAME is needed")
    meaningful = {"hostname", "rest_port", "comm_port", "python_interpreter", "pythonpath", "scheduler"}
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
    # COMPSs' agents answer on every address; this one does, too, when it is called by a name of a network. Who may have it
    # start programs is another setting (compss_rest): the user who runs it, unless told otherwise.
    http = f"{'127.0.0.1' if _is_loopback(_address(name)) else '*'}:{port}"
    settings = ["--name", label, "--http", http, "--listen", listen]
    if parsed.get("python_interpreter"):
        settings += ["--python", parsed.get("python_interpreter")]
    if parsed.get("scheduler"):
        settings += ["--scheduler", parsed.get("scheduler")]
    if parsed.get("pythonpath"):
        os.environ["PYTHONPATH"] = os.pathsep.join([parsed.get("pythonpath"), os.environ.get("PYTHONPATH", "")]).strip(
            os.pathsep
        )
    sys.stdout.flush()
    words = shoal_command.command(home, "up", "--foreground", *settings)
    os.execv(words[0], words)


def _address(name: str) -> str:
    """The address to listen at for other agents: numeric, if the name can be looked up."""
    try:
        return socket.gethostbyname(name)
    except OSError:
        raise UsageError(f"compss_agent_start: --hostname={name}: the name has no address; is it in /etc/hosts?") from None


def _is_loopback(address: str) -> bool:
    return address.startswith("127.")


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


def _call(command: str, parsed: Parsed) -> int:
    lang = (parsed.get("lang") or "PYTHON").upper()
    if lang not in ("PYTHON", "C"):
        raise UsageError(f"{command}: --lang={parsed.get('lang')}: agents run Python programs and native ones (--lang=C)")
    if not parsed.rest:
        raise UsageError(f"usage: {command} [OPTIONS] MODULE|PROGRAM [ARGUMENTS]")
    meaningful = {"master_node", "master_port", "lang", "method_name", "array", "parameters_array", "stop", "forward_to"}
    say_without_meaning(command, parsed, meaningful)
    application, arguments = parsed.rest[0], parsed.rest[1:]
    if os.path.isfile(application):
        application = os.path.abspath(application)
    as_array = parsed.has("array") or parsed.has("parameters_array")
    action = ""
    if parsed.has("stop"):
        others = [rest.element("agent", f"http://{target}") for target in parsed.get("forward_to").split(";") if target]
        forward = f"<forwardTo>{''.join(others)}</forwardTo>" if others else ""
        action = f"<action><actionName>stop</actionName>{forward}</action>"
    body = rest.document(
        "startApplication",
        rest.element("lang", lang),
        rest.element("className", application),
        rest.element("hasResult", "false"),
        rest.element("methodName", parsed.get("method_name") or "main"),
        action,
        rest.parameters(arguments, lang == "PYTHON", as_array),
    )
    print(_ask(parsed, "master", "startApplication", body))
    return 0


def _ask(parsed: Parsed, which: str, path: str, body: str) -> str:
    """Sends a request to the agent that --WHICH_node and --WHICH_port name."""
    node = parsed.get(f"{which}_node") or "127.0.0.1"
    return rest.ask(node, parsed.get(f"{which}_port") or DEFAULT_PORT, "PUT", path, body)


def _add(command: str, parsed: Parsed) -> int:
    if not parsed.rest:
        raise UsageError(f"usage: {command} [OPTIONS] AGENT [Port=PORT]")
    say_without_meaning(command, parsed, {"agent_node", "agent_port"})
    properties = [word.partition("=") for word in parsed.rest[1:]]
    conf = "".join(
        f"<Property>{rest.element('Name', name)}{rest.element('Value', value)}</Property>" for name, _, value in properties
    )
    resource = f"{rest.element('name', parsed.rest[0])}<resourceConf>{conf}</resourceConf>"
    body = rest.document("newResource", f"<externalResource>{resource}</externalResource>")
    print(_ask(parsed, "agent", "addResources", body))
    return 0


def _reduce(command: str, parsed: Parsed) -> int:
    if not parsed.rest:
        raise UsageError(f"usage: {command} [OPTIONS] AGENT")
    say_without_meaning(command, parsed, {"agent_node", "agent_port", "cpu"})
    inner = [rest.element("workerName", parsed.rest[0])]
    if parsed.has("cpu"):
        processor = f"<processor><type>CPU</type>{rest.element('computingUnits', parsed.get('cpu'))}</processor>"
        inner.append(f"<resources><processors>{processor}</processors></resources>")
    print(_ask(parsed, "agent", "removeResources", rest.document("reduceNode", *inner)))
    return 0


def _lost(command: str, parsed: Parsed) -> int:
    if not parsed.rest:
        raise UsageError(f"usage: {command} [OPTIONS] AGENT")
    say_without_meaning(command, parsed, {"agent_node", "agent_port"})
    body = rest.document("lostNode", rest.element("workerName", parsed.rest[0]))
    print(_ask(parsed, "agent", "lostNode", body))
    return 0
