# Goal: a program that runs again finds what it found the first time, and says where it keeps its checkpoint.
# Method: a fake agent that records what programs journal, and gives back what a test says that a former run left.

import itertools

import pytest

import shoal
from shoal import _runtime, once, snapshot, task, wait_on
from shoal.errors import ShoalError


@pytest.fixture
def run(agent):
    """Runs a program as one application, after a former one that left `before`."""
    if not hasattr(agent, "once"):
        pytest.skip("the former run is a fake agent's")

    def program(main, before=()):
        agent.once.clear()
        agent.once_before = [{"number": entry["number"], "name": entry["name"], "value": entry["value"]} for entry in before]
        shoal.connect(agent.socket)
        try:
            return main(), list(agent.once)
        finally:
            _runtime.disconnect()

    return program


counter = itertools.count()


def count():
    return next(counter)


def test_once_gives_what_it_gave_in_the_former_run(run):
    first, left = run(lambda: [once(count), once(count), once(dict, a=[1, {2}])])
    assert [entry["number"] for entry in left] == [1, 2, 3]
    second, left_again = run(lambda: [once(count), once(count), once(dict, a=[1, {2}]), once(count)], left)
    assert second[:3] == first
    assert second[3] == first[1] + 1
    assert [entry["number"] for entry in left_again] == [4]


def test_once_of_something_else_is_told(run):
    _, left = run(lambda: once(count))
    with pytest.raises(ShoalError, match=r"call 1 of once\(\) was of .*count then and is of builtins.list now"):
        run(lambda: once(list), left)


def test_once_keeps_no_failure_and_nothing_large(run):
    def failing():
        raise ValueError("again")

    def main():
        with pytest.raises(ValueError, match="again"):
            once(failing)
        with pytest.raises(ShoalError, match="let a task make large values"):
            once(bytes, 300_000)

    assert run(main)[1] == []


@task(returns=1)
def within():
    return once(count) == once(count)


def test_once_in_a_task_is_a_call(run):
    value, left = run(lambda: wait_on(within()))
    assert value is False
    assert left == []


def test_once_without_an_agent_is_a_call(sequential):
    assert once(count) + 1 == once(count)
    assert snapshot() is False


@task(returns=1)
def core(x):
    return "core"


@shoal.implement(source_class=__name__, method="core")
@task(returns=1)
def other(x):
    return "other"


def test_a_repeated_run_chooses_the_same_implementations(run):
    chosen, left = run(lambda: [wait_on(core(i)) for i in range(4)])
    assert len(left) == 4
    # Whatever was faster then, the calls are the same.
    turned = [dict(entry) for entry in left]
    for entry in turned:
        value = shoal._serialize.loads(entry["value"])
        swap = {f"{__name__}.core": f"{__name__}.other", f"{__name__}.other": f"{__name__}.core"}
        entry["value"] = shoal._serialize.dumps(swap[value]).join()
    again, _ = run(lambda: [wait_on(core(i)) for i in range(4)], turned)
    assert again == [{"core": "other", "other": "core"}[name] for name in chosen]


def test_the_checkpoint_of_the_environment_is_told(agent, run, monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOAL_CHECKPOINT", "folder")
    monkeypatch.setenv("SHOAL_CHECKPOINT_POLICY", "finished:5")
    monkeypatch.setenv("SHOAL_CHECKPOINT_AVOID", "app.f, g,")
    assert run(snapshot)[0] is True
    assert agent.hellos[-1][9:12] == [str(tmp_path / "folder"), "finished:5", ["app.f", "g"]]
    assert "shoal: a notice" in capfd.readouterr().err
    monkeypatch.delenv("SHOAL_CHECKPOINT")
    assert run(snapshot)[0] is False
