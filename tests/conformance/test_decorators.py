# Goal: decorators do what they say with and without an agent; what cannot be right is refused where it is written.
# Method: each decorator with the fake agent and sequentially (fixture `both`); refusals by their text.

import importlib
import os
import shutil
import stat
import subprocess
import sys
import time
import types

import pytest

import shoal
from pycompss.functions.elapsed_time import timeit
from shoal import (
    COLLECTION_IN,
    FILE_IN,
    FILE_INOUT,
    FILE_OUT_STDOUT,
    INOUT,
    Depth,
    NotSupportedError,
    Prefix,
    TaskFailedError,
    Type,
    binary,
    constraint,
    data_transformation,
    epilog,
    implement,
    io_task,
    on_failure,
    prolog,
    reduction,
    task,
    wait_on,
    wait_on_file,
)
from shoal.parameter import (
    COLLECTION_TO_FILE,
    COLLECTION_TO_OBJECT,
    DIRECTORY_TO_OBJECT,
    FILE_TO_COLLECTION,
    FILE_TO_OBJECT,
    OBJECT_TO_DIRECTORY,
    OBJECT_TO_FILE,
)

CHUNK = 3


@task(returns=int)
def increment(x):
    return x + 1


# ---- reduction ----
@reduction(chunk_size="2")
@task(returns=1, items=COLLECTION_IN)
def sum_above(start, items):
    return start + sum(items)


@reduction(chunk_size="CHUNK")
@task(returns=1, items={Type: COLLECTION_IN, Depth: 1})
def sum_by_global(items, verbose=False):
    return sum(items)


@task(returns=1, items=COLLECTION_IN, is_reduce=True, chunk_size="$SHOAL_TEST_CHUNK")
def sum_keyword(items):
    return sum(items)


@pytest.mark.parametrize(
    ("call", "items", "calls"), [("sum_above", 8, 7), ("sum_by_global", 9, 4), ("sum_keyword", 16, 5), ("sum_by_global", 3, 1)]
)
def test_reduction_is_a_tree_however_the_chunk_size_is_given(both, monkeypatch, call, items, calls):
    monkeypatch.setenv("SHOAL_TEST_CHUNK", "4")
    numbers = [increment(i) for i in range(items)]
    before = both.tasks if both else 0
    result = globals()[call](0, numbers) if call == "sum_above" else globals()[call](items=numbers)
    assert wait_on(result) == sum(range(1, items + 1))
    if both:
        assert both.tasks - before == calls


def test_reduction_says_what_is_wrong(sequential):
    with pytest.raises(TypeError, match=r"exactly one parameter may be a COLLECTION_IN; there are \['a', 'b'\]"):

        @reduction(chunk_size=2)
        @task(returns=1, a=COLLECTION_IN, b=COLLECTION_IN)
        def two(a, b):
            pass

    with pytest.raises(TypeError, match=r"no option 'chunksize' \(did you mean 'chunk_size'\?\)"):
        reduction(chunksize=2)

    @reduction(chunk_size="NOWHERE")
    @task(returns=1, a=COLLECTION_IN)
    def lost(a):
        pass

    with pytest.raises(ValueError, match="chunk_size='NOWHERE' is neither a number nor a global"):
        lost([1, 2])


# ---- implement ----
@task(returns=1)
def heavy(x):
    time.sleep(0.05)
    return ("slow", x)


@implement(source_class=__name__, method="heavy")
@task(returns=1)
def light(x):
    return ("fast", x)


@implement(source_class=__name__, method="heavy")
@constraint(computing_units=64)
@task(returns=1)
def impossible(x):
    return ("never", x)


def test_implement_takes_what_can_run_and_then_the_fastest(session):
    first = {wait_on(heavy(i))[0] for i in range(2)}
    assert first == {"slow", "fast"}, "each implementation is tried"
    session.knowledge._means_at = 0.0
    assert {wait_on(heavy(i)) for i in range(6)} == {("fast", i) for i in range(6)}
    assert wait_on(light(9)) == ("fast", 9)


def test_implement_without_an_agent_is_the_task_itself(sequential):
    assert heavy(1) == ("slow", 1)


def test_implement_refuses_other_parameters():
    with pytest.raises(TypeError, match=r"other\(x, y\)|has other parameters \(x, y\) than"):

        @implement(source_class=__name__, method="heavy")
        @task(returns=1)
        def other(x, y):
            pass

    from shoal import _steps

    _steps._alternatives[f"{__name__}.heavy"].pop()
    with pytest.raises(TypeError, match=r"no option 'methd' \(did you mean 'method'\?\)"):
        implement(source_class="a", methd="b")


# ---- prolog, epilog, binary ----
@prolog(binary="mkdir", args="-p {{where}}/made")
@epilog(binary="rmdir", args="{{where}}/made")
@task(returns=bool)
def between(where):
    return os.path.isdir(os.path.join(where, "made"))


@prolog(binary="false")
@task(returns=1, on_failure="FAIL")
def never():
    return 1


@epilog(binary="false")
@task(returns=1)
def forgiven():
    return 1


@epilog(binary="false", fail_by_exit_value=True)
@task(returns=1, on_failure="FAIL")
def strict():
    return 1


def test_prolog_and_epilog_run_around_the_task(both, tmp_path):
    assert wait_on(between(str(tmp_path))) is True
    assert not (tmp_path / "made").exists()
    assert wait_on(forgiven()) == 1
    with pytest.raises(TaskFailedError, match="@prolog: false ended with exit value 1"):
        wait_on(never())
    with pytest.raises(TaskFailedError, match="@epilog: false ended with exit value 1"):
        wait_on(strict())


@prolog(binary="cp", params="{{source}} {{copy}}")
@binary(binary="sed", args="'s/a/b c/' {{copy}}")
@task(source=FILE_IN, out=FILE_OUT_STDOUT)
def edited(source, copy, out):
    pass


@epilog(binary="touch", args="{{mark}}")
@binary(binary="sh", args="-c 'exit {{code}}'", fail_by_exit_value=False)
@task(returns=int)
def exits(code, mark):
    pass


def test_prolog_and_epilog_around_a_command(both, tmp_path):
    (tmp_path / "in").write_text("a; $(false)\n")
    edited(str(tmp_path / "in"), str(tmp_path / "it's a copy"), str(tmp_path / "out"))
    wait_on_file(str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "b c; $(false)\n"
    assert wait_on(exits(7, str(tmp_path / "mark"))) == 7
    assert (tmp_path / "mark").exists()


@binary(binary="grep")
@task(pattern={Prefix: "--regexp="}, path=FILE_IN, out={Type: FILE_OUT_STDOUT})
def grep(pattern, path, out):
    pass


def test_binary_with_prefix_and_standard_output(both, tmp_path):
    (tmp_path / "in").write_text("one\ntwo\n")
    grep("two", str(tmp_path / "in"), str(tmp_path / "out"))
    wait_on_file(str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "two\n"


@pytest.mark.parametrize("decorator", [binary, prolog, epilog])
def test_placeholders_are_checked_at_decoration(decorator):
    with pytest.raises(ValueError, match=r"\{\{fil\}\} names no parameter \(did you mean 'file'\?\); there are: file"):

        @decorator(binary="cat", args="{{fil}}")
        @task(file=FILE_IN)
        def show(file):
            pass


# ---- data transformation ----
def to_file(value, path, suffix=""):
    with open(path, "w") as file:
        file.write(f"{value}{suffix}")


def from_file(path):
    with open(path) as file:
        return file.read()


def lines(path):
    with open(path) as file:
        return file.read().split()


def to_directory(value, path):
    os.mkdir(path)
    for name in value:
        with open(os.path.join(path, name), "w") as file:
            file.write(name)


def double(value, factor=2):
    return value * factor


@data_transformation("path", to_file, type=OBJECT_TO_FILE, suffix="{{end}}")
@task(returns=str, path=FILE_IN)
def read_end(path, end):
    return from_file(path) + "|" + end


@data_transformation(target="value", function=from_file, type=FILE_TO_OBJECT)
@task(returns=1)
def upper(value):
    return value.upper()


@data_transformation("words", lines, type=FILE_TO_COLLECTION, size=3)
@task(returns=1, words=COLLECTION_IN)
def joined(words):
    return "+".join(words)


@data_transformation(shoal.DTObject("a", sum, type=None), shoal.DTObject("b", double, factor="{{factor}}"))
@task(returns=1)
def two_transformed(a, b, factor=5):
    return a, b


def total_of(items):
    return sum(items)


@data_transformation("value", total_of, type=COLLECTION_TO_OBJECT)
@data_transformation("text", to_file, type=COLLECTION_TO_FILE)
@task(returns=1, text=FILE_IN)
def mixed(value, text):
    return value, from_file(text)


def listing(path):
    return sorted(os.listdir(path))


@data_transformation("names", listing, type=DIRECTORY_TO_OBJECT)
@task(returns=1)
def count_names(names):
    return names


@data_transformation("place", to_directory, type=OBJECT_TO_DIRECTORY)
@task(returns=1, place=shoal.DIRECTORY_IN)
def look(place):
    return sorted(os.listdir(place))


def by_tasks(value):
    return increment(increment(value))


@data_transformation("a", double, factor=10)
@data_transformation("a", by_tasks, is_workflow=True)
@task(returns=1)
def workflow(a=3):
    return a


@data_transformation()
@task(returns=1)
def per_call(a, b):
    return a, b


def test_transformations_by_workflows_defaults_and_calls(both):
    assert wait_on(workflow()) == 32
    assert wait_on(workflow(1)) == 12
    assert wait_on(per_call(1, 2)) == (1, 2)
    assert wait_on(per_call(1, b=2, dt=shoal.DTObject("a", double))) == (2, 2)
    both_of_them = [shoal.DTObject("a", double), shoal.DTObject("b", double, factor=3)]
    assert wait_on(per_call(1, 2, dt=both_of_them)) == (2, 6)
    with pytest.raises(TypeError, match="no parameter 'c'"):
        per_call(1, 2, dt=shoal.DTObject("c", double))


@binary(binary="ls", args="{{first}} *.txt", working_dir="{{place}}")
@task(out=FILE_OUT_STDOUT)
def wildcards(place, first, out):
    pass


def test_wildcards_of_a_command_are_expanded_and_nothing_else(both, tmp_path):
    for name in ("a.txt", "b.txt", "c d*.dat"):
        (tmp_path / name).write_text("")
    wildcards(str(tmp_path), "c d*.dat", str(tmp_path / "out"))
    wait_on_file(str(tmp_path / "out"))
    assert (tmp_path / "out").read_text().split("\n") == ["a.txt", "b.txt", "c d*.dat", ""]


def test_data_transformations(both, tmp_path):
    (tmp_path / "words").write_text("x y z")
    assert wait_on(read_end(increment(1), "!")) == "2!|!"
    assert wait_on(upper(str(tmp_path / "words"))) == "X Y Z"
    assert wait_on(joined(str(tmp_path / "words"))) == "x+y+z"
    assert wait_on(mixed([increment(1), 5], [1, 2])) == (7, "[1, 2]")
    assert wait_on(count_names(str(tmp_path))) == ["words"]
    assert wait_on(look(["p", "q"])) == ["p", "q"]
    assert wait_on(two_transformed([1, 2], 4, factor=3)) == (3, 12)


def test_data_transformation_says_what_is_wrong():
    with pytest.raises(TypeError, match=r"no parameter 'valu' \(did you mean 'value'\?\)"):

        @data_transformation("valu", from_file)
        @task(returns=1)
        def wrong(value):
            pass

    with pytest.raises(TypeError, match=r"unknown type 'FILE_TO_OBJEKT' \(did you mean 'FILE_TO_OBJECT'\?\)"):
        data_transformation("a", from_file, type="FILE_TO_OBJEKT")
    with pytest.raises(TypeError, match="needs the parameter and the function"):
        data_transformation("a")


# ---- constraints, failure, IO ----
@io_task
@task(returns=1)
def waits():
    return 1


@constraint(ComputingUnits="2", is_local=False, processors=[{"ProcessorType": "CPU", "computingUnits": 3, "architecture": "x"}])
@task(returns=1)
def big():
    return 1


def test_constraints_in_every_spelling(session):
    assert wait_on(waits()) == 1
    assert waits._options.constraints == {"computing_units": "0"}
    assert constraint(storageBW=3) is not None
    assert wait_on(big()) == 1
    assert big._options.constraints == {"computing_units": "3", "processor_architecture": "x"}

    @constraint(memory_type="kind", processor_architecture="other")
    @task(returns=1)
    def typed(kind):
        return kind

    assert wait_on(typed("DRAM")) == "DRAM"
    assert (typed._dynamic, typed._options.constraints) == ({"memory_type": "kind"}, {"processor_architecture": "other"})

    @constraint(computing_units="x")
    @task(returns=1)
    def dynamic(x):
        return x

    with pytest.raises(ValueError, match=r"computing_units='x' of task .*dynamic needs the value of 'x', which is a future"):
        dynamic(increment(1))
    with pytest.raises(TypeError, match=r"no key 'computing_unit' \(did you mean 'computing_units'\?\)"):
        constraint(computing_unit=1)
    with pytest.raises(TypeError, match="is_local must be True or False"):
        constraint(is_local="yes")


@on_failure(management="IGNORE", returns=-1, items=["default"], path=__file__)
@task(returns=int, items=INOUT, path=FILE_INOUT)
def fails(items, path):
    items.append("left")
    raise ValueError("ignored")


def test_on_failure_defaults(both, tmp_path):
    path = tmp_path / "f"
    path.write_text("before")
    items = []
    assert wait_on(fails(items, str(path))) == -1
    assert wait_on(items) == ["default"]
    wait_on_file(str(path))
    assert path.read_text().startswith("# Goal: decorators")


# ---- programs that must be installed ----
def test_programs_that_are_missing_are_refused_at_decoration(monkeypatch):
    from shoal import _programs

    with pytest.raises(NotSupportedError, match=r"@julia needs the Julia interpreter: 'no-julia' is not installed"):
        _programs.julia(script="a.jl", executor="no-julia")
    with pytest.raises(NotSupportedError, match=r"@ompss needs the program that OmpSs compiled: './no' is not"):
        _programs.ompss(binary="./no")
    with pytest.raises(NotSupportedError, match=r"@decaf needs an MPI launcher: 'no-mpirun'"):
        _programs.decaf(df_script="g.py", runner="no-mpirun")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotSupportedError, match="@opencl needs OpenCL: the package 'pyopencl' is not installed"):
        _programs.opencl(kernel="k.cl")
    with pytest.raises(NotSupportedError, match="numba='njit' needs the package numba, which is not installed"):

        @task(returns=1, numba="njit")
        def quick(x):
            return x


def test_programs_that_are_there_run(both, tmp_path):
    from shoal import _programs

    for name, text in {"julia": 'echo julia "$@"', "run.sh": 'echo ran "$1" after $(cat graph)', "mpirun": ""}.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "graph.py").write_text("open('graph', 'w').write('made')")

    @_programs.julia(script="fit.jl", executor=str(tmp_path / "julia"))
    @task(out=FILE_OUT_STDOUT)
    def fit(n, out):
        pass

    @_programs.ompss(binary=str(tmp_path / "julia"), args="-n {{n}}")
    @task(out=FILE_OUT_STDOUT)
    def solve(n, out):
        pass

    @_programs.decaf(
        df_script="graph.py", df_executor="run.sh", runner=str(tmp_path / "mpirun"), working_dir=str(tmp_path), args="{{n}}"
    )
    @task(out=FILE_OUT_STDOUT)
    def flow(n, out):
        pass

    for number, call in enumerate((fit, solve, flow)):
        call(number, str(tmp_path / f"out{number}"))
        wait_on_file(str(tmp_path / f"out{number}"))
    assert (tmp_path / "out0").read_text() == "julia fit.jl 0\n"
    assert (tmp_path / "out1").read_text() == "julia -n 1\n"
    assert (tmp_path / "out2").read_text() == "ran 2 after made\n"


def test_opencl_runs_the_kernel_of_the_functions_name(sequential, monkeypatch, tmp_path):
    np = pytest.importorskip("numpy")
    from shoal import _programs

    cl = types.ModuleType("pyopencl")

    class Program:
        def __init__(self, context, source):
            assert source == "kernel"

        def build(self):
            return types.SimpleNamespace(add=lambda queue, size, local, a, b, c: c.__setitem__(slice(None), a + b))

    cl.create_some_context = lambda interactive: None
    cl.CommandQueue = lambda context: types.SimpleNamespace(finish=lambda: None)
    cl.Program = Program
    cl.mem_flags = types.SimpleNamespace(READ_WRITE=1, COPY_HOST_PTR=2)
    cl.Buffer = lambda context, flags, hostbuf: hostbuf.copy()
    cl.enqueue_copy = lambda queue, target, source: target.__setitem__(slice(None), source)
    cl.__spec__ = importlib.machinery.ModuleSpec("pyopencl", None)
    monkeypatch.setitem(sys.modules, "pyopencl", cl)
    (tmp_path / "add.cl").write_text("kernel")

    @_programs.opencl(kernel="add.cl", working_dir=str(tmp_path))
    @task(c=INOUT)
    def add(a, b, c):
        raise AssertionError("the Python body must not run")

    c = np.zeros(3)
    add(np.ones(3), np.arange(3.0), c)
    assert c.tolist() == [1, 2, 3]


def test_numba_compiles_where_it_is_installed(both, monkeypatch):
    numba = types.ModuleType("numba")
    numba.njit = lambda signature=None, **flags: lambda function: lambda *args: ("compiled", signature, flags, function(*args))
    numba.__spec__ = importlib.machinery.ModuleSpec("numba", None)
    monkeypatch.setitem(sys.modules, "numba", numba)

    @task(returns=1, numba="njit", numba_flags={"parallel": True}, numba_signature="i8(i8)", on_failure="FAIL")
    def quick(x):
        return x + 1

    if both:
        with pytest.raises(NotSupportedError, match="asks for numba, which cannot be imported here"):
            wait_on(quick(1))
    else:
        assert quick(1) == ("compiled", "i8(i8)", {"parallel": True}, 2)
    with pytest.raises(TypeError, match=r"numba='jitt' \(did you mean 'jit'\?\)"):

        @task(numba="jitt")
        def wrong():
            pass


# ---- what is in the wrong place ----
def test_wrong_order_and_wrong_place():
    with pytest.raises(TypeError, match=r"decorators of .*method are in the wrong order: @staticmethod goes above @task"):

        class A:
            @task()
            @staticmethod
            def method():
                pass

    for decorator in (
        constraint(computing_units=2),
        on_failure(management="IGNORE"),
        binary(binary="true"),
        prolog(binary="true"),
        reduction(chunk_size=2),
        implement(source_class="a", method="b"),
        io_task,
    ):
        with pytest.raises(TypeError, match=r"of .*below are in the wrong order: @\w+ goes above @task; from top"):

            @task()
            @decorator
            def below(items=()):
                pass

    with pytest.raises(TypeError, match=r"of .*hidden are in the wrong order: between @constraint and @task .*hidden"):

        @constraint(computing_units=2)
        @timeit()
        @task()
        def hidden():
            pass

    with pytest.raises(TypeError, match=r".*twice has @task twice"):

        @task()
        @task()
        def twice():
            pass

    with pytest.raises(TypeError, match=r"two decorators that say what runs: @binary and @ompss"):
        from shoal import _programs

        @_programs.ompss(binary=shutil.which("true"))
        @binary(binary="true")
        @task()
        def both_kinds():
            pass

    with pytest.raises(TypeError, match="@task decorates functions and methods, not the class .*B"):

        @task()
        class B:
            pass

    with pytest.raises(TypeError, match=r"@constraint takes keywords: @constraint\(computing_units=2\)"):

        @constraint
        @task()
        def no_parentheses():
            pass


def test_a_function_without_task_does_not_run_something_else():
    @binary(binary="true")
    def not_a_task():
        raise AssertionError

    with pytest.raises(TypeError, match=r"@binary of .*not_a_task has no @task: put @task\(…\) directly above"):
        not_a_task()

    @constraint(computing_units=1)
    def plain():
        return 3

    assert plain() == 3


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"retuns": int}, r"'retuns' is neither a parameter .* \(did you mean 'returns'\?\)"),
        ({"colour": INOUT}, r"'colour' is neither .*; parameters: value; options: .*, returns, .*, time_out"),
        ({"valu": INOUT}, r"'valu' is neither .* \(did you mean 'value'\?\)"),
        ({"value": "INOT"}, r"value='INOT' is not a direction \(did you mean 'INOUT'\?\); it is one of .*FILE_IN, "),
        ({"value": {"tipe": INOUT}}, r"value has the unknown key 'tipe' \(did you mean 'type'\?\)"),
        ({"value": {Type: COLLECTION_IN, Depth: 0}}, "value: Depth must be a positive integer, not 0"),
        ({"value": {Type: FILE_IN, shoal.Weight: "heavy"}}, "value: Weight must be a number, not 'heavy'"),
        ({"value": {Type: shoal.IN, shoal.Direction: 9}}, "value: Direction must be IN, OUT, .*, not 9"),
        ({"time_out": "soon"}, "time_out must be a number of seconds, not 'soon'"),
        ({"time_out": -1}, "time_out must be a number of seconds, not -1"),
        ({"time_out": float("inf")}, "time_out must be a number of seconds, not inf"),
        ({"retries": "often"}, "retries must be a whole number from 0 to .*, not 'often'"),
        ({"retries": -1}, "retries must be a whole number from 0 to .*, not -1"),
        ({"returns": -1}, "returns=-1 says neither how many results there are nor what they are; it is a number"),
        ({"returns": 1.5}, "returns=1.5 says neither"),
        ({"on_failure": "RETRI"}, r"unknown failure policy 'RETRI' \(did you mean 'RETRY'\?\)"),
        ({"computing_nodes": 2}, r"computing_nodes > 1 \(multi-node tasks\) is not supported yet"),
    ],
)
def test_wrong_annotations_name_the_task_and_the_nearest_word(keywords, text):
    with pytest.raises((TypeError, ValueError, NotSupportedError), match=rf"@task of .*wrong: {text}"):

        @task(**keywords)
        def wrong(value):
            pass


@constraint(computing_units="${SHOAL_TEST_UNITS}")
@task(returns=1)
def inner(x):
    return x + 1


@task(returns=1, on_failure="FAIL")
def outer(x):
    return inner(x)


def test_variables_of_constraints_are_those_of_the_main_program_inside_tasks(session, monkeypatch):
    monkeypatch.setenv("SHOAL_TEST_UNITS", "1")
    assert wait_on(outer(1)) == 2


def test_destructors_after_the_end_do_not_start_an_application(tmp_path, agent):
    program = """
import shoal
from pycompss.api.api import compss_delete_object
class Holder:
    def __del__(self):
        print(compss_delete_object(self), shoal._runtime.current)
holder = Holder()
shoal.session()
"""
    (tmp_path / "app.py").write_text(program)
    source = os.path.dirname(os.path.dirname(shoal.__file__))
    environment = {**os.environ, "PYTHONPATH": source, "SHOAL_SOCKET": agent.socket}
    command = [sys.executable, "-m", "shoal", str(tmp_path / "app.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False None\n", "")


# ---- what is evaluated per call ----
@constraint(computing_units="parts")
@task(returns="parts")
def split(values, parts=2):
    return values[:parts]


def test_expressions_see_the_defaults_of_parameters(session):
    assert wait_on(split([1, 2, 3])) == [1, 2]
    assert wait_on(split([1, 2, 3], 3)) == [1, 2, 3]
    with pytest.raises(ValueError, match=r"returns='parts' of task .*split cannot be evaluated: "):
        split([1], parts="none")


def test_what_no_command_and_no_label_can_be():
    with pytest.raises(TypeError, match="@binary: args=.* is no command line: No closing quotation"):
        binary(binary="echo", args="it's")
    with pytest.raises(TypeError, match=r"labels must be a dict, such as \{'gpu': 'yes'\}, not 'gpu=yes'"):
        constraint(labels="gpu=yes")
    with pytest.raises(TypeError, match="processors must be a list of dicts, not 'CPU'"):
        constraint(processors="CPU")
