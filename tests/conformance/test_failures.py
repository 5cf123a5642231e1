# Goal: what a task raises arrives at the wait as it is; policies, groups and time-outs do what they promise; misuse and a
# lost agent give errors that say what to do.
# Method: tasks that fail in every way an executor can see, against the fake agent.

import os
import re
import signal
import sys
import threading
import time

import pytest

import shoal
from shoal import (
    INOUT,
    COMPSsException,
    TaskCancelledError,
    TaskFailedError,
    TaskGroup,
    TaskTimeoutError,
    barrier,
    barrier_group,
    cancel_group,
    on_failure,
    task,
    wait_on,
)
from shoal.errors import text_of


class OwnError(Exception):
    def __init__(self, code, detail):
        super().__init__(code, detail)
        self.code = code


class Demanding(Exception):
    def __init__(self, *, needed):
        super().__init__(f"needed {needed}")
        self.lock = threading.Lock()


@task(returns=1, on_failure="FAIL")
def fail(how):
    if how == "own":
        raise OwnError(7, "seven")
    if how == "demanding":
        raise Demanding(needed=3)
    if how == "exit":
        sys.exit(3)
    if how == "close":
        sys.stdout.close()
        return 1
    if how == "die":
        os._exit(9)
    return {}["missing"]


@task(returns=1)
def after(x):
    return x


def test_original_exception_with_remote_traceback(session):
    with pytest.raises(OwnError) as caught:
        wait_on(fail("own"))
    assert caught.value.code == 7
    assert 'raise OwnError(7, "seven")' in str(caught.value.__cause__)
    assert "_attempt.py" not in str(caught.value.__cause__)
    with pytest.raises(KeyError, match="missing"):
        wait_on([fail("key")])


def test_successors_fail_with_the_cause(session):
    with pytest.raises(OwnError):
        wait_on(after(after(fail("own"))))


def test_exception_that_does_not_pickle(session):
    with pytest.raises(TaskFailedError, match="Demanding: needed 3") as caught:
        wait_on(fail("demanding"))
    assert "raise Demanding" in str(caught.value.__cause__)


def test_ending_or_breaking_the_process_is_a_failure(session):
    with pytest.raises(RuntimeError, match="ended with SystemExit: 3"):
        wait_on(fail("exit"))
    with pytest.raises(RuntimeError, match="closed its standard output"):
        wait_on(fail("close"))
    assert wait_on(after(1)) == 1
    with pytest.raises(TaskFailedError, match="process ended"):
        wait_on(fail("die"))
    assert wait_on(after(2)) == 2


def test_barrier_raises_what_nobody_saw_and_only_once(session):
    fail("own")
    with pytest.raises(OwnError):
        barrier()
    barrier()


@task(returns=1, retries=2)
def flaky(path):
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) < 3:
        raise OSError("not yet")
    return os.path.getsize(path)


def test_retry(session, tmp_path):
    assert wait_on(flaky(str(tmp_path / "count"))) == 3


@on_failure(management="IGNORE", returns=-1, items=["default"])
@task(returns=int, items=INOUT)
def ignored(items):
    items.append("left")
    raise ValueError("ignored")


@task(items=INOUT, returns=1, on_failure="IGNORE")
def ignored_without_default(items):
    items.append("left")
    raise ValueError("ignored")


def test_ignore_keeps_what_was_left_or_the_default(session):
    items = []
    assert wait_on(ignored(items)) == -1
    assert wait_on(items) == ["default"]
    others = []
    assert wait_on(ignored_without_default(others)) is None
    assert wait_on(others) == ["left"]
    barrier()


def test_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="unknown failure policy 'SHRUG'; known: RETRY, FAIL"):
        on_failure(management="SHRUG")


@task(returns=1, time_out=0.1, on_failure="FAIL")
def slow():
    try:
        time.sleep(30)
    except Exception:
        return "swallowed"


def test_time_out(session):
    begin = time.monotonic()
    with pytest.raises(TaskTimeoutError, match=r"time_out of 0\.1 s"):
        wait_on(slow())
    assert time.monotonic() - begin < 10


@task()
def raise_group(text):
    raise COMPSsException(text)


def test_group_exception_cancels_the_group_and_arrives_at_its_barrier(session):
    with pytest.raises(COMPSsException, match="stop") as caught, TaskGroup("outer"):
        raise_group("stop")
        later = after(1)
    assert caught.value.message == "stop"
    with pytest.raises(TaskCancelledError):
        wait_on(later)
    assert wait_on(after(3)) == 3


def test_explicit_group_barrier(session):
    with TaskGroup("plain", implicit_barrier=False), TaskGroup("inner", False):
        value = after(1)
        raise_group("inside")
    with pytest.raises(COMPSsException, match="inside"):
        barrier_group("inner")
    assert wait_on(value) == 1


@task(returns=1)
def wait_forever():
    return wait_on(sleep_long())


@task(returns=1)
def sleep_long():
    time.sleep(60)


def test_cancel_group(session):
    with TaskGroup("doomed", implicit_barrier=False):
        first = after(1)
        second = [after(first) for _ in range(3)]
    wait_on(first)
    cancel_group("doomed")
    barrier_group("doomed")
    assert len(second) == 3


def test_argument_that_cannot_be_pickled_is_named(session):
    with pytest.raises(TypeError, match=r"argument 'x' of task .*after cannot be sent to an executor: a lock"):
        after(threading.Lock())
    with pytest.raises(TypeError, match="argument 'items' of task .*ignored cannot be sent"):
        ignored([threading.Lock()])
    assert wait_on(after(1)) == 1


def test_function_that_cannot_be_pickled_is_named(session):
    lock = threading.Lock()

    @task(returns=1)
    def uses_lock():
        return lock

    with pytest.raises(TypeError, match="function of task .*uses_lock cannot be sent"):
        uses_lock()


def test_result_that_cannot_be_pickled_is_the_tasks_failure(session):
    @task(returns=1, on_failure="FAIL")
    def make_lock():
        return threading.Lock()

    with pytest.raises(TypeError, match=r"the result of the task cannot be sent: a lock .* \(cannot pickle '_thread.lock'"):
        wait_on(make_lock())

    @task(items=INOUT, on_failure="FAIL")
    def fill(items):
        items.append(threading.Lock())

    items = []
    fill(items)
    with pytest.raises(TypeError, match=r"parameter 'items' of the task cannot be sent: a list that cannot be pickled"):
        wait_on(items)


def test_misused_future_says_what_to_do(session):
    future = after(1)
    with pytest.raises(TypeError, match="no truth value before wait_on"):
        bool(future)
    with pytest.raises(AttributeError, match=r"Call wait_on\(\)"):
        future.shape  # noqa: B018
    wait_on(future)


def test_nobody_answers(tmp_path):
    with pytest.raises(ConnectionError, match="no agent answers at .* Start one with `shoal up`"):
        shoal.connect(str(tmp_path / "nothing.sock"))


def test_agent_goes_away():
    from fake_agent import FakeAgent
    from shoal import _runtime

    with FakeAgent() as agent:
        session = shoal.connect(agent.socket)
        try:
            future = after(1)
            wait_on(future)
            pending = after(2)
            agent.stop()
            with pytest.raises(ConnectionError, match="connection to the agent at .* is gone .*`shoal up`"):
                wait_on(pending)
        finally:
            _runtime.current = None
            session.close()


def test_circular_and_deep_arguments(session):
    ring = [1]
    ring.append(ring)
    back = wait_on(after(ring))
    assert back[1] is back
    wait_on(after(after(ring)))
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TypeError, match=r"argument 'x' of task .*after cannot be sent to an executor: a list that cannot be"):
        after(deep)
    assert wait_on(after(1)) == 1


def test_the_remote_traceback_names_the_task_and_its_process(session):
    with pytest.raises(OwnError) as caught:
        wait_on(fail("own"))
    where = r"in task \d+ \(test_failures\.fail\) on agent \w{8}, process \d+ on .*; `shoal logs (\w+) \d+` shows its output"
    found = re.search(where, str(caught.value.__cause__))
    assert found is not None and session.app.hex().startswith(found.group(1))


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@task(returns=1, on_failure="FAIL")
def raise_odd(how):
    if how == "unspeakable":
        raise Unspeakable
    if how == "surrogate":
        raise ValueError("\ud800 is no UTF-8")
    raise ValueError("x" * (80 << 20))


@pytest.mark.parametrize(
    ("how", "text"),
    [("unspeakable", "text cannot be shown"), ("surrogate", "is no UTF-8"), ("large", "\n… 83820544 characters left out …\n")],
)
def test_exceptions_that_cannot_be_told_as_they_are(session, how, text):
    before = wait_on(process_of())
    with pytest.raises(Exception) as caught:  # whatever it is: its text is looked at below
        wait_on(raise_odd(how))
    assert text in (text_of(caught.value) if how == "unspeakable" else str(caught.value))
    assert wait_on(process_of()) == before  # the executor outlived it


@task(returns=1)
def process_of():
    return os.getpid()


@task(returns=1, on_failure="FAIL")
def damage(what):
    if what == "close":
        os.close(1)  # prints nothing: nobody notices but the next to open a file
    elif what == "replace":
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, 1)
        os.close(descriptor)
        time.sleep(0.001)
    else:
        for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    return os.getpid()


@task(returns=1)
def standard_output():
    facts = os.fstat(1)
    return facts.st_dev, facts.st_ino


@task(returns=1)
def handlers():
    return [signal.getsignal(number) is signal.SIG_IGN for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGUSR2)]


def test_a_task_leaves_the_process_to_the_next_as_it_found_it(session):
    process, output = wait_on(process_of()), wait_on(standard_output())
    with pytest.raises(RuntimeError, match="closed its standard output"):
        wait_on(damage("close"))
    assert (wait_on(process_of()), wait_on(standard_output())) == (process, output)
    assert wait_on(damage("replace")) == process
    assert (wait_on(process_of()), wait_on(standard_output())) == (process, output)
    assert wait_on(damage("signals")) == process
    assert wait_on(handlers()) == [False] * 3
    with pytest.raises(TaskTimeoutError):
        wait_on(slow())
    assert wait_on(process_of()) == process


@task(returns=1)
def fork(i, how):
    child = os.fork()
    if child == 0:
        if how == "return":
            return bytes(100_000)  # goes to shared memory, under a name of the parent's
        if how == "raise":
            raise ValueError("in the child")
        if how == "exit":
            sys.exit(7)
        if how == "task":
            os._exit(wait_on(after(40)))  # runs in the child: it has no connection
    return i, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), bytes(100_000)


@pytest.mark.parametrize(("how", "code"), [("return", 0), ("raise", 1), ("exit", 7), ("task", 40)])
def test_a_child_that_a_task_forks_does_not_go_on_as_the_executor(session, how, code):
    for repeat in range(3):
        results = wait_on([fork(i, how) for i in range(4)])
        assert [result[:2] for result in results] == [(i, code) for i in range(4)], repeat
    assert wait_on([after(i) for i in range(20)]) == list(range(20))


@task(returns=1, on_failure="FAIL")
def publish_in_a_child():
    child = os.fork()
    if child == 0:
        try:
            shoal.put(1)
        except shoal.ShoalError as error:
            os._exit(3 if "has no connection of its own" in str(error) else 4)
        os._exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_is_told_that_it_has_no_store(session):
    assert wait_on(publish_in_a_child()) == 3


def test_a_wrong_number_of_results_names_the_task(session):
    @task(returns=2, on_failure="FAIL")
    def one():
        return 1

    with pytest.raises(TypeError, match=r"the task .*one declares 2 results but returned one int"):
        wait_on(one())

    @task(returns=2, on_failure="FAIL")
    def none():
        pass

    with pytest.raises(TypeError, match=r"the task .*none declares 2 results but returned None"):
        wait_on(none())
