# Goal: a sequential program with tasks computes what it would compute without them.
# Method: small programs against the fake agent and a real executor process; every direction, collection and result form.

import dataclasses
import threading

import pytest

import shoal
from shoal import (
    COLLECTION_IN,
    COLLECTION_INOUT,
    COLLECTION_OUT,
    COMMUTATIVE,
    CONCURRENT,
    DICTIONARY_IN,
    DICTIONARY_INOUT,
    IN_DELETE,
    INOUT,
    OUT,
    Depth,
    Future,
    Type,
    delete_object,
    task,
    wait_on,
)


@task(returns=int)
def add(a, b=10, *rest, scale=1):
    return (a + b + sum(rest)) * scale


@task(returns=2)
def divide(a, b):
    return a // b, a % b


@task(a=INOUT)
def append(a, item):
    a.append(item)


@dataclasses.dataclass
class Box:
    content: list = dataclasses.field(default_factory=list)

    @task()
    def insert(self, item):
        self.content.append(item)

    @task(returns=int, target_direction=shoal.IN)
    def count(self):
        return len(self.content)

    @staticmethod
    @task(returns=1)
    def twice(x):
        return 2 * x

    @classmethod
    @task(returns=1)
    def named(cls, x):
        return cls.__name__ + x


@task(returns=Box)
def make_box(item):
    return Box([item])


def test_results_and_chains(session):
    futures = [add(i, i) for i in range(5)]
    assert all(isinstance(f, Future) for f in futures)
    assert wait_on(futures) == [0, 2, 4, 6, 8]
    assert wait_on(add(add(1), add(2, b=2, scale=3))) == 23
    quotient, remainder = divide(17, 5)
    assert wait_on(quotient, remainder) == [3, 2]
    assert add(1, 2, 3, 4).result() == 10


def test_argument_errors_are_pythons_own(session):
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        add()
    with pytest.raises(TypeError, match="unexpected keyword"):
        add(1, colour=2)


def test_inout_object_is_updated_in_place(session):
    items = [1]
    append(items, 2)
    append(items, add(1, 2))
    total = sum_of(items)
    assert wait_on(total) == 6
    same = wait_on(items)
    assert same is items
    assert items == [1, 2, 3]


@task(returns=int)
def sum_of(items):
    return sum(items)


@task(c=OUT)
def fill(c):
    c.extend([7, 8])


@task(c=CONCURRENT, d=COMMUTATIVE)
def both(c, d):
    d.append(len(c))


def test_out_concurrent_commutative_and_delete(session):
    target = []
    fill(target)
    counts = []
    both(target, counts)
    both(target, counts)
    assert wait_on(counts) == [2, 2]
    assert wait_on(target) == [7, 8]
    assert wait_on(consume(append_result([1]))) == 1


@task(returns=list)
def append_result(x):
    return [*x, 2]


@task(returns=1, a=IN_DELETE)
def consume(a):
    return a[0]


def test_methods(session):
    box = Box()
    box.insert("a")
    box.insert("b")
    assert wait_on(box.count()) == 2
    assert wait_on(box).content == ["a", "b"]
    assert box.content == ["a", "b"]
    assert wait_on(Box.twice(4)) == 8
    assert wait_on(Box.named("!")) == "Box!"


def test_methods_of_a_future_object(session):
    box = make_box(1)
    box.insert(2)
    assert wait_on(box.count()) == 2
    assert wait_on(box).content == [1, 2]


@task(returns=int, blocks=COLLECTION_IN)
def total(blocks):
    return sum(sum(row) for row in blocks)


@task(blocks={Type: COLLECTION_INOUT, Depth: 2})
def scale(blocks, factor):
    for row in blocks:
        for j in range(len(row)):
            row[j] = row[j] * factor


@task(blocks={Type: COLLECTION_OUT, Depth: 2})
def produce(blocks):
    for i, row in enumerate(blocks):
        for j in range(len(row)):
            row[j] = [i, j]


def test_collections_of_futures(session):
    assert wait_on(total([[add(1, 1), 2], [add(3, 3)]])) == 10


def test_collection_out_fills_placeholders(session):
    blocks = [[object() for _ in range(2)] for _ in range(2)]
    produce(blocks)
    corner = first_of(blocks[1][1])
    assert wait_on(corner) == 1
    assert wait_on(blocks) == [[[0, 0], [0, 1]], [[1, 0], [1, 1]]]


@task(returns=1)
def first_of(x):
    return x[0]


def test_collection_inout_of_plain_numbers(session):
    blocks = [[1, 2], [3]]
    scale(blocks, 10)
    single = add(blocks[0][1], 0)
    assert wait_on(single) == 20
    assert wait_on(blocks) == [[10, 20], [30]]


def test_elements_and_collection_depend_on_each_other(session):
    parts = [[1], [2]]
    append(parts[0], 5)
    grow(parts)
    assert wait_on(total(parts)) == 10
    assert wait_on(parts) == [[1, 5, 1], [2, 1]]


@task(parts={Type: COLLECTION_INOUT, Depth: 1})
def grow(parts):
    for part in parts:
        part.append(1)


@task(returns=int, d=DICTIONARY_IN)
def dict_sum(d):
    return sum(d.values())


@task(d=DICTIONARY_INOUT)
def dict_double(d):
    for key in d:
        d[key] *= 2


def test_dictionaries(session):
    assert wait_on(dict_sum({"a": add(1, 1), "b": 5})) == 7
    values = {"a": 1, "b": 2}
    dict_double(values)
    assert wait_on(values) == {"a": 2, "b": 4}


@task(returns=1)
def look_inside(thing, pair):
    return thing.content[0]["x"] + pair[1][0]


def test_futures_are_found_in_lists_and_attributes(session):
    box = Box([{"x": add(1, 1)}])
    assert wait_on(look_inside(box, (0, [add(2, 2)]))) == 6


def test_wait_on_keeps_containers(session):
    nested = {"a": [add(1, 1), (add(2, 2), "text")]}
    assert wait_on(nested) == {"a": [2, (4, "text")]}
    plain = [1, [2]]
    assert wait_on(plain) is plain


def test_released_when_the_last_handle_goes(session, agent):
    future = add(1, 1)
    datum = future._datum
    wait_on(future)
    del future
    wait_on(add(1, 1))
    assert datum in agent.released
    assert delete_object([1]) is False


def test_user_threads_may_submit_and_wait(session):
    results = {}

    def work(base):
        results[base] = wait_on([add(base, i) for i in range(30)])

    threads = [threading.Thread(target=work, args=(base,)) for base in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {base: [base + i for i in range(30)] for base in range(4)}


def test_a_thread_is_not_held_up_by_another_that_waits(session):
    stream = shoal.ObjectStream()
    stream.poll()
    ended = []
    thread = threading.Thread(target=lambda: ended.append(stream.poll(timeout=30)))
    thread.start()
    for i in range(50):
        assert wait_on(add(i, 1)) == i + 1
    assert ended == []
    stream.publish("now")
    thread.join(10)
    assert ended == [["now"]]


def test_many_data_in_one_wait(session):
    futures = [add(i, 0) for i in range(2100)]
    assert wait_on(futures) == list(range(2100))


@task
def no_return(x):
    x + 1


@task
def one_return(x):
    return x + 1


@task
def pair_return(x):
    if x:
        return x, 1
    return x, 2


@task
def hinted(x) -> "tuple[int, str]":
    raise NotImplementedError


@task(returns="{{n}}")
def dynamic(n):
    return list(range(n))


@task(returns=1)
def generate(n):
    yield from range(n)


@task(returns=1)
async def coroutine(n):
    return n + 1


def test_number_of_results(session):
    assert no_return(1) is None
    assert wait_on(one_return(1)) == 2
    assert wait_on(pair_return(0)) == [0, 2]
    assert len(hinted(1)) == 2
    assert wait_on(dynamic(3)) == [0, 1, 2]
    assert list(wait_on(generate(3))) == [0, 1, 2]
    assert wait_on(coroutine(1)) == 2


def test_wrong_number_of_results_is_an_error(session):
    @task(returns=3, on_failure="FAIL")
    def liar():
        return 1, 2

    with pytest.raises(ValueError, match="declares 3 results but returned 2"):
        wait_on(liar())


def test_typo_in_a_parameter_name_is_refused():
    with pytest.raises(TypeError, match="'colour' is neither a parameter"):

        @task(colour=INOUT)
        def paint(color):
            pass


@task(returns=int)
def fib(n):
    if n < 2:
        return n
    return sum(wait_on([fib(n - 1), fib(n - 2)]))


@task(a=INOUT)
def nested_append(a, n):
    for i in range(n):
        append(a, i)


@task(returns=1)
def returns_future(x):
    return [add(x, 1), "kept"]


def test_nested_tasks(session, agent):
    assert wait_on(fib(3)) == 2
    assert any(hello[6] is not None for hello in agent.hellos)
    items = []
    nested_append(items, 3)
    assert wait_on(items) == [0, 1, 2]
    assert wait_on(returns_future(1)) == [2, "kept"]


def test_local_runs_in_the_main_program(session):
    @shoal.local
    def here(x):
        return threading.current_thread() is threading.main_thread() and x

    assert here(add(1, 1)) == 2


def test_reduction_builds_a_tree(session):
    @shoal.reduction(chunk_size=2)
    @task(returns=1, items=COLLECTION_IN)
    def combine(items):
        return sum(items)

    before = session.tasks
    assert wait_on(combine([add(i, 0) for i in range(4)])) == 6
    assert session.tasks - before == 7


def test_function_in_an_imported_module_goes_by_reference(session):
    from pycompss.functions.reduce import merge_reduce

    assert wait_on(merge_reduce(add, [1, 2, 3, 4, 5])) == 15


@shoal.constraint(computing_units="units * 2", memory_size="${SHOAL_TEST_MEMORY}", labels={"zone": "a"})
@task(returns=1)
def constrained(units):
    return units


def test_constraints_reach_the_agent(session, monkeypatch):
    monkeypatch.setenv("SHOAL_TEST_MEMORY", "3")
    assert wait_on(constrained(1)) == 1
    assert constrained._options.constraints == {"memory_size": "3", "label.zone": "a"}
    with pytest.raises(TypeError, match="no key 'gpu_count'"):
        shoal.constraint(gpu_count=1)


@task(returns=1)
def rest_of(generator, n):
    return [next(generator) for _ in range(n)]


@task(returns=1)
def keeps(thing):
    return thing


def test_generators_and_lambdas_travel_as_arguments(session):
    def count():
        yield from range(5)

    generator = count()
    next(generator)
    assert wait_on(rest_of(generator, 3)) == [1, 2, 3]
    assert wait_on(rest_of((x * x for x in range(4)), 2)) == [0, 1]
    assert wait_on(keeps(lambda x: x + 1))(2) == 3


@task(elements=COLLECTION_OUT)
def modify_inner(elements):
    for element in elements:
        element[0].content.append("new")


def test_lists_in_written_collections_keep_their_shape(session):
    elements = [[Box()] for _ in range(3)]
    modify_inner(elements)
    assert [element[0].content for element in wait_on(elements)] == [["new"]] * 3


@task(elements=shoal.DICT_COLLECTION_INOUT)
def grow_values(elements):
    for key in elements:
        elements[key] = [x + 1.0 for x in elements[key]]


class Key:
    def __init__(self, content):
        self.content = content


def test_dictionaries_with_objects_as_keys(session):
    elements = {Key(1): [1.0], Key(2): [2.0, 3.0]}
    keys = list(elements)
    grow_values(elements)
    found = wait_on(elements)
    assert list(found) == keys
    assert {key.content: value for key, value in found.items()} == {1: [2.0], 2: [3.0, 4.0]}


def test_a_read_collection_may_be_an_array_or_a_set(session):
    np = pytest.importorskip("numpy")
    assert wait_on(total(np.array([[1, 2], [3, 4]]))) == 10
    assert wait_on(dict_sum({"a": 1})) == 1
    assert wait_on(total({(1, 2), (3,)})) == 6
    with pytest.raises(TypeError, match="parameter 'blocks' of task .*total is a collection: .* not int"):
        total(3)


@task(rows=COLLECTION_OUT)
def produce_any_depth(rows):
    for i, row in enumerate(rows):
        for j in range(len(row)):
            row[j] = [i, j]


def test_collections_without_depth_are_tracked_at_every_level(session):
    rows = [[object() for _ in range(2)] for _ in range(2)]
    produce_any_depth(rows)
    assert wait_on(first_of(rows[1][1])) == 1
    assert wait_on(rows) == [[[0, 0], [0, 1]], [[1, 0], [1, 1]]]
    ring = [[1]]
    ring.append(ring)
    with pytest.raises(TypeError, match="parameter 'rows' of task .* is a collection that holds itself"):
        produce_any_depth(ring)
