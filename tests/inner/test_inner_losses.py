"""Label smoothing, dropout and input noise in training, and the hypergradients by them."""

from dataclasses import replace

import pytest
import torch
from inner_loss_problems import LOSS_PARAMETERS, loss_adaptive_problem, loss_conv4_problem, loss_problem, loss_settings
from inner_models import MODELS, WORDS
from inner_modes import ALL, EXACT, FIRST_ORDER
from inner_problems import (
    CLASSES,
    above,
    central_difference_errors,
    make_problem,
    relative_differences,
    summed,
    tiny_mlp,
)

from metaopt.inner.adapt import adapt
from metaopt.inner.compile import Eager, Inductor
from metaopt.inner.draws import take_draws
from metaopt.inner.mixed import Mixed
from metaopt.inner.reverse import Reverse
from metaopt.inner.through_higher import ThroughHigher
from metaopt.inner.trace import trace_multipliers
from metaopt.inner.unroll import unroll
from metaopt.policies.settings import InitSettings, PolicySettings, StrengthSettings
from metaopt.trees import take_tasks
from metaopt.types import Batch, Kind, TaskBatch, TaskSpec

PROBLEMS = {
    "classification": loss_problem,
    "regression": lambda: loss_problem(Kind.regression),
    "global": lambda: loss_problem(granularity="global"),
    "role": lambda: loss_problem(granularity="role", widths=(4, 3, 3)),
    "one_task": lambda: loss_problem(n_tasks=1),
    "adaptive": loss_adaptive_problem,
    "conv4": loss_conv4_problem,
    "conv4_batch": lambda: loss_conv4_problem("batch"),
}
OFF = {name: StrengthSettings("off", 0.1) for name in ("label_smoothing", "dropout", "input_noise")}
NUMBERS = {"regression": 3, "global": 3, "conv4": 6, "conv4_batch": 6}
OTHERS = [name for name in MODELS if name in ("resnet-layer", "columns", "sequence", "words", "rows")]


def other_problem(name):
    build, shape, kind, seed = MODELS[name]
    words = name == "words"
    settings = loss_settings(init=InitSettings("scaled", "tensor"))
    if words:
        settings = loss_settings(init=InitSettings("scaled", "tensor"), input_noise=StrengthSettings("off", 0.1))
    model = build(TaskSpec(kind, shape, CLASSES, vocabulary=WORDS if words else None))
    problem = make_problem(settings, model, kind, shape, horizon=2, batch_size=4, n_support=6, seed=seed)
    if not words:
        return problem
    tasks = TaskBatch(*(Batch((3 * x).abs().floor() % WORDS, y) for x, y in problem.tasks))
    return problem._replace(tasks=tasks)


def assert_same(found, expected, limit=1e-9):
    assert not above(relative_differences(found.grads, expected.grads), limit)
    for name in ("loss", "accuracy", "support_loss"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), equal_nan=True, msg=name)


@pytest.mark.parametrize("name", PROBLEMS)
def test_hypergradients_are_those_of_central_differences(name):
    problem = PROBLEMS[name]()
    grads = summed(problem.hypergradients(Reverse()))
    own = {n: g for n, g in grads.items() if n.startswith(LOSS_PARAMETERS)}
    assert (
        len(own)
        == (2 if name == "regression" else 3)
        + {"global": 0, "role": 1, "conv4": 3, "conv4_batch": 3}.get(name, 1)
        - (name == "global") * 0
    )
    assert not above(central_difference_errors(problem, own, steps=[1e-3, 1e-4, 1e-5]), 1e-6)


@pytest.mark.parametrize("name", OTHERS)
def test_hypergradients_of_other_models_are_those_of_central_differences(name):
    problem = other_problem(name)
    found = problem.hypergradients(Mixed())
    own = {n: g for n, g in summed(found).items() if n.startswith(LOSS_PARAMETERS)}
    assert not above(central_difference_errors(problem, own, steps=[1e-3, 1e-4, 1e-5]), 1e-6)
    assert_same(problem.through(ThroughHigher), found)


@pytest.mark.parametrize("first_order", [False, True], ids=["reverse", "first_order"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_engines_agree(name, first_order):
    problem = PROBLEMS[name]()
    assert_same(
        problem.hypergradients(Reverse(first_order)), problem.through(ThroughHigher, first_order=first_order), 1e-8
    )


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        (mode, name)
        for mode in EXACT
        for name in ("classification", "regression", "one_task", "adaptive", "conv4")
        if (mode, name) != ("forward", "adaptive")  # which has too many numbers
    ],
)
def test_exact_modes_agree_with_reverse_mode(mode, name):
    problem = PROBLEMS[name]()
    assert_same(problem.hypergradients(EXACT[mode]()), problem.hypergradients(Reverse()))


@pytest.mark.parametrize("name", ["classification", "adaptive"])
@pytest.mark.parametrize("mode", FIRST_ORDER)
def test_without_second_derivatives_modes_agree_with_first_order(mode, name):
    problem = PROBLEMS[name]()
    assert_same(problem.hypergradients(FIRST_ORDER[mode]()), problem.hypergradients(Reverse(first_order=True)))


@pytest.mark.parametrize("mode", ALL)
def test_every_strength_has_a_hypergradient_on_every_task(mode):
    found = loss_problem(widths=(4, 3, 3)).hypergradients(ALL[mode]())
    own = {name: grads for name, grads in found.grads.items() if name.startswith(LOSS_PARAMETERS)}
    assert len(own) == 5
    for name, grads in own.items():
        assert grads.abs().min() > 0, name


@pytest.mark.parametrize("chunk", [1, 2])
@pytest.mark.parametrize("mode", ALL)
def test_chunks_and_sums_change_nothing(mode, chunk):
    problem = loss_problem(n_tasks=3)
    together = problem.hypergradients(ALL[mode]())
    assert_same(problem.hypergradients(ALL[mode](chunk=chunk)), together)
    in_sum = problem.hypergradients(lambda *args: ALL[mode](chunk=chunk)(*args, summed=True))
    assert not above(relative_differences(summed(in_sum), summed(together)), 1e-10)


class TensorSteps(Eager):
    """Steps in the form that compiled functions take them."""

    def steps(self, horizon):
        return [torch.tensor(step) for step in range(horizon)]


@pytest.mark.parametrize("mode", ["mixed", "mixed_forward", "forward"])
def test_steps_may_be_tensors(mode):
    problem = loss_problem()
    found = problem.hypergradients(EXACT[mode](compiler=TensorSteps()))
    assert_same(found, problem.hypergradients(Reverse()))


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("mixed", "classification"),
        pytest.param("mixed_forward", "regression", marks=pytest.mark.nightly),
        pytest.param("reverse", "one_task", marks=pytest.mark.nightly),
    ],
)
def test_compiled_steps_have_the_same_hypergradients(mode, name):
    problem = PROBLEMS[name]()
    found = problem.hypergradients(ALL[mode](compiler=Inductor(pytest.fail)))
    assert_same(found, problem.hypergradients(ALL[mode]()))


def test_steps_and_tasks_have_noise_of_their_own_and_the_same_when_asked_again():
    problem = loss_problem(n_tasks=2, horizon=2, batch_size=None)
    # Two equal tasks and two equal steps: whatever differs is noise.
    tasks = take_tasks(problem.tasks, torch.tensor([0, 0]))
    noise = {name: tensor[:1].repeat(2, *[1] * (tensor.dim() - 1)) for name, tensor in problem.draws.noise.items()}
    problem = problem._replace(tasks=tasks, draws=problem.draws._replace(noise=noise))
    once, again = (problem.hypergradients(Mixed()) for _ in range(2))
    assert torch.equal(once.flat, again.flat)
    assert once.loss[0] != once.loss[1]
    # A step that does not move the parameters shows the noise alone.
    still = PolicySettings(
        lr=StrengthSettings("fixed", 1e-300), init=InitSettings("learned"), input_noise=StrengthSettings("learned", 0.3)
    )
    unmoved = make_problem(still, tiny_mlp(), horizon=2, n_tasks=1)
    losses = {horizon: unmoved._replace(horizon=horizon).hypergradients(Reverse()).support_loss for horizon in (1, 2)}
    assert losses[1] != losses[2]


def test_what_a_rule_does_is_traced_on_the_loss_that_it_trains_on():
    problem = loss_adaptive_problem()
    arguments = (problem.objective, problem.tasks, problem.draws, problem.horizon)
    with torch.no_grad():
        plain = make_problem(replace(problem.policy.settings, **OFF), problem.model)
        own = {n: p for n, p in problem.policy.named_parameters() if not n.startswith(LOSS_PARAMETERS)}
        plain.policy.load_state_dict(own)
        found, without = (trace_multipliers(policy, *arguments)["lr"] for policy in (problem.policy, plain.policy))
    for name, factors in found.items():
        assert factors.shape == (2, 3)
        assert not torch.equal(factors, without[name])


def test_only_the_loss_that_is_trained_on_is_perturbed():
    problem = loss_problem(n_tasks=1)
    with torch.no_grad():
        task, draws = take_tasks(problem.tasks, 0), take_draws(problem.draws, 0)
        start = problem.policy(draws.noise)
        clean = problem.objective.loss(start.params, task.support)
        end, _ = unroll(start, problem.objective.loss, task.support, None, 3, draws.loss)
        _, first = unroll(start, problem.objective.loss, task.support, None, 1, draws.loss)
        loss, accuracy = problem.objective.scores(end, task.query)
    assert first != clean
    draws = problem.draws._replace(order=None)
    found = adapt(problem.policy, problem.objective, problem.tasks, draws, 3, on="query", record=[0, 3])
    torch.testing.assert_close(found.loss[0, 1], loss)
    torch.testing.assert_close(found.accuracy[0, 1], accuracy)
    one_by_one = adapt(problem.policy, problem.objective, problem.tasks, draws, 3, on="query", record=[0, 3], chunk=1)
    torch.testing.assert_close(one_by_one.loss, found.loss)


@pytest.mark.parametrize("mode", ALL)
def test_what_is_off_is_as_if_it_were_not_there(mode):
    """Bit for bit, also where noise has been drawn that nothing needs."""
    settings = loss_settings(mode="off")
    problem = make_problem(settings, tiny_mlp(), batch_size=4)
    assert problem.draws.loss.bank is None
    assert problem.policy.inner_loss() is None
    with_bank = problem._replace(draws=problem.draws._replace(loss=loss_problem().draws.loss))
    without, beside = (each.hypergradients(ALL[mode]()) for each in (problem, with_bank))
    assert torch.equal(without.flat, beside.flat)


def test_fixed_strengths_train_as_learned_ones_do():
    learned = loss_problem()
    with torch.no_grad():
        own = learned.policy.loss_strengths()
    fixed = loss_settings(
        label_smoothing=StrengthSettings("fixed", float(own.smoothing)),
        dropout=StrengthSettings("fixed", 0.37),
        input_noise=StrengthSettings("fixed", float(own.input_noise)),
    )
    with torch.no_grad():
        for name, p in learned.policy.named_parameters():
            if name.startswith("log_strengths.dropout"):
                p.fill_(0.37).log_()
    problem = make_problem(fixed, learned.model, horizon=3, batch_size=4)
    same = {n: p.detach() for n, p in learned.policy.named_parameters() if not n.startswith(LOSS_PARAMETERS)}
    problem.policy.load_state_dict(same)
    problem = problem._replace(tasks=learned.tasks, draws=learned.draws)
    found, expected = (each.hypergradients(Mixed()) for each in (problem, learned))
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-12, atol=0)
    for name, grads in found.grads.items():
        torch.testing.assert_close(grads, expected.grads[name], msg=name)


def test_torchs_optimizers_train_on_it_too():
    settings = loss_settings(optimizer="Adam", init=InitSettings("learned"))
    problem = make_problem(settings, tiny_mlp(), horizon=2, n_tasks=1)
    grads = summed(problem.through(ThroughHigher))
    own = {n: g for n, g in grads.items() if n.startswith(LOSS_PARAMETERS)}
    assert len(own) == 3
    errors = central_difference_errors(problem, own, steps=[1e-3, 1e-4], side_by_side=False)
    assert not above(errors, 1e-6)
