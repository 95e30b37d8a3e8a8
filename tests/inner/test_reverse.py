import pytest
import torch
from inner_problems import REGIMES, above, mlp_problem, relative_differences, summed

from metaopt.inner.draws import take_draws
from metaopt.inner.reverse import Reverse
from metaopt.trees import stacked, take_tasks
from metaopt.types import Batch

orders = pytest.mark.parametrize("first_order", [False, True], ids=["reverse", "first_order"])


@orders
@pytest.mark.parametrize("regime", REGIMES)
def test_tasks_side_by_side_have_the_hypergradients_of_tasks_alone(regime, first_order):
    problem = mlp_problem(regime, "element", n_tasks=4)
    together = problem.hypergradients(Reverse(first_order))
    alone = [
        problem._replace(
            tasks=take_tasks(problem.tasks, slice(i, i + 1)), draws=take_draws(problem.draws, slice(i, i + 1))
        ).hypergradients(Reverse(first_order))
        for i in range(4)
    ]
    expected = stacked([{name: grads[0] for name, grads in found.grads.items()} for found in alone])
    assert not above(relative_differences(together.grads, expected), 1e-12)
    torch.testing.assert_close(together.loss, torch.cat([found.loss for found in alone]))
    torch.testing.assert_close(together.support_loss, torch.cat([found.support_loss for found in alone]))


@orders
@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_chunks_change_nothing(chunk, first_order):
    problem = mlp_problem("from_scratch", "element", n_tasks=5)
    whole, parts = (problem.hypergradients(Reverse(first_order, size)) for size in (64, chunk))
    assert not above(relative_differences(parts.grads, whole.grads), 1e-12)
    for name in ("loss", "accuracy", "support_loss"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), equal_nan=True)


@orders
@pytest.mark.parametrize("where", ["support", "query"])
def test_a_task_that_is_not_a_number_leaves_the_others_alone(where, first_order):
    problem = mlp_problem("few_shot", "element", n_tasks=3)
    batch = getattr(problem.tasks, where)
    x = batch.x.clone()
    x[1] = torch.nan
    spoilt = problem._replace(tasks=problem.tasks._replace(**{where: Batch(x, batch.y)}))
    expected, found = (p.hypergradients(Reverse(first_order)) for p in (problem, spoilt))
    for name, grads in found.grads.items():
        assert grads[1].isnan().any(), name
        torch.testing.assert_close(grads[[0, 2]], expected.grads[name][[0, 2]], rtol=1e-12, atol=1e-14, msg=name)
    assert found.loss.isnan().tolist() == [False, True, False]


def test_an_exploding_task_leaves_the_others_alone():
    problem = mlp_problem("from_scratch", "tensor", n_tasks=3)
    x = problem.tasks.support.x.clone()
    x[0] *= 1e200
    spoilt = problem._replace(tasks=problem.tasks._replace(support=Batch(x, problem.tasks.support.y)))
    expected, found = (p.hypergradients(Reverse()) for p in (problem, spoilt))
    for name, grads in found.grads.items():
        torch.testing.assert_close(grads[1:], expected.grads[name][1:], rtol=1e-12, atol=1e-14, msg=name)


@orders
def test_the_policy_is_left_as_it_was(first_order):
    problem = mlp_problem("few_shot", "element")
    before = {name: p.clone() for name, p in problem.policy.named_parameters()}
    found = problem.hypergradients(Reverse(first_order))
    for name, p in problem.policy.named_parameters():
        assert torch.equal(p, before[name]), name
        assert p.grad is None
        assert p.requires_grad
        assert found.grads[name].shape == (2, *p.shape)
    for values in (*found.grads.values(), found.loss, found.accuracy, found.support_loss):
        assert not values.requires_grad, "a graph would be kept alive"


def test_it_does_not_matter_whether_gradients_are_switched_off_outside():
    problem = mlp_problem("few_shot", "tensor")
    expected = summed(problem.hypergradients(Reverse()))
    with torch.no_grad():
        found = summed(problem.hypergradients(Reverse()))
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def test_first_order_leaves_out_the_second_derivatives():
    problem = mlp_problem("few_shot", "element")
    exact, first = (problem.hypergradients(Reverse(first_order)) for first_order in (False, True))
    assert torch.equal(exact.loss, first.loss), "the value does not depend on how it is differentiated"
    differences = relative_differences(first.grads, exact.grads)
    assert min(error for name, error in differences.items() if name.startswith("init.")) > 1e-3


def test_first_order_is_exact_for_the_last_step():
    # No gradient is taken after the last step, so its schedule factor has the same derivative in both.
    problem = mlp_problem("from_scratch", "tensor")
    exact, first = (problem.hypergradients(Reverse(first_order)).grads for first_order in (False, True))
    schedules = [name for name in exact if name.startswith("log_schedule")]
    assert len(schedules) == 4
    for name in schedules:
        torch.testing.assert_close(first[name][:, -1], exact[name][:, -1], rtol=1e-12, atol=0)
        assert not torch.allclose(first[name][:, 0], exact[name][:, 0], rtol=1e-3)
