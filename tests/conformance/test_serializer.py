# Goal: dill carries what cloudpickle cannot, where a program asks for it. Method: a package of that name, the real one if
# it is installed, and a session with tasks whose arguments and results need it.

import importlib.util
import subprocess
import sys
import threading

import pytest

import shoal
from shoal import _general, _serialize, task, wait_on

HAS_DILL = importlib.util.find_spec("dill") is not None


@pytest.fixture(autouse=True)
def former_choice():
    yield
    _general._chosen = "cloudpickle"


class Locked:
    """Not for pickle, nor for cloudpickle."""

    def __init__(self, value):
        self.lock = threading.Lock()
        self.value = value


def test_cloudpickle_is_what_is_used_unless_said_otherwise():
    assert shoal.serializer() == "cloudpickle"
    with pytest.raises(TypeError, match="lock"):
        _serialize.dumps(Locked(1))


@pytest.mark.skipif(HAS_DILL, reason="dill is installed")
def test_what_is_not_installed_is_said():
    with pytest.raises(ModuleNotFoundError, match="pip install dill"):
        shoal.serializer("dill")
    assert shoal.serializer() == "cloudpickle"


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="'cloudpickle' or 'dill'"):
        shoal.serializer("marshal")


def test_the_environment_chooses_too():
    text = "import shoal, shoal._serialize as s; print(shoal.serializer()); s.dumps(lambda: 1)"
    code = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {text}"]
    done = subprocess.run(code, env={"SHOAL_SERIALIZER": "gob"}, capture_output=True, text=True, check=False)
    assert "SHOAL_SERIALIZER='gob': it is 'cloudpickle' or 'dill'" in done.stderr


@pytest.mark.skipif(not HAS_DILL, reason="dill is not installed")
def test_dill_carries_arguments_and_results(session):
    shoal.serializer("dill")

    @task(returns=1)
    def doubled(locked):
        with locked.lock:
            return Locked(locked.value * 2)

    assert wait_on(doubled(doubled(Locked(5)))).value == 20
    numpy = pytest.importorskip("numpy")
    assert (wait_on(doubled(Locked(numpy.arange(100_000)))).value[-1]) == 2 * 99_999
