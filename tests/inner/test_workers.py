import shutil
import threading
import time
from functools import partial

import pytest
import torch
from inner_modes import ALL
from inner_problems import above, mlp_problem, relative_differences
from torch.fx.experimental.proxy_tensor import make_fx

import metaopt.inner.compile as compiling
from metaopt.inner import groups
from metaopt.inner.checkpointing import Checkpointing
from metaopt.inner.compile import Inductor
from metaopt.inner.examine import Needs
from metaopt.inner.groups import in_groups
from metaopt.inner.program import Program
from metaopt.inner.reverse import Reverse
from metaopt.inner.workers import spread

SECONDS = 20
"""What waits for another thread gives up after so long, and the test fails."""


@pytest.fixture
def set_threads():
    """The function that sets torch's number of threads until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# Parts in threads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3, 9])
def test_every_part_is_worked_on_once_and_results_come_in_order(workers):
    seen = []
    assert spread(lambda part: seen.append(part) or part * part, list(range(7)), workers) == [n * n for n in range(7)]
    assert sorted(seen) == list(range(7))
    assert spread(abs, [], workers) == []


def test_results_come_in_order_whichever_is_ready_first():
    last_is_done = threading.Event()

    def work(part):
        if part == "last":
            last_is_done.set()
        else:
            assert last_is_done.wait(SECONDS)
        return part

    assert spread(work, ["first", "last"], 2) == ["first", "last"]


@pytest.mark.parametrize("workers", [2, 3])
def test_parts_are_worked_on_at_the_same_time(workers):
    barrier = threading.Barrier(workers)
    found = spread(lambda _: barrier.wait(SECONDS), range(2 * workers), workers)  # which raises if nobody comes
    assert sorted(found) == sorted(2 * list(range(workers)))


def test_no_more_parts_are_worked_on_at_once_than_there_are_workers():
    at_once = Overlaps()
    spread(lambda _: at_once(), range(8), 2)
    assert at_once.most <= 2


@pytest.mark.parametrize(("workers", "parts"), [(1, 4), (5, 1)])
def test_one_worker_or_one_part_stays_in_the_calling_thread_with_all_threads_inside_operations(
    workers, parts, set_threads
):
    set_threads(4)
    found = spread(lambda _: (threading.get_ident(), torch.get_num_threads()), range(parts), workers)
    assert found == [(threading.get_ident(), 4)] * parts


@pytest.mark.parametrize(
    ("threads", "workers", "parts", "each"), [(4, 2, 2, 2), (5, 2, 6, 2), (1, 3, 3, 1), (6, 4, 2, 3), (2, 2, 4, 1)]
)
def test_torch_s_threads_are_divided_among_the_workers_and_given_back(threads, workers, parts, each, set_threads):
    set_threads(threads)
    barrier = threading.Barrier(min(workers, parts))

    def work(_):
        barrier.wait(SECONDS)
        return threading.get_ident(), torch.get_num_threads()

    found = spread(work, range(parts), workers)
    assert {number for _, number in found} == {each}
    assert threading.get_ident() not in {thread for thread, _ in found}
    assert torch.get_num_threads() == threads


def test_workers_that_stayed_do_not_keep_the_number_of_threads_of_another_time(set_threads):
    for threads, each in ((4, 2), (2, 1), (6, 3), (4, 2)):
        set_threads(threads)
        barrier = threading.Barrier(2)
        assert spread(lambda _, b=barrier: b.wait(SECONDS) * 0 + torch.get_num_threads(), range(2), 2) == [each] * 2


@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_an_error_comes_out_and_leaves_torch_s_threads_and_the_workers_as_they_were(wrong, set_threads):
    set_threads(4)

    def work(part):
        if part == wrong:
            raise ZeroDivisionError(f"in part {part}")
        return part

    with pytest.raises(ZeroDivisionError, match=f"in part {wrong}"):
        spread(work, range(4), 2)
    assert torch.get_num_threads() == 4
    barrier = threading.Barrier(2)
    spread(lambda _: barrier.wait(SECONDS), range(2), 2)


# Groups of tasks in threads ------------------------------------------------------------------------------------------


def test_groups_go_to_workers_in_order_and_without_gradients_in_any_of_them():
    problem = mlp_problem("from_scratch", "global", n_tasks=5)
    program = Program(problem.policy, problem.objective)
    barrier, has_gradients, orders = threading.Barrier(3), [], []

    def differentiate(group):
        barrier.wait(SECONDS)
        has_gradients.append(torch.is_grad_enabled())
        orders.append(group.data.order)
        each = group.query.x.sum((1, 2))
        return group.hyper * each[:, None], each, 2 * each, group.data.x.sum((1, 2))

    found = in_groups(program, problem.horizon, problem.tasks, problem.draws, 2, differentiate, Needs(), workers=3)
    assert has_gradients == [False] * 3
    assert sorted(map(len, orders)) == [1, 2, 2]
    expected = problem.tasks.query.x.sum((1, 2))
    assert torch.equal(found.loss, expected)
    assert torch.equal(found.accuracy, 2 * expected)
    assert torch.equal(found.support_loss, problem.tasks.support.x.sum((1, 2)))
    assert torch.equal(found.flat, program.hyper_vector() * expected[:, None])


@pytest.fixture
def traced(monkeypatch):
    """Traces what would be compiled, and calls that."""

    def trace(function, tensors):
        graph = make_fx(function)(*tensors)
        return lambda given: graph(*given)

    monkeypatch.setattr(compiling, "_inductor", trace)


@pytest.fixture
def asked(monkeypatch):
    """The numbers of parts and of workers for which threads were asked."""
    seen = []

    def recording(work, parts, workers):
        seen.append((len(parts), workers))
        return spread(work, parts, workers)

    monkeypatch.setattr(groups, "spread", recording)
    return seen


def assert_same(found, expected):
    assert found.flat.shape == expected.flat.shape
    assert not above(relative_differences(found.grads, expected.grads), 1e-10)
    for name in ("loss", "accuracy", "support_loss"):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=1e-10, atol=1e-12, equal_nan=True, msg=name
        )


@pytest.mark.parametrize(
    ("mode", "summed"),
    [("reverse", True), ("mixed", False), ("checkpointing_1", True), ("truncated_2", False), ("forward", True)],
)
def test_hypergradients_from_several_threads_are_those_of_one(mode, summed, traced, asked):
    problem = mlp_problem("few_shot", "global", n_tasks=5, horizon=2)  # two groups of two tasks, and one of one
    method = partial(ALL[mode](chunk=2, compiler=Inductor(pytest.fail, workers=2)), summed=summed)
    workers = 1 if mode == "forward" else 2  # which has a part that is never compiled
    expected = problem.hypergradients(partial(ALL[mode](chunk=2), summed=summed))
    assert asked == [(3, 1)]
    for _ in range(2):  # the first one traces
        assert_same(problem.hypergradients(method), expected)
    assert asked[1:] == [(3, workers)] * 2


has_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler on this machine"
)


@has_compiler
@pytest.mark.parametrize(
    ("mode", "summed"),
    [pytest.param(Reverse, False, marks=pytest.mark.nightly), (Checkpointing, True)],
    ids=["reverse", "checkpointing_summed"],
)
def test_compiled_hypergradients_from_several_threads_are_those_of_one_that_is_not_compiled(mode, summed, asked):
    problem = mlp_problem("few_shot", "global", n_tasks=6, horizon=2)
    method = partial(mode(chunk=2, compiler=Inductor(pytest.fail, workers=2)), summed=summed)
    for _ in range(2):
        found = problem.hypergradients(method)
        assert_same(found, problem.hypergradients(partial(mode(chunk=2), summed=summed)))
    assert asked == [(3, 2), (3, 1)] * 2


# Compilers in threads ------------------------------------------------------------------------------------------------


class Overlaps:
    """A call that takes a while, and remembers how many of it there were at once."""

    def __init__(self):
        self._lock = threading.Lock()
        self._now = self.most = self.count = 0

    def __call__(self):
        with self._lock:
            self._now += 1
            self.count += 1
            self.most = max(self.most, self._now)
        time.sleep(0.02)
        with self._lock:
            self._now -= 1


def test_functions_are_not_called_by_two_threads_at_once_where_compiling_fails(monkeypatch):
    monkeypatch.setattr(compiling, "_inductor", lambda *_: 1 / 0)
    at_once, lines = Overlaps(), []
    compiler = Inductor(lines.append, workers=3)

    def plus(amount):
        return compiler(lambda x: at_once() or x + amount)

    one, two = plus(1), plus(2)
    given = [torch.full((n % 3 + 1,), float(n)) for n in range(9)]
    found = spread(lambda x: one(x) if len(x) > 1 else two(x), given, 3)
    for x, result in zip(given, found, strict=True):
        assert torch.equal(result, x + (1 if len(x) > 1 else 2))
    assert (at_once.count, at_once.most) == (9, 1)
    assert len(lines) == 1


def test_threads_compile_one_at_a_time_and_each_shape_of_each_function_once(monkeypatch):
    at_once, asked = Overlaps(), []

    def compile_(function, tensors):
        at_once()
        asked.append(tuple(tensors[0].shape))
        return lambda given: function(*given)

    monkeypatch.setattr(compiling, "_inductor", compile_)
    compiler = Inductor(pytest.fail, workers=3)
    functions = [compiler(lambda x, n=n: x + n) for n in range(2)]
    barrier = threading.Barrier(3)

    def work(x):
        barrier.wait(SECONDS)
        return [function(x) for function in functions]

    given = [torch.zeros(2), torch.ones(2), torch.ones(3)]
    for x, (same, more) in zip(given, spread(work, given, 3), strict=True):
        assert torch.equal(same, x)
        assert torch.equal(more, x + 1)
    assert at_once.most == 1
    assert sorted(asked) == [(2,), (2,), (3,), (3,)]


def test_compiled_functions_are_called_by_several_threads_at_once(monkeypatch):
    barrier = threading.Barrier(2)

    def compile_(function, _):
        return lambda given: barrier.wait(SECONDS) * 0 or function(*given)

    monkeypatch.setattr(compiling, "_inductor", compile_)
    double = Inductor(pytest.fail, workers=2)(lambda x: 2 * x)
    assert [int(x) for x in spread(double, [torch.tensor(n) for n in range(4)], 2)] == [0, 2, 4, 6]
