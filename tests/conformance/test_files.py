# Goal: files and directories flow between tasks, and a user's file is never lost or half-written.
# Method: write, change and read files through tasks; look at the user's directory before and after the wait.

import os

import pytest

import shoal
from shoal import (
    COLLECTION_FILE_IN,
    DIRECTORY_IN,
    DIRECTORY_OUT,
    FILE_IN,
    FILE_INOUT,
    FILE_OUT,
    binary,
    delete_file,
    file_exists,
    open_file,
    task,
    wait_on,
    wait_on_directory,
    wait_on_file,
)


@task(path=FILE_OUT)
def write(path, text):
    with open(path, "w") as file:
        file.write(text)


@task(path=FILE_INOUT)
def extend(path, text):
    with open(path, "a") as file:
        file.write(text)


@task(path=FILE_INOUT, on_failure="FAIL")
def spoil(path):
    os.truncate(path, 0)
    raise OSError("disk on fire")


@task(path=FILE_IN, returns=str)
def read(path):
    return "" if path is None else open(path).read()


def test_out_inout_in(session, tmp_path):
    path = str(tmp_path / "data.txt")
    write(path, "a")
    assert file_exists(path)
    extend(path, "b")
    content = read(path)
    assert wait_on(content) == "ab"
    assert not os.path.exists(path)
    wait_on_file(path)
    with open(path) as file:
        assert file.read() == "ab"


def test_program_and_tasks_take_turns(session, tmp_path):
    path = tmp_path / "turns.txt"
    path.write_text("1")
    extend(path, "2")
    with open_file(path, "a") as file:
        file.write("3")
    extend(path, "4")
    assert wait_on(read(path)) == "1234"


def test_failing_inout_leaves_the_users_file_alone(session, tmp_path):
    path = tmp_path / "precious.txt"
    path.write_text("precious")
    spoil(path)
    with pytest.raises(OSError, match="disk on fire"):
        wait_on_file(path)
    assert path.read_text() == "precious"


def test_missing_output_file_is_a_failure(session, tmp_path):
    @task(path=FILE_OUT, on_failure="FAIL")
    def forget(path):
        pass

    forget(tmp_path / "never")
    with pytest.raises(FileNotFoundError, match="did not write its output file, parameter 'path'"):
        wait_on_file(tmp_path / "never")


def test_none_is_a_value_for_a_file(session):
    assert wait_on(read(None)) == ""


def test_not_a_path_is_refused(session):
    with pytest.raises(TypeError, match="'path' of task .*read is a file: pass its path as str, not int"):
        read(3)


@task(paths=COLLECTION_FILE_IN, returns=str)
def join(paths):
    return "".join(open(path).read() for path in paths)


def test_collections_of_files(session, tmp_path):
    names = [str(tmp_path / name) for name in "xy"]
    for name in names:
        write(name, os.path.basename(name))
    assert wait_on(join(names)) == "xy"


@task(directory=DIRECTORY_OUT)
def make_directory(directory):
    os.mkdir(directory)
    with open(os.path.join(directory, "inside"), "w") as file:
        file.write("deep")


@task(directory=DIRECTORY_IN, returns=1)
def list_directory(directory):
    return sorted(os.listdir(directory))


def test_directories(session, tmp_path):
    make_directory(tmp_path / "d")
    assert wait_on(list_directory(tmp_path / "d")) == ["inside"]
    wait_on_directory(tmp_path / "d")
    assert (tmp_path / "d" / "inside").read_text() == "deep"


def test_deleted_file(session, tmp_path):
    path = tmp_path / "gone"
    write(path, "x")
    assert delete_file(path) is True
    assert not file_exists(path)
    kept = tmp_path / "kept"
    kept.write_text("x")
    delete_file(kept)
    session.finish()
    assert not kept.exists()
    assert not path.exists()


def test_deleted_files_go_at_a_barrier(session, tmp_path):
    gone, anew = tmp_path / "gone", tmp_path / "anew"
    for path in (gone, anew):
        path.write_text("x")
        delete_file(path)
    write(anew, "again")
    shoal.barrier()
    assert not gone.exists()
    wait_on_file(anew)
    assert anew.read_text() == "again"


def test_end_of_program_brings_files_home(session, tmp_path):
    write(tmp_path / "late", "home")
    session.finish()
    assert (tmp_path / "late").read_text() == "home"


@binary(binary="sh", args="-c 'cat {{source}}; echo {{word}} {{number}}'")
@task(source=FILE_IN, out=shoal.FILE_OUT_STDOUT)
def command(source, word, number, out):
    pass


@binary(binary="false", fail_by_exit_value=False)
@task(returns=int)
def exit_value():
    pass


@binary(binary="printf")
@task(out=shoal.FILE_OUT_STDOUT, text={shoal.Type: shoal.IN, shoal.Prefix: "pre"})
def print_words(pattern, text, out):
    pass


@task(returns=int)
def five():
    return 5


def run_commands(tmp_path):
    source, out = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("head ")
    command(source, "a word", five(), out)
    words = tmp_path / "words"
    print_words("%s!", "fix", words)
    wait_on_file(out, words)
    assert out.read_text() == "head a word 5\n"
    assert words.read_text() == "prefix!"
    assert wait_on(exit_value()) == 1


def test_commands(session, tmp_path):
    run_commands(tmp_path)


def test_commands_without_an_agent(sequential, tmp_path):
    run_commands(tmp_path)


def test_placeholder_that_names_no_parameter_is_refused():
    with pytest.raises(ValueError, match=r"\{\{typo\}\} names no parameter"):

        @binary(binary="date", args="{{typo}}")
        @task()
        def date():
            pass


def test_nested_lists_of_files_are_answered_in_kind(session, tmp_path):
    here, later, never = (str(tmp_path / name) for name in ("here", "later", "never"))
    (tmp_path / "here").write_text("")
    write_default(later)
    assert shoal.file_exists([here, (later, never)]) == [True, (True, False)]
    assert shoal.wait_on_file([here, (later,)], never) == [[here, (later,)], never]
    assert shoal.delete_file((here, [later])) == (True, [True])
    assert shoal.file_exists(here, later) == [False, False]


@shoal.task(path=shoal.FILE_OUT)
def write_default(path="default.txt", *, text="text"):
    with open(path, "w") as file:
        file.write(text)


@shoal.task(path=shoal.FILE_OUT)
def write_maybe(i, path=None):
    if path is not None:
        write_default.function(path, text=str(i))


def test_a_file_that_is_left_to_its_default_is_the_programs(session, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_default()
    write_maybe(1)
    write_maybe(2, "given.txt")
    shoal.wait_on_file("default.txt", "given.txt")
    assert (tmp_path / "default.txt").read_text() == "text"
    assert (tmp_path / "given.txt").read_text() == "2"
