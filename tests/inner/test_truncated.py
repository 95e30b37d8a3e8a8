import pytest
import torch
from inner_problems import (
    GRANULARITIES,
    REGIMES,
    above,
    conv4_problem,
    make_problem,
    mlp_problem,
    relative_differences,
    tiny_mlp,
)

from metaopt.inner.draws import take_draws
from metaopt.inner.hypergradient import hypergradients_of
from metaopt.inner.reverse import Reverse
from metaopt.inner.truncated import Truncated
from metaopt.policies.settings import InitSettings, PolicySettings, StrengthSettings
from metaopt.trees import stacked, take_tasks
from metaopt.types import Batch, Kind


def windows_by_hand(problem, window):
    """Task by task with torch.autograd: what is carried is cut off at the end of each window, and the losses averaged.

    Where training starts is differentiated in the first window; the anchor of the pull, wherever it pulls.
    """
    policy, _, _, objective, tasks, draws, horizon = problem
    results = []
    for i in range(len(tasks.support.x)):
        task, own = take_tasks(tasks, i), take_draws(draws, i)
        start = policy(own.noise)
        params, rule, _ = start
        state = rule.init(params)
        losses = []
        for step in range(horizon):
            if step and step % window == 0:
                params = {name: p.detach() for name, p in params.items()}
                state = {name: memory.detach() for name, memory in state.items()}
            x, y = task.support
            batch = Batch(x, y) if own.order is None else Batch(x[own.order[step]], y[own.order[step]])
            params = {name: p if p.requires_grad else p.requires_grad_() for name, p in params.items()}
            support_loss = objective.loss(params, batch)
            grads = torch.autograd.grad(support_loss, list(params.values()), create_graph=True)
            params, state = rule.update(params, dict(zip(params, grads, strict=True)), state, step)
            if step == horizon - 1 or (step + 1) % window == 0:
                losses.append(objective.loss(params, task.query))
        named = dict(policy.named_parameters())
        mean = torch.stack(losses).mean()
        by_name = dict(zip(named, torch.autograd.grad(mean, list(named.values())), strict=True))
        loss, accuracy = objective.scores(params, task.query)
        results.append((by_name, loss.detach(), accuracy.detach(), support_loss.detach()))
    grads, *values = zip(*results, strict=True)
    return hypergradients_of(stacked(grads), *(torch.stack(value) for value in values))


def assert_same(found, expected, limit=1e-9):
    assert not above(relative_differences(found.grads, expected.grads), limit)
    for name in ("loss", "accuracy", "support_loss"):
        values = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(*values, rtol=1e-11, atol=1e-13, equal_nan=True, msg=name)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("second", ["reverse", "forward"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_windows_are_those_that_one_would_write_by_hand(granularity, second, window):
    problem = mlp_problem("from_scratch", granularity)  # horizon 5: the last window is shorter, or there is none
    assert_same(problem.hypergradients(Truncated(window, second)), windows_by_hand(problem, window))


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
@pytest.mark.parametrize("horizon", [3, 4])
def test_so_are_those_of_full_batches_and_a_learned_start(horizon, kind):
    problem = mlp_problem("few_shot", "element", kind, horizon=horizon)
    assert_same(problem.hypergradients(Truncated(2)), windows_by_hand(problem, 2))


def test_so_are_those_of_conv4():
    problem = conv4_problem("from_scratch", "tensor", "batch", seed=2)
    assert_same(problem.hypergradients(Truncated(2)), windows_by_hand(problem, 2))


@pytest.mark.parametrize("regime", REGIMES)
def test_losses_are_those_of_the_whole_training(regime):
    problem = mlp_problem(regime, "tensor")
    found, whole = problem.hypergradients(Truncated(2)), problem.hypergradients(Reverse())
    for name in ("loss", "accuracy", "support_loss"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name), rtol=1e-12, atol=0, msg=name)


def test_a_learned_start_without_a_pull_is_moved_by_the_first_window_alone():
    settings = PolicySettings(lr=StrengthSettings("learned", 0.3, "tensor"), init=InitSettings("learned"))
    problem = make_problem(settings, tiny_mlp(), horizon=4)
    first = problem._replace(horizon=2).hypergradients(Reverse()).grads
    starts = {name: grads / 2 for name, grads in first.items() if name.startswith("init.")}
    found = {name: grads for name, grads in problem.hypergradients(Truncated(2)).grads.items() if name in starts}
    assert len(starts) == 4
    assert not above(relative_differences(found, starts), 1e-10)


def test_truncation_is_biased():
    problem = mlp_problem("from_scratch", "tensor")
    cut, whole = (problem.hypergradients(method) for method in (Truncated(2), Reverse()))
    assert min(relative_differences(cut.grads, whole.grads).values()) > 1e-3
