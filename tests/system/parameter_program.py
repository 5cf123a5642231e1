"""A PyCOMPSs program that uses every kind of parameter, direction and result; run by test_pycompss.py over two agents."""

import os
import pathlib
import sys

import numpy as np

from pycompss.api.api import (
    TaskGroup,
    compss_barrier,
    compss_delete_file,
    compss_file_exists,
    compss_open,
    compss_wait_on,
    compss_wait_on_directory,
    compss_wait_on_file,
)
from pycompss.api.parameter import (
    COLLECTION,
    COLLECTION_FILE_IN,
    COLLECTION_FILE_INOUT,
    COLLECTION_FILE_OUT,
    COLLECTION_IN,
    COLLECTION_IN_DELETE,
    COLLECTION_INOUT,
    COLLECTION_OUT,
    COMMUTATIVE,
    DICTIONARY_IN,
    DICTIONARY_IN_DELETE,
    DICTIONARY_INOUT,
    DICTIONARY_OUT,
    DIRECTORY,
    DIRECTORY_IN,
    DIRECTORY_OUT,
    FILE,
    FILE_COMMUTATIVE,
    FILE_IN,
    FILE_OUT,
    IN,
    INOUT,
    Depth,
    Direction,
    Type,
)
from pycompss.api.task import Task, task

ONE_MORE = 3


class Box:
    def __init__(self, value=0):
        self.value = value

    @task(returns=int)
    def get(self):
        return self.value

    @task()
    def bump(self, by=1):
        self.value += by

    @task(returns=int, targetDirection=IN)
    def peek(self):
        return self.value

    @task(target_direction=COMMUTATIVE)
    def mix(self, by):
        self.value += by

    @classmethod
    @task(returns=str)
    def kind(cls):
        return cls.__name__

    @staticmethod
    @task(returns=int)
    def plus(a, b):
        return a + b


class Crate(Box):
    @task()
    def bump(self, by=1):
        self.value += 10 * by


@task(returns=int)
def one(x):
    return x


@task(returns=Box)
def make(value):
    return Box(value)


def objects():
    box = Box(5)
    box.bump()
    box.bump(by=2)
    assert compss_wait_on(box.peek()) == 8
    for by in (1, 2):
        box.mix(by)
    box = compss_wait_on(box)
    assert box.value == 11
    assert compss_wait_on(Box.kind(), Crate.kind(), box.plus(1, b=one(2))) == ["Box", "Crate", 3]
    crate = Crate(1)
    crate.bump()
    assert compss_wait_on(crate.get()) == 11
    made = make(4)  # tasks that are methods can be called on a result that is not here yet
    made.bump()
    assert compss_wait_on(made).value == 5


@task(items={Type: COLLECTION_IN, Depth: 2}, returns=1)
def total(items):
    return sum(sum(row) for row in items)


@task(boxes={Type: COLLECTION_INOUT, Depth: 3})
def raise_all(boxes):
    for plane in boxes:
        for row in plane:
            for box in row:
                box.value += 1


@task(boxes={Type: COLLECTION, Direction: COMMUTATIVE})
def mix_all(boxes):
    for box in boxes:
        box.value += 1


@task(boxes={Type: COLLECTION_OUT, Depth: 2})
def number(boxes):
    for i, row in enumerate(boxes):
        for j, box in enumerate(row):
            box.value = 10 * i + j


@task(boxes=COLLECTION_IN_DELETE, returns=1)
def count(boxes):
    return len(boxes)


@task(arrays=COLLECTION_INOUT)
def grow(arrays):
    for array in arrays:
        array += 1


@task(array=INOUT)
def double(array):
    array *= 2


def collections():
    assert compss_wait_on(total([[one(1), one(2)], [one(3)]])) == 6
    deep = [[[Box(1)], [Box(2), Box(3)]]]
    raise_all(deep)
    deep[0][1][1].bump()
    assert compss_wait_on(deep)[0][1][1].value == 5
    boxes = [Box(i) for i in range(3)]
    for _ in range(4):
        mix_all(boxes)
    boxes[0].mix(1)
    assert [box.value for box in compss_wait_on(boxes)] == [5, 5, 6]
    rows = [[Box(), Box()], [Box()]]
    number(rows)
    assert compss_wait_on(rows[1][0].get()) == 10
    assert compss_wait_on(count([Box(), Box()])) == 2
    arrays = [np.zeros(30_000), np.zeros(3)]
    grow(arrays)
    double(arrays[0])
    arrays = compss_wait_on(arrays)
    assert arrays[0].sum() == 60_000 and arrays[1].sum() == 3


@task(items={Type: DICTIONARY_IN, Depth: 2}, returns=1)
def total_of(items):
    return sum(sum(part.values()) for part in items.values())


@task(items={Type: DICTIONARY_INOUT, Depth: 3})
def raise_parts(items):
    for part in items.values():
        for row in part.values():
            for box in row:
                box.value += 1


@task(items=DICTIONARY_OUT)
def name(items):
    for key, box in items.items():
        box.value = len(key)


@task(items=DICTIONARY_IN_DELETE, returns=1)
def keys(items):
    return sorted(items)


def dictionaries():
    assert compss_wait_on(total_of({"x": {"a": one(1)}, "y": {"b": one(2)}})) == 3
    parts = {"x": {"a": [Box(1), Box(2)]}, "y": {"b": [Box(3)]}}
    raise_parts(parts)
    raise_parts(parts)
    parts["y"]["b"][0].bump()
    parts = compss_wait_on(parts)
    assert [box.value for box in parts["x"]["a"]] == [3, 4] and parts["y"]["b"][0].value == 6
    named = {"a": Box(), "bb": Box()}
    name(named)
    assert compss_wait_on(named)["bb"].value == 2
    assert compss_wait_on(keys({"q": Box()})) == ["q"]


@task(path=FILE_IN, returns=str)
def read(path):
    with open(path) as file:
        return file.read()


@task(path=FILE_OUT)
def write(path, text):
    with open(path, "w") as file:
        file.write(text)


@task(path={Type: FILE, Direction: INOUT})
def append(path, text):
    with open(path, "a") as file:
        file.write(text)


@task(path=FILE_COMMUTATIVE)
def mix_file(path, text):
    with open(path, "a") as file:
        file.write(text)


@task(paths={Type: COLLECTION_FILE_IN, Depth: 2}, returns=1)
def read_all(paths):
    return ["".join(pathlib.Path(path).read_text() for path in row) for row in paths]


@task(paths=COLLECTION_FILE_OUT)
def write_all(paths):
    for index, path in enumerate(paths):
        pathlib.Path(path).write_text(str(index))


@task(paths=COLLECTION_FILE_INOUT)
def append_all(paths):
    for path in paths:
        with open(path, "a") as file:
            file.write("+")


@task(path=FILE_IN, returns=bool)
def is_none(path=None):
    return path is None


def files():
    write("f", "a")
    append("f", "b")
    for text in "xyz":
        mix_file("f", text)
    assert sorted(compss_wait_on(read("f"))) == sorted("abxyz")
    paths = ["c0", "c1"]
    write_all(paths)
    append_all(paths)
    append("c1", "!")
    assert compss_wait_on(read_all([["c0"], ["c1"]])) == ["0+", "1+!"]
    compss_wait_on_file(paths)
    assert pathlib.Path("c1").read_text() == "1+!"
    for mode, text in (("a", "?"), ("w", "new"), ("r+", "N")):
        with compss_open("c1", mode) as file:
            file.write(text)
    assert compss_wait_on(read("c1")) == "New"
    write(path=pathlib.Path("a folder") / "ü file", text="3")
    assert compss_wait_on(read("./a folder/ü file")) == "3"
    assert compss_wait_on(is_none(None), is_none()) == [True, True]
    assert compss_file_exists("c0", "never") == [True, False]
    reader = read("c0")
    assert compss_delete_file("c0") is True
    assert compss_file_exists("c0") is False
    compss_barrier()
    assert not os.path.exists("c0"), "deleted once nobody reads it any more"
    assert compss_wait_on(reader) == "0+"


@task(path=DIRECTORY_OUT)
def plant(path):
    os.makedirs(path, exist_ok=True)
    pathlib.Path(path, "x").touch()


@task(path={Type: DIRECTORY, Direction: INOUT})
def extend(path):
    pathlib.Path(path, "y").touch()


@task(path=DIRECTORY_IN, returns=1)
def listed(path):
    return sorted(os.listdir(path))


def directories():
    plant("tree")
    extend("tree/")
    assert compss_wait_on(listed("tree")) == ["x", "y"]
    compss_wait_on_directory("tree")
    assert sorted(os.listdir("tree")) == ["x", "y"]


@task(returns=1, varargsType=FILE_IN)
def read_each(*paths):
    return [pathlib.Path(path).read_text() for path in paths]


@task(varargs_type=INOUT)
def bump_each(*boxes):
    for box in boxes:
        box.value += 1


@task(returns=1)
def bound(a, b=2, *args, c=3, **kwargs):
    return a, b, args, c, kwargs


def arguments():
    pathlib.Path("v").write_text("1")
    assert compss_wait_on(read_each("v", "v")) == ["1", "1"]
    x, y = Box(1), Box(2)
    bump_each(x, y)
    assert [box.value for box in compss_wait_on(x, y)] == [2, 3]
    assert compss_wait_on(bound(1)) == (1, 2, (), 3, {})
    assert compss_wait_on(bound(1, one(5), 6, 7, c=8, z=one(9))) == (1, 5, (6, 7), 8, {"z": 9})
    assert compss_wait_on(bound(b=4, a=one(3))) == (3, 4, (), 3, {})


@task(returns="ONE_MORE")
def of_global():
    return range(ONE_MORE)


@task(returns="{{n}}")
def of_template(n):
    return list(range(n))


@task(returns="value_of(box.value)")
def of_attribute(box):
    return list(range(box.value))


@Task(returns="2")
def of_text():
    return 1, 2


@task(returns=(int, str))
def of_types():
    return 1, "a"


@task
def of_code(x):
    return x, x + 1


@task()
def of_hint(x) -> int:
    return x


def results():
    assert compss_wait_on(of_global()) == [0, 1, 2]
    assert compss_wait_on(of_template(4)) == [0, 1, 2, 3]
    assert compss_wait_on(of_attribute(Box(2))) == [0, 1]
    assert compss_wait_on(of_text()) == [1, 2]
    assert compss_wait_on(of_types()) == [1, "a"]
    assert compss_wait_on(of_code(1)) == [1, 2]
    assert compss_wait_on(of_hint(4)) == 4


@task(returns=1)
def nested(n, path):
    boxes = [Box(i) for i in range(n)]
    mix_all(boxes)
    write(path, "text")
    with TaskGroup("inner"):
        parts = [one(i) for i in range(n)]
    return sum(box.value for box in compss_wait_on(boxes)), compss_wait_on(read(path)), sum(compss_wait_on(parts))


def nesting():
    assert compss_wait_on(nested(3, os.path.abspath("inside"))) == (6, "text", 3)


for case in (objects, collections, dictionaries, files, directories, arguments, results, nesting):
    case()
    print(case.__name__, flush=True)
print("all is well", sys.argv[1:])
