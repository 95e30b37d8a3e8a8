import pytest
import torch
from inner_problems import GRANULARITIES, REGIMES, mlp_problem

from metaopt.inner.draws import take_draws
from metaopt.inner.unroll import constant_gradient, exact_gradient, minibatch, unroll
from metaopt.trees import take_tasks
from metaopt.types import Batch


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("regime", REGIMES)
def test_it_is_the_loop_that_one_would_write_by_hand(regime, granularity):
    """The inner step of the design, with torch.autograd and the policy's numbers read out by hand."""
    problem = mlp_problem(regime, granularity)
    task, draws = take_tasks(problem.tasks, 1), take_draws(problem.draws, 1)
    start = problem.policy(draws.noise)
    found, found_loss = unroll(start, problem.objective.loss, task.support, draws.order, problem.horizon)

    own = {name: p.detach() for name, p in problem.policy.named_parameters()}
    names = list(problem.model.shapes)

    def entry(table, name):
        key = f"{table}.all"
        return own[key if key in own else f"{table}.{name.replace('.', '/')}"].exp()

    def transformed(name, g):
        matrix = own.get(f"curvature.{name.replace('.', '/')}/0")
        if matrix is None:
            return g
        return matrix @ g if g.dim() == 1 else matrix @ g @ own[f"curvature.{name.replace('.', '/')}/1"].T

    first = {name: start.params[name].detach() for name in names}
    theta, memory = dict(first), {name: torch.zeros_like(first[name]) for name in names}
    mu = own["momentum_logit"].sigmoid()
    for t in range(problem.horizon):
        x, y = task.support
        if draws.order is not None:
            x, y = x[draws.order[t]], y[draws.order[t]]
        leaves = {name: theta[name].requires_grad_() for name in names}
        loss = problem.objective.loss(leaves, Batch(x, y))
        grads = torch.autograd.grad(loss, list(leaves.values()))
        for name, g in zip(names, grads, strict=True):
            value = theta[name].detach()
            decay = entry("log_strengths.l2", name) * value
            pull = entry("log_strengths.pull", name) * (value - first[name])
            memory[name] = mu * memory[name] + transformed(name, g) + decay + pull
            theta[name] = value - entry("log_schedule", name)[t] * entry("log_strengths.lr", name) * memory[name]
    for name in names:
        torch.testing.assert_close(found[name].detach(), theta[name], rtol=1e-12, atol=1e-14, msg=name)
    torch.testing.assert_close(found_loss, loss)


def test_a_horizon_of_zero_changes_nothing():
    problem = mlp_problem("few_shot", "tensor")
    task, draws = take_tasks(problem.tasks, 0), take_draws(problem.draws, 0)
    start = problem.policy(draws.noise)
    params, _ = unroll(start, problem.objective.loss, task.support, draws.order, 0)
    for name, p in params.items():
        assert p is start.params[name]


def test_gradients_as_constants_have_the_same_values_and_no_graph():
    problem = mlp_problem("few_shot", "tensor")
    task, draws = take_tasks(problem.tasks, 0), take_draws(problem.draws, 0)
    params = problem.policy(draws.noise).params
    exact, loss = exact_gradient(problem.objective.loss)(params, task.support)
    constant, same = constant_gradient(problem.objective.loss)(params, task.support)
    assert torch.equal(loss, same)
    for name, grad in exact.items():
        assert torch.equal(constant[name], grad)
        assert grad.requires_grad
        assert not constant[name].requires_grad


def test_a_minibatch_is_the_examples_of_its_step():
    support = Batch(torch.arange(10.0)[:, None], torch.arange(10))
    order = torch.tensor([[0, 1], [7, 3]])
    assert minibatch(support, order, 1).y.tolist() == [7, 3]
    assert minibatch(support, order, 1).x.flatten().tolist() == [7.0, 3.0]
    assert minibatch(support, None, 1) is support
