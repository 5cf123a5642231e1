"""Fixtures: the SDK on the path, a fake agent per test module, a session per test."""

from __future__ import annotations

import os
import sys
import types

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
for entry in (os.path.join(ROOT, "sdk", "python", "compat"), os.path.join(ROOT, "sdk", "python")):
    if entry not in sys.path:
        sys.path.insert(0, entry)
os.environ.pop("SHOAL_SOCKET", None)
os.environ.pop("SHOAL_APP", None)

import shoal  # noqa: E402
from fake_agent import FakeAgent  # noqa: E402
from shoal import _runtime  # noqa: E402


@pytest.fixture(scope="module")
def agent():
    """An agent that lives as long as the module's tests; with SHOAL_CONFORMANCE_SOCKET, the real one that is there."""
    real = os.environ.get("SHOAL_CONFORMANCE_SOCKET")
    if real:
        yield types.SimpleNamespace(socket=real, released=[], cancelled_attempts=[], hellos=[], frames=[])
        return
    with FakeAgent() as running:
        yield running


@pytest.fixture
def session(agent):
    """This test's application, ended (without waiting) afterwards."""
    opened = shoal.connect(agent.socket)
    yield opened
    _runtime.current = None
    opened.close()


@pytest.fixture
def sequential(monkeypatch):
    """No agent: tasks run inline."""
    monkeypatch.setattr(_runtime, "current", None)
    monkeypatch.setattr(_runtime, "_may_attach", False)
    monkeypatch.setattr(_runtime, "_local", None)


@pytest.fixture(params=["agent", "sequential"])
def both(request):
    """The session, then None: the test runs with an agent and without one."""
    return request.getfixturevalue("session" if request.param == "agent" else "sequential")
