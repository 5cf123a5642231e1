"""Goal: the released dislib works on top, unpatched: sequentially and over several agents, with the results of
scikit-learn and numpy.
Method: a virtual environment of its own (made once, in build/), the checks of dislib_program.py in one application per
group over two agents."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).resolve().parent / "dislib_program.py"
VENV = ROOT / "build" / "dislib-venv"
# What the release asks for, and numpy before 2.3: it calls a function that newer ones no longer have.
PACKAGES = ["numpy>=2.0,<2.3", "scipy>=1.13,<2", "scikit-learn>=1.7,<2", "cvxpy>=1.4.2,<2", "cbor2>=5.4,<6", "pyarrow>=16",
            "msgpack>=1.0", "cloudpickle>=2.2"]  # fmt: skip
GROUPS = [
    ["array_algebra", "array_slices", "array_makers_and_files", "scalers"],
    ["kmeans", "gaussian_mixture", "dbscan"],
    ["pca", "qr", "tall_skinny_qr", "svd", "random_svd"],
    ["linear_regression", "ridge_regression", "lasso", "alternating_least_squares"],
    ["random_forest", "cascade_svm", "k_nearest_neighbours", "model_selection"],
]


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter of an environment with dislib as it was released."""
    interpreter = VENV / "bin" / "python"
    ready = VENV / "ready"
    wanted = "\n".join(["dislib==1.0.0", *PACKAGES])
    if not ready.exists() or ready.read_text() != wanted:
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--clear", str(VENV)], check=True)
        install = [str(interpreter), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *PACKAGES], check=True)
        subprocess.run([*install, "--no-deps", "dislib==1.0.0"], check=True)
        ready.write_text(wanted)
    return str(interpreter)


def environment() -> dict[str, str]:
    """What dislib's constraints refer to; one thread for each task."""
    return {"ComputingUnits": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0])
def test_sequentially(python: str, group: list[str]) -> None:
    paths = [str(ROOT / "sdk/python"), str(ROOT / "sdk/python/compat")]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SHOAL_", "PYTHON"))}
    variables = kept | environment() | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [python, "-W", "ignore", str(PROGRAM), *group]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=variables)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0])
def test_over_two_agents(cluster: Cluster, python: str, group: list[str]) -> None:
    first = cluster.found("one", computing_units=1, python=python)
    cluster.join("two", first, computing_units=1, python=python)
    variables = [word for key, value in environment().items() for word in ("--env", f"{key}={value}")]
    done = first.shoal("run", "--quiet", "--python", python, *variables, str(PROGRAM), *group, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout, file=sys.stderr)
