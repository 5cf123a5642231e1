"""Environments: an application travels with what it needs, and tasks run where that can be built.

Method: real agents with a home each; wheels are zip files made by hand here, so nothing comes from a network. A package
that only the bundle has says from which directory it was imported: every agent must have a build of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import Agent, Cluster, wait_until

MACHINE = platform.machine()
PYTHON = f"cp{sys.version_info[0]}{sys.version_info[1]}"


def make_wheel(
    directory: Path,
    name: str,
    version: str = "1.0",
    tag: str = "py3-none-any",
    files: dict[str, str] | None = None,
    requires: tuple[str, ...] = (),
) -> Path:
    """A wheel of one package `name` whose VALUE is its version, or of `files`."""
    content = {f"{name}/__init__.py": f"VALUE = {version!r}\nWHERE = __file__\n"} if files is None else files
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    metadata += [f"Requires-Dist: {one}\n" for one in requires]
    content = content | {
        f"{info}/METADATA": "".join(metadata),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = []
    path = directory / f"{name}-{version}-{tag}.whl"
    directory.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in content.items():
            archive.writestr(file, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{file},sha256={digest},{len(text.encode())}")
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]) + "\n")
    return path


@pytest.fixture
def agent(cluster: Cluster) -> Agent:
    """One agent."""
    return cluster.found("one", computing_units=1)


def two_agents(cluster: Cluster, **settings: object) -> list[Agent]:
    """Agents of one region, each with one unit: tasks that meet run on both."""
    first = cluster.found("one", computing_units=1, **settings)
    agents = [first, cluster.join("two", first, computing_units=1, **settings)]
    wait_until(lambda: all(agent.json("status")["members"] == 2 for agent in agents), 15, "both know each other")
    return agents


def environments(agent: Agent) -> list[dict]:
    """What `shoal environments` lists."""
    return agent.json("environments")["environments"]


def builds(agent: Agent) -> int:
    """How often the agent built an environment."""
    return agent.log_text().count(" was built in ")


# Each pair of tasks meets at a directory, so with one unit an agent they run on different agents.
MEETING = """
import os, sys, time
from pathlib import Path
import foo
from shoal import task, wait_on


def meet(place, number):
    (Path(place) / str(number)).touch()
    until = time.monotonic() + 60
    while not (Path(place) / str(1 - number)).exists():
        if time.monotonic() > until:
            raise RuntimeError("the other task did not start")
        time.sleep(0.01)
    time.sleep(0.05)  # functions that are known to be short are handed to one agent ahead of time


@task(returns=tuple)
def look(place, number):
    import foo
    meet(place, number)
    return foo.VALUE, foo.WHERE


print("driver", foo.VALUE, foo.WHERE, flush=True)
for value, where in wait_on([look(sys.argv[1], number) for number in range(2)]):
    print("task", value, where, flush=True)
"""


def meeting(tmp_path: Path, name: str = "meeting") -> str:
    """A new directory for tasks to meet at."""
    place = tmp_path / name
    place.mkdir()
    return str(place)


def homes_of(output: str, agents: list[Agent]) -> list[tuple[str, str, str]]:
    """(who, value, name of the agent whose build it was) of each line."""
    found = []
    for line in output.splitlines():
        who, value, where = line.split(" ")
        owner = [agent.name for agent in agents if where.startswith(str(agent.home) + "/")]
        found.append((who, value, owner[0] if owner else where))
    return found


def test_a_package_that_only_the_bundle_has(cluster: Cluster, program: Callable[[str], str], tmp_path: Path) -> None:
    agents = two_agents(cluster)
    wheel = make_wheel(tmp_path / "wheels", "foo", "1.5")
    path = program(MEETING)
    without = agents[0].shoal("run", path, meeting(tmp_path, "without"), check=False)
    assert "No module named 'foo'" in without.stderr
    for turn in range(2):
        ran = agents[0].shoal("run", "--environment", str(wheel), path, meeting(tmp_path, f"turn{turn}"), timeout=120)
        lines = homes_of(ran.stdout, agents)
        assert lines[0] == ("driver", "1.5", "one")
        assert sorted(lines[1:]) == [("task", "1.5", "one"), ("task", "1.5", "two")]
    # Built once on each agent, however many tasks and programs use it.
    assert [builds(agent) for agent in agents] == [1, 1]
    listed = [environments(agent) for agent in agents]
    assert [[(row["name"], row["state"]) for row in rows] for rows in listed] == [[("foo-1.5-py3-none-any", "ready")]] * 2
    assert listed[0][0]["environment"] == listed[1][0]["environment"]
    assert listed[0][0]["bytes"] > 0


# A task on each agent, which all meet there with those of the other program.
VERSIONS = """
import time
from pathlib import Path
import foo
from shoal import constraint, task, wait_on


def look(where):
    import foo
    place = Path({place!r})
    (place / f"{{foo.VALUE}}.{{where}}").touch()
    until = time.monotonic() + 60
    while len(list(place.iterdir())) < 4:
        if time.monotonic() > until:
            raise RuntimeError("not all tasks run at once")
        time.sleep(0.01)
    return foo.VALUE, foo.WHERE


@constraint(labels={{"where": "one"}})
@task(returns=tuple)
def here():
    return look("one")


@constraint(labels={{"where": "two"}})
@task(returns=tuple)
def there():
    return look("two")


print("driver", foo.VALUE, foo.WHERE)
for value, where in wait_on([here(), there()]):
    print("task", value, where)
"""


def test_two_versions_at_once_on_the_same_agents(cluster: Cluster, program, tmp_path: Path) -> None:
    first = cluster.found("one", computing_units=2, labels={"where": "one"})
    agents = [first, cluster.join("two", first, computing_units=2, labels={"where": "two"})]
    wait_until(lambda: all(agent.json("status")["members"] == 2 for agent in agents), 15, "both know each other")
    path = program(VERSIONS.format(place=meeting(tmp_path)))
    runs: dict[str, subprocess.CompletedProcess[str]] = {}

    def run(version: str) -> None:
        wheel = make_wheel(tmp_path / version, "foo", version)
        runs[version] = agents[0].shoal("run", "--environment", str(wheel), path, timeout=120, check=False)

    threads = [threading.Thread(target=run, args=(version,)) for version in ("1.0", "2.0")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for version in ("1.0", "2.0"):
        assert runs[version].returncode == 0, runs[version].stderr
        assert homes_of(runs[version].stdout, agents) == [
            ("driver", version, "one"), ("task", version, "one"), ("task", version, "two")
        ]  # fmt: skip


def test_lock_modules_and_variables_of_one_description(cluster: Cluster, program, tmp_path: Path) -> None:
    agents = two_agents(cluster)
    index = tmp_path / "index"
    make_wheel(index, "foo", "1.0", requires=("bar>=2",))
    bar = make_wheel(index, "bar", "2.1")
    digests = {path.name.split("-")[0]: hashlib.sha256(path.read_bytes()).hexdigest() for path in index.iterdir()}
    described = tmp_path / "described"
    (described / "helpers").mkdir(parents=True)
    (described / "helpers/__init__.py").write_text("def three():\n    return 3\n")
    (described / "single.py").write_text("FOUR = 4\n")
    (described / "lock.txt").write_text(
        f"--no-index\n--find-links {index}\n"
        + "".join(f"{name}=={version} --hash=sha256:{digests[name]}\n" for name, version in (("foo", "1.0"), ("bar", "2.1")))
    )
    (described / "environment.toml").write_text(
        'lock = "lock.txt"\nmodules = ["helpers", "single.py"]\nvariables = { FLAVOUR = "sour" }\n'
    )
    path = program(
        MEETING.replace(
            "return foo.VALUE, foo.WHERE",
            "import bar, helpers, single\n"
            "    return '-'.join([bar.VALUE, str(helpers.three()), str(single.FOUR), os.environ['FLAVOUR']]), foo.WHERE",
        ).replace('print("driver", foo.VALUE', "print(os.environ['FLAVOUR'], foo.VALUE")
    )
    ran = agents[0].shoal("run", "--environment", str(described), path, meeting(tmp_path), timeout=120)
    lines = homes_of(ran.stdout, agents)
    assert lines[0][:2] == ("sour", "1.0")
    assert sorted(lines[1:]) == [("task", "2.1-3-4-sour", "one"), ("task", "2.1-3-4-sour", "two")]
    # What pip says reaches the user.
    bar.unlink()
    refused = agents[0].shoal("run", "--environment", str(described), path, check=False)
    assert refused.returncode == 125
    assert "pip could not collect its packages" in refused.stderr
    assert "bar==2.1" in refused.stderr


def test_a_shared_object_and_an_extension_for_this_machine(cluster: Cluster, program, tmp_path: Path) -> None:
    agents = two_agents(cluster)
    place = tmp_path / "described"
    place.mkdir()
    source = tmp_path / "answer.c"
    source.write_text("int answer(void) { return 42; }\n")
    library = place / "libanswer.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    (place / "foo.py").write_text(
        "import ctypes\nVALUE = ctypes.CDLL('libanswer.so').answer()\nWHERE = __file__\n"
    )
    (place / "environment.toml").write_text(
        f'modules = ["foo.py"]\nlibraries = {{ {MACHINE} = ["libanswer.so"] }}\n'
    )
    path = program(MEETING)
    ran = agents[0].shoal("run", "--environment", str(place / "environment.toml"), path, meeting(tmp_path), timeout=120)
    lines = homes_of(ran.stdout, agents)
    assert sorted(lines) == [("driver", "42", "one"), ("task", "42", "one"), ("task", "42", "two")]
    # Under another architecture's name it is refused before anything travels.
    (place / "environment.toml").write_text('libraries = { sparc64 = ["libanswer.so"] }\n')
    refused = agents[0].shoal("environments", "build", str(place), check=False)
    assert f"is named under sparc64, and is built for {MACHINE}" in refused.stderr
    assert all(builds(agent) == 1 for agent in agents)


def test_wheels_for_another_python_are_refused_with_words(cluster: Cluster, program, tmp_path: Path) -> None:
    agents = two_agents(cluster)
    wheel = make_wheel(tmp_path, "foo", "1.0", f"cp36-cp36m-linux_{MACHINE}")
    refused = agents[0].shoal("run", "--environment", str(wheel), program(MEETING), check=False)
    assert refused.returncode == 125
    assert f"asks for foo built for cp36-cp36m-linux_{MACHINE}" in refused.stderr
    assert f"this agent has {PYTHON}-" in refused.stderr
    assert "agent one" in refused.stderr


PLACED = """
from shoal import task, wait_on


@task(returns=str, environment="special")
def where():
    import foo
    return foo.WHERE


print(*sorted(set(wait_on([where() for _ in range(8)]))), sep="\\n")
"""

# In the program's own environment, and long enough to be spread.
SPREAD = PLACED.replace(', environment="special"', "").replace("import foo\n", "import foo, time\n    time.sleep(0.2)\n")


def test_tasks_run_only_where_their_environment_can_be_built(cluster: Cluster, program, tmp_path: Path) -> None:
    """What an agent says of itself decides; here agent two is told to say that it has another Python."""
    other = f"cp399-cp399-{MACHINE}-glibc_2.36"
    first = cluster.found("one", computing_units=2)
    agents = [first, cluster.join("two", first, computing_units=2, labels={"python_platform": other})]
    wait_until(lambda: all(agent.json("status")["members"] == 2 for agent in agents), 15, "both know each other")
    path = program(PLACED)
    # The program itself has no environment; only its tasks have, by name.
    mine = make_wheel(tmp_path / "mine", "foo", "1.0", f"{PYTHON}-{PYTHON}-linux_{MACHINE}")
    ran = agents[1].shoal("run", "--environment", f"special={mine}", path, timeout=120)
    assert [line.startswith(str(agents[0].home)) for line in ran.stdout.splitlines()] == [True]
    unnamed = agents[1].shoal("run", path, check=False)
    assert "environment='special' is not known" in unnamed.stderr
    # Nobody has this one: `explain` says so while the task waits, and the program is told in the end.
    nobody = make_wheel(tmp_path / "nobody", "foo", "1.0", f"cp36-cp36m-linux_{MACHINE}")
    app = agents[0].shoal("submit", "--environment", f"special={nobody}", path).stdout.strip()
    explained = wait_until(
        lambda: (done := agents[0].shoal("-o", "json", "explain", app, "1", check=False)).returncode == 6 and done,
        20,
        "the task cannot be placed",
    )
    words = f"foo built for cp36-cp36m-linux_{MACHINE}"
    assert words in json.loads(explained.stdout)["why"]
    wait_until(lambda: agents[0].json("apps")["apps"][-1]["state"] == "failed", 60, "it is refused")
    output = agents[0].shoal("logs", app).stdout + agents[0].shoal("logs", app).stderr
    assert words in output
    assert f"({PYTHON}-" in output and f"python_platform={other}" in output


def test_an_agent_that_cannot_build_it_is_named_and_another_runs_the_task(
    cluster: Cluster, program, tmp_path: Path
) -> None:
    agents = two_agents(cluster)
    broken = tmp_path / "broken/foo-1.0-py3-none-any.whl"
    broken.parent.mkdir()
    broken.write_text("this is no zip file")
    refused = agents[0].shoal("run", "--environment", str(broken), program(MEETING), check=False)
    assert refused.returncode == 125
    assert "agent one cannot build environment" in refused.stderr
    assert "package foo-1.0-py3-none-any.whl: it is no wheel, or damaged" in refused.stderr
    # As the environment of tasks: every agent is tried, and the task fails with what the last one said.
    failed = agents[0].shoal("run", "--environment", f"special={broken}", program(PLACED), check=False)
    assert failed.returncode == 1
    assert "could not be started" in failed.stderr
    assert "cannot build environment" in failed.stderr
    assert "package foo-1.0-py3-none-any.whl: it is no wheel, or damaged" in failed.stderr
    assert all("cannot be used here" in agent.log_text() for agent in agents)
    # Agent two has no room for it; the tasks that go there come back, and all run on agent one.
    shutil.rmtree(agents[1].home / "environments/built")
    (agents[1].home / "environments/built").write_text("")
    wheel = make_wheel(tmp_path / "fine", "foo")
    path = program(SPREAD)
    ran = agents[0].shoal("run", "--environment", str(wheel), path, timeout=120)
    assert [line.startswith(str(agents[0].home)) for line in ran.stdout.splitlines()] == [True]
    assert "cannot be used here" in agents[1].log_text()


def test_bad_bundles_are_refused(cluster: Cluster, program, tmp_path: Path) -> None:
    """What another agent sends is checked against its name; what lies damaged on this disk is fetched again."""
    agents = two_agents(cluster)
    wheel = make_wheel(tmp_path / "wheels", "foo", "3.0")
    path = program(MEETING)
    agents[0].shoal("run", "--environment", str(wheel), path, meeting(tmp_path, "first"), timeout=120)
    identity = environments(agents[0])[0]["environment"]
    bundles = [agent.home / f"environments/bundles/{identity}.tar" for agent in agents]
    # Agent two lost its build, and its bundle is not what it was: it asks agent one for another.
    agents[1].stop()
    shutil.rmtree(agents[1].home / f"environments/built/{identity}")
    bundles[1].write_bytes(bundles[1].read_bytes().replace(b"VALUE", b"VELUA"))
    agents[1].start()
    wait_until(lambda: all(agent.json("status")["members"] == 2 for agent in agents), 15, "both know each other")
    ran = agents[0].shoal("run", "--environment", str(wheel), path, meeting(tmp_path, "second"), timeout=120)
    assert sorted(homes_of(ran.stdout, agents)[1:]) == [("task", "3.0", "one"), ("task", "3.0", "two")]
    assert bundles[1].read_bytes() == bundles[0].read_bytes()
    # Agent one's copy is damaged while it is in use: agent two does not take it.
    agents[1].shoal("environments", "rm", identity)
    assert environments(agents[1]) == []
    content = bundles[0].read_bytes()
    bundles[0].write_bytes(content[:-700] + bytes([content[-700] ^ 1]) + content[-699:])
    alone = program(SPREAD)
    ran = agents[0].shoal("run", "--environment", str(wheel), alone, timeout=120)
    assert [line.startswith(str(agents[0].home)) for line in ran.stdout.splitlines()] == [True]
    assert "has other content" in agents[1].log_text()


def test_commands_and_nested_tasks_have_it_too(cluster: Cluster, program, tmp_path: Path) -> None:
    agents = two_agents(cluster)
    wheel = make_wheel(
        tmp_path / "wheels",
        "foo",
        files={
            "foo.py": "VALUE = 'imported'\n",
            "foo-1.0.data/scripts/foo-tool": "#!python\nimport foo, sys\nsys.exit(7 if foo.VALUE == 'imported' else 1)\n",
        },
    )
    path = program(
        """
from shoal import binary, task, wait_on


@binary(binary="foo-tool", fail_by_exit_value=False)
@task(returns=int)
def tool():
    pass


@task(returns=str)
def inner():
    import foo
    return foo.VALUE


@task(returns=str)
def outer():
    return wait_on(inner()) + " below"


print(wait_on(tool()), wait_on(outer()))
"""
    )
    ran = agents[0].shoal("run", "--environment", str(wheel), path, timeout=120)
    assert ran.stdout == "7 imported below\n"


def test_the_guardian_goes_on_in_the_environment(cluster: Cluster, program, tmp_path: Path) -> None:
    first = cluster.found("one", computing_units=1)
    agents = [first, *(cluster.join(name, first, computing_units=1) for name in ("two", "three"))]
    wait_until(lambda: all(agent.json("status")["members"] == 3 for agent in agents), 15, "all know each other")
    wheel = make_wheel(tmp_path / "wheels", "foo", "4.0")
    path = program(
        f"""
import time
from pathlib import Path
import foo
from shoal import task, wait_on


@task(returns=str)
def step(number):
    import foo
    (Path({str(tmp_path)!r}) / f"step.{{number}}").touch()
    time.sleep(0.05)
    return foo.VALUE


print("begin", foo.VALUE, flush=True)
print(set(wait_on([step(number) for number in range(100)])), flush=True)
print("end", foo.WHERE, flush=True)
"""
    )
    done: list[subprocess.CompletedProcess[str]] = []
    thread = threading.Thread(
        target=lambda: done.append(agents[0].shoal("run", "--environment", str(wheel), path, timeout=120, check=False))
    )
    thread.start()
    wait_until(lambda: len(list(tmp_path.glob("step.*"))) >= 30, 60, "a part of it is done")
    agents[0].kill()
    thread.join()
    lines = done[0].stdout.splitlines()
    assert lines[:2] == ["begin 4.0", "{'4.0'}"], done[0].stderr
    assert any(lines[2].startswith(f"end {agent.home}/") for agent in agents[1:]), done[0].stderr


def test_through_another_agent_and_the_command_line(cluster: Cluster, program, tmp_path: Path) -> None:
    agents = two_agents(cluster, environments_mb=1)
    wheel = make_wheel(tmp_path / "wheels", "foo", "5.0")
    path = program(MEETING)
    # The program runs at agent two, whose bundle comes from agent one.
    ran = agents[0].shoal("--agent", "two", "run", "--environment", str(wheel), path, meeting(tmp_path), timeout=120)
    assert homes_of(ran.stdout, agents)[0] == ("driver", "5.0", "two")
    built = agents[0].json("environments", "build", str(wheel))
    assert built["state"] == "ready"
    assert agents[0].shoal("environments", "ls", "-q").stdout.split() == [built["environment"]]
    planned = agents[0].shoal("environments", "rm", "foo-5.0-py3-none-any", "--dry-run").stdout
    assert built["environment"] in planned
    # What is in use stays.
    held = program(f"import time\nfrom pathlib import Path\nPath('{tmp_path}/runs').touch()\ntime.sleep(600)\n")
    app = agents[0].shoal("submit", "--environment", str(wheel), held).stdout.strip()
    wait_until((tmp_path / "runs").exists, 20, "the program runs")
    refused = agents[0].shoal("environments", "rm", built["environment"], check=False)
    assert "is in use" in refused.stderr
    # Beyond the bound the one unused for longest goes, and that is not the one in use.
    for number in range(3):
        large = make_wheel(
            tmp_path / f"large{number}", "big", f"{number}.0", files={"big/__init__.py": f"A = {os.urandom(400_000).hex()!r}\n"}
        )
        agents[0].shoal("environments", "build", str(large))
    wait_until(lambda: len(environments(agents[0])) <= 2, 20, "there is room again")
    assert built["environment"] in [row["environment"] for row in environments(agents[0])]
    agents[0].shoal("cancel", app)
    removed = wait_until(
        lambda: agents[0].shoal("environments", "rm", built["environment"], check=False).returncode == 0, 20, "it is removed"
    )
    assert removed
    assert agents[0].shoal("environments", "rm", built["environment"], check=False).returncode == 4


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ('image = "docker.io/library/python:3.11"', 'image = "docker.io/library/python:3.11" is not supported yet'),
        ('requirement = ["foo"]', 'did you mean "requirements"?'),
        ('python = "2.7"', "no version of Python such as 3.11"),
        ('wheels = ["missing.whl"]', "which does not exist"),
        ('modules = "..', "environment.toml:1"),
        ('requirements = ["--index-url=x"]', "put those into a lock file"),
    ],
)
def test_bad_descriptions(agent: Agent, tmp_path: Path, description: str, words: str) -> None:
    (tmp_path / "environment.toml").write_text(description + "\n")
    refused = agent.shoal("environments", "build", str(tmp_path / "environment.toml"), check=False)
    assert refused.returncode != 0
    assert words in refused.stderr


def test_python_and_environment_exclude_each_other(agent: Agent, program, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "foo")
    refused = agent.shoal("run", "--python", sys.executable, "--environment", str(wheel), program("pass"), check=False)
    assert "--python and --environment exclude each other" in refused.stderr
