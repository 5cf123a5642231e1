"""Goal: parameters are on another agent what they are at home. Method: the program's agent has no unit, so that every task
runs elsewhere, and homes share no directory that a task is told of."""

from __future__ import annotations

import json
from pathlib import Path

from cluster import Cluster, wait_until


def two_agents(cluster: Cluster):
    """An agent without units, and one next to it that runs its tasks."""
    worker = cluster.found("worker", computing_units=2)
    home = cluster.join("home", worker, computing_units=0)
    wait_until(lambda: len(home.json("agents")["agents"]) == 2, 15, "both agents know each other")
    return home


def test_files_keep_their_names(cluster: Cluster, program, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("1,2\n")
    done = two_agents(cluster).shoal(
        "run",
        program(f"""
import os
os.chdir({str(tmp_path)!r})
from shoal import FILE_IN, FILE_INOUT, FILE_OUT, task, wait_on, wait_on_file
@task(source=FILE_IN, target=FILE_OUT, returns=str)
def copy(source, target):
    open(target, "w").write(open(source).read())
    return os.path.basename(source) + " " + os.path.basename(target)
@task(path=FILE_INOUT, returns=str)
def grow(path):
    open(path, "a").write("3,4\\n")
    return os.path.basename(path) + (" at home" if path.startswith({str(tmp_path)!r}) else "")
print(wait_on(copy("table.csv", "copy.tsv")))
print(wait_on(grow("copy.tsv")))
wait_on_file("copy.tsv")
print(repr(open("copy.tsv").read()), repr(open("table.csv").read()))
"""),
    )
    assert done.stdout.splitlines() == ["table.csv copy.tsv", "copy.tsv", r"'1,2\n3,4\n' '1,2\n'"]


def test_directories_travel(cluster: Cluster, program, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep/empty").mkdir(parents=True)
    (tree / "a.txt").write_text("a")
    (tree / "deep/run.sh").write_text("#!/bin/sh\necho ran\n")
    (tree / "deep/run.sh").chmod(0o755)
    (tree / "link").symlink_to("a.txt")
    (tree / "big").write_bytes(bytes(range(256)) * 20_000)
    done = two_agents(cluster).shoal(
        "run",
        program(f"""
import os, subprocess
os.chdir({str(tmp_path)!r})
from pycompss.api.task import task
from pycompss.api.parameter import DIRECTORY_IN, DIRECTORY_INOUT, DIRECTORY_OUT
from pycompss.api.api import compss_wait_on, compss_wait_on_directory
def listing(path):
    return sorted(os.path.relpath(os.path.join(at, name), path) for at, dirs, files in os.walk(path) for name in dirs + files)
@task(tree=DIRECTORY_IN, returns=1)
def look(tree):
    here = "" if not tree.startswith({str(tmp_path)!r}) else "at home "
    return (here + os.path.basename(tree), listing(tree), os.readlink(tree + "/link"), os.path.getsize(tree + "/big"),
            subprocess.run([tree + "/deep/run.sh"], capture_output=True, text=True).stdout)
@task(tree=DIRECTORY_INOUT)
def change(tree):
    os.remove(tree + "/big")
    open(tree + "/b.txt", "w").write("b")
@task(made=DIRECTORY_OUT)
def make(made):
    os.makedirs(made + "/x")
    open(made + "/x/y", "w").write("made")
print(compss_wait_on(look("tree")))
change("tree")
make("fresh")
compss_wait_on_directory("tree")
compss_wait_on_directory("fresh")
print(listing("tree"), open("fresh/x/y").read())
"""),
    )
    assert done.stdout.splitlines() == [
        "('tree', ['a.txt', 'big', 'deep', 'deep/empty', 'deep/run.sh', 'link'], 'a.txt', 5120000, 'ran\\n')",
        "['a.txt', 'b.txt', 'deep', 'deep/empty', 'deep/run.sh', 'link'] made",
    ]


def test_a_directory_that_cannot_be_sent_is_a_clear_error(cluster: Cluster, program, tmp_path: Path) -> None:
    home = two_agents(cluster)
    done = home.shoal(
        "run",
        program(f"""
import os
os.mkdir({str(tmp_path / "odd")!r})
os.mkfifo({str(tmp_path / "odd/pipe")!r})
from shoal import DIRECTORY_IN, on_failure, task, wait_on
@on_failure(management="FAIL")
@task(tree=DIRECTORY_IN, returns=1)
def look(tree): return 1
print(wait_on(look({str(tmp_path / "odd")!r})))
"""),
        check=False,
        timeout=90,
    )
    assert done.returncode != 0
    assert "neither a file nor a directory nor a symbolic link" in done.stderr
    assert home.shoal("status", check=False).returncode == 0


def test_objects_of_the_store_arrive_as_values(cluster: Cluster, program) -> None:
    home = two_agents(cluster)
    done = home.shoal(
        "run",
        program("""
import numpy as np
from shoal import store, task, wait_on
@task(returns=str)
def kind(values, more):
    return f"{type(values).__name__} {int(np.sum(values))} {more[0]['x']}"
print(wait_on(kind(store.put(np.arange(100_000)), [store.put({"x": 7}).get()])))
print(wait_on(kind(store.put([1, 2, 3]), [{"x": 8}])))
gone = store.put([1])
store.delete(gone)
try:
    wait_on(kind(gone, [{"x": 0}]))
except Exception as error:
    print(type(error).__name__, "cannot get an input" in str(error))
"""),
        timeout=90,
    )
    assert done.stdout.splitlines() == ["ndarray 4999950000 7", "list 6 8", "TaskFailedError True"]


def test_the_memory_of_dropped_values_is_used_again(cluster: Cluster, program) -> None:
    agent = cluster.found("a", computing_units=1)
    arena = Path("/dev/shm") / f"shoal-{json.loads((agent.home / 'run/ready').read_text())['agent']}"
    done = agent.shoal(
        "run",
        program(f"""
import os, sys, numpy as np
from pathlib import Path
from shoal import share, task, wait_on, barrier
arena = Path({str(arena)!r})
def inodes(directory):
    return {{entry.inode() for entry in os.scandir(directory) if entry.is_file()}}
@task(returns=int)
def keep(array):
    sys.kept = array  # of the executor: not a global of this function
    return int(array.sum())
@task(returns=int)
def sum_of_kept():
    return int(sys.kept.sum())
@task(returns=int)
def forget():
    sys.kept = None
    return 0
def put(value, count=2_000_000):
    handle = share(np.full(count, value, dtype=np.uint8))
    barrier()
    return handle
first = put(1)
assert wait_on(keep(first)) == 2_000_000
mapped = wait_on(first)
(inode,) = inodes(arena)
del first
assert wait_on(sum_of_kept()) == 2_000_000
second = put(2)  # the executor and this program still map the first: its memory is not for others
assert inode not in inodes(arena) | inodes(arena / "spare")
assert wait_on(sum_of_kept()) == 2_000_000 and int(mapped.sum()) == 2_000_000
(inode,) = inodes(arena)
del second
wait_on(forget())
assert inodes(arena / "spare") == {{inode}}
for count in (2_500_000, 1_500_000):  # longer, shorter
    third = put(3, count)
    assert inodes(arena) == {{inode}} and not inodes(arena / "spare")
    assert wait_on(keep(third)) == 3 * count
    assert wait_on(third).size == count
    wait_on(forget())
    del third
    wait_on(forget())
print("right")
"""),
    )
    assert done.stdout.splitlines() == ["right"]
    wait_until(lambda: not list((arena / "spare").iterdir()), 20, "spares are given back to the host")
