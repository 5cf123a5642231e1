"""Goal: what is installed works without the source tree. Method: the install tree in a directory of its own, an agent from
there, a Python program on it, and a C++ program built outside with find_package(shoal)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from cluster import Cluster

BUILD = Path(os.environ["SHOAL_BIN"]).parent
SOURCE = Path(__file__).resolve().parents[2]

PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(guest LANGUAGES CXX)
find_package(shoal 0.1 REQUIRED)
add_executable(guest guest.cpp)
target_link_libraries(guest PRIVATE shoal::cpp)
"""

PROGRAM = """
#include <iostream>
#include <vector>
#include "shoal/shoal.hpp"
int square(int x) { return x * x; }
int add(int a, int b) { return a + b; }
const auto square_task = shoal::task(square, "square");
const auto add_task = shoal::task(add, "add");
int main(int argc, char** argv) {
  shoal::Program program(argc, argv);
  shoal::Future<int> total = square_task(0);
  for (int i = 1; i <= 10; ++i) total = add_task(total, square_task(i));
  std::cout << total.get() << std::endl;
}
"""

WHERE = """
import shoal
from pycompss.api.task import task
@task(returns=1)
def f(x): return x + 1, shoal.__file__
print(*shoal.wait_on(f(1)))
"""


def run(*command: object, **options: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_install_tree(tmp_path: Path, program) -> None:
    place = tmp_path / "installed"
    run("cmake", "--install", BUILD, "--prefix", place)
    (tmp_path / "guest").mkdir()
    (tmp_path / "guest/CMakeLists.txt").write_text(PROJECT)
    (tmp_path / "guest/guest.cpp").write_text(PROGRAM)
    run("cmake", "-S", tmp_path / "guest", "-B", tmp_path / "built", f"-DCMAKE_PREFIX_PATH={place}")
    run("cmake", "--build", tmp_path / "built")
    moved = tmp_path / "elsewhere"  # nothing in it may depend on where it was installed
    place.rename(moved)
    with Cluster(binaries=moved / "bin") as cluster:
        agent = cluster.found("one", computing_units=1)
        value, where = agent.shoal("run", program(WHERE)).stdout.split()
        assert value == "2"
        assert Path(where).is_relative_to(moved)
        assert agent.shoal("run", str(tmp_path / "built/guest")).stdout == "385\n"
    shutil.rmtree(moved)


def test_the_examples_agree(cluster: Cluster) -> None:
    agent = cluster.found("one", computing_units=2)
    python = agent.shoal("run", str(SOURCE / "examples/python/matrix.py"), "3", "20").stdout
    assert python == agent.shoal("run", str(BUILD / "examples/cpp/matrix"), "3", "20").stdout
    assert python.startswith("trace of the product: ")
