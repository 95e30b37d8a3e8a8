import pytest
import torch
from inner_problems import REGIMES, above, mlp_problem, relative_differences

from metaopt.inner.draws import take_draws
from metaopt.inner.reverse import Reverse
from metaopt.trees import stacked, take_tasks

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
