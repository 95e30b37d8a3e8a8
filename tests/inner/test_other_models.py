"""Hypergradients through the models beside `mlp` and `conv4`."""

from functools import cache, partial

import pytest
import torch
import torch._inductor.compile_fx as inductor
from inner_interpreter import Interpreter
from inner_models import MODELS, model_problem
from inner_modes import ALL, EXACT, fits
from inner_problems import above, central_difference_errors, relative_differences, summed
from other_device import apart, moved

from metaopt.inner.compile import Inductor
from metaopt.inner.reverse import Reverse
from metaopt.inner.through_higher import ThroughHigher

models = pytest.mark.parametrize("name", MODELS)


@cache
def shared(name, regime="few_shot", granularity="role"):
    """Problems that no test changes."""
    return model_problem(name, regime, granularity)


@pytest.mark.parametrize(("regime", "granularity"), [("few_shot", "role"), ("from_scratch", "tensor")])
@models
def test_hypergradients_are_those_of_central_differences(name, regime, granularity):
    problem = shared(name, regime, granularity)
    errors = central_difference_errors(problem, summed(problem.hypergradients(Reverse())), steps=[1e-3, 1e-4, 1e-5])
    assert not above(errors, 1e-6)


@pytest.mark.parametrize(
    ("regime", "granularity", "first_order"),
    [("few_shot", "element", False), ("from_scratch", "role", False), ("from_scratch", "tensor", True)],
)
@models
def test_the_engines_agree(name, regime, granularity, first_order):
    problem = shared(name, regime, granularity)
    fast = problem.hypergradients(Reverse(first_order))
    slow = problem.through(ThroughHigher, first_order=first_order)
    assert not above(relative_differences(fast.grads, slow.grads), 1e-8)
    torch.testing.assert_close(fast.loss, slow.loss, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", ["mixed", "mixed_forward", "checkpointing_1", "truncated_forward", "forward"])
@models
def test_exact_modes_agree_with_reverse_mode(name, mode):
    problem = shared(name, "from_scratch", "role")
    assert fits(mode, problem)
    expected = problem.hypergradients(Reverse())
    for chunk in (64, 1):
        found = problem.hypergradients(EXACT[mode](chunk=chunk))
        assert not above(relative_differences(found.grads, expected.grads), 1e-8)


@models
def test_every_learned_quantity_has_a_hypergradient(name):
    for regime in ("few_shot", "from_scratch"):
        grads = shared(name, regime, "element").hypergradients(Reverse()).grads
        assert [n for n, g in grads.items() if not (g.reshape(len(g), -1).abs().amax(1) > 0).all()] == []


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("linear", "mixed"),
        pytest.param("resnet-batch", "mixed", marks=pytest.mark.nightly),  # takes twenty seconds
        ("columns", "mixed_forward"),
        ("words", "mixed"),
    ],
)
def test_steps_are_traced_and_simplified_for_the_compiler(name, mode, monkeypatch):
    """All but the generation of code, which takes minutes: the traced graphs are interpreted."""
    traced = []

    def interpret(graph, _examples, **_):
        traced.append(graph)
        return lambda tensors: list(Interpreter(graph).run(*tensors))

    monkeypatch.setattr(inductor, "compile_fx_inner", interpret)
    problem = shared(name, "from_scratch", "tensor")
    found = problem.hypergradients(ALL[mode](compiler=Inductor(pytest.fail)))
    assert len(traced) == 5
    assert not above(relative_differences(found.grads, problem.hypergradients(Reverse()).grads), 1e-8)


@pytest.mark.parametrize("name", ["reverse", "mixed", "mixed_forward"])
@pytest.mark.parametrize("model", ["linear", "resnet-batch", "columns", "sequence", "patches", "words"])
def test_hypergradients_are_computed_on_the_device_of_the_tasks(model, name):
    problem = moved(model_problem(model, "from_scratch", "tensor", horizon=2))
    with apart(only=True):
        found = problem.hypergradients(ALL[name]())
    assert found.flat.device == found.loss.device == problem.tasks.support.x.device


@pytest.mark.parametrize("name", ["linear", "resnet-batch", "resnet-layer", "columns", "rows", "words"])
def test_in_half_precision_gradients_are_close(name):
    """As `inner.dtype=bfloat16` has it: parameters in float32, the model's own passes in bfloat16."""
    problem = shared(name)
    params = {n: noise[0].float() for n, noise in problem.draws.noise.items()}
    x = problem.tasks.support.x[0].float()
    weights = torch.arange(x.shape[0] * 3.0).view(-1, 3).sin()

    def total(p, dtype):
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16, cache_enabled=False):
            return (problem.model.apply(p, x).float().log_softmax(-1) * weights).sum()

    def second(f):
        return torch.func.grad(lambda p: sum((g**2).sum() for g in torch.func.grad(f)(p).values()))

    for derivative in (torch.func.grad, second):
        half, full = (derivative(partial(total, dtype=dtype))(params) for dtype in (torch.bfloat16, torch.float32))
        halves, fulls = (torch.cat([g.flatten() for g in grads.values()]) for grads in (half, full))
        assert halves.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(halves, fulls, dim=0) > 0.95
