"""Hypergradients through rules in which a network takes part."""

from functools import cache, partial
from itertools import product

import pytest
import torch
import torch._inductor.compile_fx as inductor
from inner_interpreter import Interpreter
from inner_modes import ALL, EXACT, FIRST_ORDER, fits
from inner_problems import (
    IMAGE,
    above,
    central_difference_errors,
    make_problem,
    relative_differences,
    summed,
    tiny_conv4,
    tiny_mlp,
)
from other_device import apart, moved
from pairs import paired

from metaopt.inner.compile import Eager, Inductor
from metaopt.inner.reverse import Reverse
from metaopt.inner.through_higher import ThroughHigher
from metaopt.inner.truncated import Truncated
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings, StrengthSettings
from metaopt.types import Kind

RULES = ("adaptive", "learned_optimizer")
MODELS = ("classification", "regression", "conv4")
rules = pytest.mark.parametrize("rule", RULES)
TWO_MODELS = ("classification", "conv4")


def fitting(modes):
    """(rule, model, mode) but for the adaptive rule in forward mode, which takes fewer numbers."""
    return [case for case in product(RULES, TWO_MODELS, modes) if case[::2] != ("adaptive", "forward")]


def settings(rule, granularity, init, **changes):
    """All that a policy with such a rule may learn."""
    learned = partial(StrengthSettings, "learned", granularity=granularity)
    return PolicySettings(
        **{
            "lr": learned(0.1),
            "l2": learned(0.2),
            "pull": learned(0.2),
            "momentum": MomentumSettings("learned", 0.6),
            "schedule": "step_role" if granularity == "role" else "step",
            "init": init,
            "preconditioner": "second_moment",
            "rule": rule,
        }
        | changes
    )


def problem_of(rule, model, granularity="role", **options):
    """From scratch: minibatch steps; few-shot for a granularity of element."""
    few_shot = granularity == "element"
    own = settings(rule, granularity, InitSettings("learned") if few_shot else InitSettings("scaled", "role"))
    batch_size = None if few_shot else 3
    if model == "conv4":
        steps = {"horizon": 3, "batch_size": batch_size and 4, "n_support": 6, "seed": 2}
        return make_problem(own, tiny_conv4("batch"), input_shape=IMAGE, **(steps | options))
    kind = Kind(model)
    return make_problem(own, tiny_mlp(kind), kind, **({"horizon": 5, "batch_size": batch_size} | options))


@cache
def shared(rule, model, granularity="role"):
    """Problems that no test changes."""
    return problem_of(rule, model, granularity)


@cache
def reference(rule, model, granularity="role", first_order=False):
    return shared(rule, model, granularity).hypergradients(Reverse(first_order))


def assert_same(found, expected, limit=1e-8):
    assert not above(relative_differences(found.grads, expected.grads), limit)
    for name in ("loss", "accuracy", "support_loss"):
        values = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(*values, rtol=1e-10, atol=1e-12, equal_nan=True, msg=name)


@pytest.mark.parametrize(("granularity", "model", "rule"), paired(("global", "role", "element"), MODELS, RULES))
def test_hypergradients_are_those_of_central_differences(rule, model, granularity):
    problem = shared(rule, model, granularity)
    grads = summed(reference(rule, model, granularity))
    assert not above(central_difference_errors(problem, grads, steps=[1e-3, 1e-4, 1e-5, 1e-6, 1e-7]), 1e-6)


@pytest.mark.parametrize("changes", [{"momentum": MomentumSettings()}, {"l2": StrengthSettings()}], ids=["mean", "l2"])
@rules
def test_so_are_those_without_momentum_or_l2(rule, changes):
    own = settings(rule, "global", InitSettings(), pull=StrengthSettings(), schedule="off", **changes)
    problem = make_problem(own, tiny_mlp(), horizon=4, batch_size=3)
    grads = summed(problem.hypergradients(Reverse()))
    assert not above(central_difference_errors(problem, grads, steps=[1e-3, 1e-4]), 1e-6)


@pytest.mark.parametrize(("rule", "model", "mode"), paired(fitting(EXACT)))
def test_exact_modes_agree_with_reverse_mode(rule, model, mode):
    problem = shared(rule, model)
    assert fits(mode, problem)
    assert_same(problem.hypergradients(EXACT[mode]()), reference(rule, model))


@pytest.mark.parametrize(("rule", "model", "mode"), paired(RULES, TWO_MODELS, FIRST_ORDER))
def test_without_second_derivatives_modes_agree_with_first_order(rule, model, mode):
    found = shared(rule, model).hypergradients(FIRST_ORDER[mode]())
    assert_same(found, reference(rule, model, first_order=True))


@pytest.mark.parametrize(
    ("rule", "model", "granularity", "first_order"), paired(RULES, TWO_MODELS, ("role", "element"), (False, True))
)
def test_the_engines_agree(rule, model, granularity, first_order):
    found = shared(rule, model, granularity).through(ThroughHigher, first_order=first_order)
    assert_same(found, reference(rule, model, granularity, first_order))


@pytest.mark.parametrize(("rule", "model", "mode"), paired(fitting(ALL)))
def test_every_learned_number_has_a_hypergradient_where_learning_starts(rule, mode, model):
    """But for the inputs that are zero: the roles that a model does not have."""
    problem = problem_of(rule, model)
    assert fits(mode, problem)
    fresh = type(problem.policy)(
        problem.policy.settings,
        problem.model.shapes,
        problem.model.init,
        problem.horizon,
        torch.Generator().manual_seed(1),
        problem.model.roles,
    ).double()
    found = problem._replace(policy=fresh).hypergradients(ALL[mode]())
    assert list(found.grads) == [name for name, _ in fresh.named_parameters()]
    for name, grads in summed(found).items():
        table = grads if grads.dim() > 1 else grads[None]
        rows = table[table.abs().sum(-1) > 0]
        assert len(rows), name
        assert rows.abs().min() > 0, name
        assert len(table) - len(rows) <= 4, f"{name} has rows without a hypergradient"


@pytest.mark.parametrize("window", [1, 2, 3])
@rules
def test_windows_differ_from_the_whole_and_leave_no_number_out(rule, window):
    problem = shared(rule, "classification")
    cut = problem.hypergradients(Truncated(window))
    assert all(float(grads.abs().max()) > 0 for grads in summed(cut).values())
    assert max(relative_differences(cut.grads, reference(rule, "classification").grads).values()) > 1e-3


class TensorSteps(Eager):
    """Steps in the form that compiled functions take them."""

    def steps(self, horizon):
        return [torch.tensor(step) for step in range(horizon)]


@pytest.mark.parametrize(
    ("rule", "mode", "horizon"), paired(RULES, ("mixed", "mixed_forward", "checkpointing_2"), (5, 9))
)
def test_steps_may_be_tensors(rule, mode, horizon):
    problem = problem_of(rule, "classification", horizon=9)._replace(horizon=horizon)
    shorter = problem_of(rule, "classification", horizon=5).policy
    problem = problem._replace(policy=shorter)
    found = problem.hypergradients(EXACT[mode](compiler=TensorSteps()))
    assert_same(found, problem.hypergradients(Reverse()))


@pytest.mark.parametrize(
    ("rule", "model", "mode"),
    [
        ("adaptive", "classification", "mixed_forward"),
        pytest.param("adaptive", "conv4", "mixed", marks=pytest.mark.nightly),  # takes twenty seconds
        ("learned_optimizer", "classification", "mixed"),
        pytest.param("learned_optimizer", "classification", "mixed_forward", marks=pytest.mark.nightly),
    ],
)
def test_steps_are_traced_and_simplified_for_the_compiler(rule, model, mode, monkeypatch):
    """All but the generation of code, which takes minutes: the traced graphs are interpreted."""
    traced = []

    def interpret(graph, _examples, **_):
        traced.append(graph)
        return lambda tensors: list(Interpreter(graph).run(*tensors))

    monkeypatch.setattr(inductor, "compile_fx_inner", interpret)
    found = shared(rule, model).hypergradients(ALL[mode](compiler=Inductor(pytest.fail)))
    assert len(traced) == 5
    assert_same(found, reference(rule, model))


@pytest.mark.parametrize(("rule", "model", "mode"), paired(RULES, TWO_MODELS, ("reverse", "mixed", "mixed_forward")))
def test_hypergradients_are_computed_on_the_device_of_the_tasks(rule, model, mode):
    problem = moved(problem_of(rule, model, horizon=2))
    with apart():
        found = problem.hypergradients(ALL[mode]())
    assert found.flat.device == found.loss.device == problem.tasks.support.x.device
