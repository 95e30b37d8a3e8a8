import shutil
import warnings
from collections import Counter
from functools import partial

import pytest
import torch
import torch._inductor.compile_fx as inductor
from inner_interpreter import Interpreter
from inner_modes import ALL
from inner_problems import (
    above,
    conv4_problem,
    mlp_problem,
    relative_differences,
)
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensor

import metaopt.inner.compile as module
from metaopt.inner.compile import Eager, Inductor
from metaopt.inner.draws import cast_draws
from metaopt.inner.forward import Forward
from metaopt.inner.mixed import Mixed
from metaopt.inner.reverse import Reverse
from metaopt.trees import cast_tasks
from metaopt.types import Kind

has_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler on this machine"
)
VALUES = ("loss", "accuracy", "support_loss")


def assert_same(found, expected, limit):
    assert not above(relative_differences(found.grads, expected.grads), limit)
    for name in VALUES:
        values = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(*values, rtol=limit, atol=limit / 100, equal_nan=True, msg=name)


def moved(problem, other):
    """Other values of the policy, and the tasks and draws of another problem; the same structure."""
    with torch.no_grad():
        for p in problem.policy.parameters():
            p.mul_(0.9)
    return problem._replace(tasks=other.tasks, draws=other.draws)


def in_single_precision(problem):
    """The same problem and policy, from now on in float32."""
    problem.policy.float()
    return problem._replace(
        tasks=cast_tasks(problem.tasks, torch.float32), draws=cast_draws(problem.draws, torch.float32)
    )


# Compiled by inductor ------------------------------------------------------------------------------------------------

COMPILED = {
    "reverse": partial(Reverse, False, 64),
    "mixed": partial(Mixed, "reverse", 64),
    "mixed_forward": partial(Mixed, "forward", 64),
    "forward": partial(Forward, 64),
}


@has_compiler
@pytest.mark.parametrize("mode", COMPILED)
def test_what_is_compiled_takes_values_tasks_and_steps_as_arguments(mode, monkeypatch):
    """In one test, because compiling takes seconds."""
    calls = []
    real = module._inductor
    monkeypatch.setattr(module, "_inductor", lambda *given: calls.append(given) or real(*given))
    method = COMPILED[mode](Inductor(pytest.fail))
    # A schedule of two steps under draws of four.
    problem = mlp_problem("from_scratch", "global", horizon=4)
    problem = problem._replace(policy=mlp_problem("from_scratch", "global", horizon=2).policy, horizon=2)
    given = [*problem.tasks.support, problem.draws.order, *problem.draws.noise.values(), *problem.policy.parameters()]
    before = [tensor.clone() for tensor in given]

    first = problem.hypergradients(method)
    count = len(calls)
    assert count == {"reverse": 1, "mixed": 5, "mixed_forward": 5, "forward": 1}[mode]
    assert_same(first, problem.hypergradients(Reverse()), 1e-10)
    again = problem.hypergradients(method)
    assert torch.equal(again.flat, first.flat)
    assert again.flat.data_ptr() != first.flat.data_ptr(), "the second result lies where the first one was"
    for now, then in zip(given, before, strict=True):
        assert torch.equal(now, then), "an argument was changed"

    for seed in (5, 6):
        other = moved(problem, mlp_problem("from_scratch", "global", horizon=4, seed=seed))
        found = other.hypergradients(method)
        assert_same(found, other.hypergradients(Reverse()), 1e-10)
        assert not torch.allclose(found.flat, first.flat, rtol=1e-2)
    for horizon in () if mode == "reverse" else (3, 4):  # reverse mode compiles the whole unroll
        longer = problem._replace(horizon=horizon)
        assert_same(longer.hypergradients(method), longer.hypergradients(Reverse()), 1e-10)
    assert len(calls) == count, "what was compiled did not serve"


@has_compiler
def test_a_single_task_in_single_precision_is_compiled_as_well():
    problem = in_single_precision(mlp_problem("few_shot", "global", horizon=2, n_tasks=1))
    found, expected = (problem.hypergradients(method) for method in (Mixed(compiler=Inductor(pytest.fail)), Reverse()))
    assert found.flat.dtype == found.loss.dtype == torch.float32
    assert_same(found, expected, 1e-4)


@has_compiler
def test_what_was_compiled_is_found_again():
    def function(x):
        return torch.func.grad(lambda p: (p.sin() * 3).sum())(x)

    x = torch.linspace(0, 1, 7)
    for hits in range(2):
        before = counters["inductor"]["fxgraph_cache_hit"]
        torch.testing.assert_close(Inductor(pytest.fail)(function)(x), 3 * x.cos())
        assert counters["inductor"]["fxgraph_cache_hit"] - before >= hits


# Traced alone: as they are compiled, but what was traced is interpreted ----------------------------------------------


@pytest.fixture
def traced(monkeypatch):
    """Leaves out the code generation, which takes seconds; returns the number of traced functions so far."""
    count = Counter()

    def interpret(graph, _examples, **_):
        count["traced"] += 1
        return lambda tensors: list(Interpreter(graph).run(*tensors))

    monkeypatch.setattr(inductor, "compile_fx_inner", interpret)
    return lambda: count["traced"]


TRACED_PROBLEMS = {
    "classification": partial(mlp_problem, "from_scratch", "element"),
    "regression": partial(mlp_problem, "few_shot", "tensor", Kind.regression),
    "conv4": partial(conv4_problem, "from_scratch", "global", "batch", horizon=2),
}
TRACED_CASES = [
    ("first_order", "classification"),
    ("mixed_none", "classification"),
    ("mixed", "conv4"),
    ("mixed_forward", "regression"),
]


@pytest.mark.parametrize(("mode", "name"), TRACED_CASES)
def test_what_is_traced_takes_values_tasks_and_steps_as_arguments(mode, name, traced):
    problem = TRACED_PROBLEMS[name](seed=2)
    method = ALL[mode](compiler=Inductor(pytest.fail))
    problem.hypergradients(method)
    count = traced()
    assert count > 0
    other = moved(problem, TRACED_PROBLEMS[name](seed=3))
    assert_same(other.hypergradients(method), other.hypergradients(ALL[mode]()), 1e-10)
    assert traced() == count


def test_other_numbers_of_tasks_and_dtypes_are_traced_again(traced):
    problem = mlp_problem("few_shot", "global", n_tasks=3, horizon=2)
    method = Mixed(compiler=Inductor(pytest.fail), chunk=2)  # a group of two tasks, and one of one
    assert_same(problem.hypergradients(method), problem.hypergradients(Mixed()), 1e-10)
    assert traced() == 10
    single = in_single_precision(problem)
    found = single.hypergradients(method)
    assert found.flat.dtype == found.loss.dtype == torch.float32
    assert traced() == 20
    assert_same(found, single.hypergradients(Mixed()), 1e-4)


def test_all_traced_values_are_of_one_mode(monkeypatch):
    """Where each has its own, making them takes most of the time of tracing."""
    modes = []

    def interpret(graph, examples, **_):
        values = [node.meta.get("val") for node in graph.graph.nodes]
        modes.append({value.fake_mode for value in [*values, *examples] if isinstance(value, FakeTensor)})
        return lambda tensors: list(Interpreter(graph).run(*tensors))

    monkeypatch.setattr(inductor, "compile_fx_inner", interpret)
    x = torch.ones(2, 3)
    assert torch.equal(Inductor(pytest.fail)(lambda a: (a + 1).sum(0))(x), torch.full((3,), 4.0))
    assert [len(each) for each in modes] == [1]


# The compilers themselves --------------------------------------------------------------------------------------------


@pytest.fixture
def fake(monkeypatch):
    """Compiles to the function itself; returns the arguments with which it was asked to compile."""
    asked = []

    def compile_(function, tensors):
        asked.append([tuple(t.shape) for t in tensors])
        return lambda given: function(*given)

    monkeypatch.setattr(module, "_inductor", compile_)
    return asked


def test_functions_are_compiled_once_for_each_combination_of_shapes_and_dtypes(fake):
    subtract = Inductor(pytest.fail)(lambda x, y, z: x - z if y is None else x + y - z)
    one, two, three = torch.ones(()), torch.full((2,), 2.0), torch.full((3,), 3.0)
    for _ in range(2):
        assert torch.equal(subtract(one, two, one), two)
        assert torch.equal(subtract(one, three, one), three)
        assert torch.equal(subtract(one, None, two), torch.full((2,), -1.0))
        assert subtract(one, two.double(), one).dtype == torch.float64
    assert fake == [[(), (2,), ()], [(), (3,), ()], [(), (2,)], [(), (2,), ()]]


def test_compiled_functions_return_what_the_function_returns(fake):
    compiler = Inductor(pytest.fail)
    x = torch.arange(6.0)
    assert torch.equal(compiler(lambda x: x + 1)(x), x + 1)
    pair = compiler(lambda x: (x + 1, x * 2))(x)
    assert isinstance(pair, tuple)
    assert [torch.equal(*each) for each in zip(pair, (x + 1, x * 2), strict=True)] == [True, True]


def test_compiled_functions_are_given_contiguous_tensors(monkeypatch):
    def compile_(function, tensors):
        return lambda given: [torch.tensor([t.is_contiguous() for t in given]), *function(*given)]

    monkeypatch.setattr(module, "_inductor", compile_)
    x = torch.arange(6.0).view(2, 3)
    contiguous, total = Inductor(pytest.fail)(lambda x, y: x - y)(x.T, torch.ones(()).expand(3, 2))
    assert contiguous.all()
    assert torch.equal(total, x.T - 1)


def test_steps_are_tensors_that_are_made_once():
    compiler = Inductor(pytest.fail)
    few, many = compiler.steps(2), compiler.steps(5)
    assert [step.item() for step in many] == [0, 1, 2, 3, 4]
    assert all(step.dtype == torch.int64 and step.shape == () for step in many)
    assert few[1] is many[1]
    assert len(compiler.steps(3)) == 3


def test_the_eager_compiler_changes_nothing():
    def function():
        raise AssertionError

    assert Eager()(function) is function
    assert Eager().steps(3) == [0, 1, 2]


@pytest.mark.parametrize("mode", ALL)
def test_where_compiling_fails_one_line_says_so_and_nothing_else_changes(mode, monkeypatch):
    attempts, lines = [], []

    def fail(*_):
        attempts.append(1)
        raise RuntimeError("\n  no such compiler: g++\nand a long explanation")

    monkeypatch.setattr(module, "_inductor", fail)
    problem = mlp_problem("few_shot", "tensor")
    method = ALL[mode](compiler=Inductor(lines.append))
    first, second = (problem.hypergradients(method) for _ in range(2))
    expected = problem.hypergradients(ALL[mode]())
    for found in (first, second):
        assert_same(found, expected, 1e-12)
    (line,) = lines
    assert "\n" not in line
    assert "no such compiler: g++" in line
    assert "inner.compile=false" in line
    assert "long explanation" not in line
    assert len(attempts) == 1, "what failed is not tried again"


def test_without_a_way_to_say_so_it_is_a_warning(monkeypatch):
    monkeypatch.setattr(module, "_inductor", lambda *_: 1 / 0)
    function = Inductor()(lambda x: x + 1)
    with pytest.warns(UserWarning, match="division by zero"):
        function(torch.ones(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(function(torch.ones(3)), torch.full((3,), 2.0))


def test_a_function_that_fails_is_not_taken_for_one_that_cannot_be_compiled(monkeypatch):
    """Whatever fails in tracing is called again without it, and its own error is seen."""

    def wrong(_):
        raise ValueError("the function's own")

    lines = []
    with pytest.raises(ValueError, match="the function's own"):
        Inductor(lines.append)(wrong)(torch.ones(2))
    assert len(lines) == 1
