"""Diagonal quadratics: training is a linear recursion, so its end and every derivative of it have a closed form."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from inner_problems import normal

from metaopt.inner.adapt import adapt
from metaopt.inner.checkpointing import Checkpointing
from metaopt.inner.draws import Draws
from metaopt.inner.forward import Forward
from metaopt.inner.mixed import Mixed
from metaopt.inner.reverse import Reverse
from metaopt.inner.truncated import Truncated
from metaopt.models.model import Moments
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings, StrengthSettings
from metaopt.types import Batch, TaskBatch

MODES = {
    "reverse": Reverse,
    "mixed": Mixed,
    "mixed_forward": partial(Mixed, second="forward"),
    "checkpointing": Checkpointing,
    "checkpointing_2": partial(Checkpointing, stored=2, second="forward"),
    "truncated": partial(Truncated, window=10),
    "forward": Forward,
}
modes = pytest.mark.parametrize("mode", MODES)
SIZE, TASKS = 5, 3
MEAN, STD = 0.2, 0.7


def scores(params, batch):
    loss = 0.5 * (batch.x * (params["theta"] - batch.y) ** 2).sum()
    return loss, torch.full_like(loss, torch.nan)


OBJECTIVE = Objective(lambda params, batch: scores(params, batch)[0], scores, scores)


def quadratic_problem(settings, horizon):
    generator = torch.Generator().manual_seed(0)
    shapes = {"theta": torch.Size([SIZE])}
    policy = Policy(settings, shapes, {"theta": Moments(MEAN, STD)}, horizon, generator).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.2 * normal(parameter.shape, generator))

    def batch():
        curvature = 0.5 + normal((TASKS, SIZE), generator).abs()
        return Batch(curvature, normal((TASKS, SIZE), generator))

    draws = Draws({"theta": normal((TASKS, SIZE), generator)}, None)
    return policy, TaskBatch(batch(), batch(), batch()), draws


def learned_settings(granularity, init, **others):
    return PolicySettings(
        lr=StrengthSettings("learned", 0.2, granularity),
        l2=StrengthSettings("learned", 0.1, granularity),
        pull=StrengthSettings("learned", 0.3, granularity),
        init=InitSettings(init, granularity),
        **others,
    )


@modes
@pytest.mark.parametrize("horizon", [1, 2, 10])
@pytest.mark.parametrize("init", ["learned", "scaled"])
def test_hypergradients_of_quadratics_are_exact(init, horizon, mode):
    """θ_T = θ* + P (θ₀ − θ*) with k = a + λ + ρ, θ* = (a c + ρ θ₀) / k and P = Π_t (1 − s_t α k)."""
    settings = learned_settings("element", init, schedule="step")
    policy, tasks, draws = quadratic_problem(settings, horizon)
    found = MODES[mode]()(policy, OBJECTIVE, tasks, draws, horizon)
    value = {name: p.detach().numpy() for name, p in policy.named_parameters()}
    alpha, lam, rho = (np.exp(value[f"log_strengths.{name}.theta"]) for name in ("lr", "l2", "pull"))
    s = np.exp(value["log_schedule.all"])
    for i in range(TASKS):
        (a, c), (b, d) = ((batch.x[i].numpy(), batch.y[i].numpy()) for batch in (tasks.support, tasks.query))
        random = STD * draws.noise["theta"][i].numpy()
        if init == "learned":
            start = value["init.theta"]
        else:
            random = random * np.exp(value["log_strengths.init_std.theta"])
            start = MEAN + random
        k = a + lam + rho
        rest = (a * c + rho * start) / k
        factors = 1 - s[:, None] * alpha * k
        product = factors.prod(0)
        end = rest + product * (start - rest)
        slope = b * (end - d)  # of the query loss, by θ_T
        without = np.stack([np.delete(factors, t, 0).prod(0) for t in range(horizon)])  # d product / d factor
        by_alpha = (start - rest) * (without * -s[:, None] * k).sum(0)
        by_k = (start - rest) * (without * -s[:, None] * alpha).sum(0)
        by_lam = (1 - product) * -rest / k + by_k
        by_rho = (1 - product) * (start - rest) / k + by_k
        by_start = product + (1 - product) * rho / k
        expected = {
            "log_strengths.lr.theta": slope * alpha * by_alpha,
            "log_strengths.l2.theta": slope * lam * by_lam,
            "log_strengths.pull.theta": slope * rho * by_rho,
            "log_schedule.all": s * (slope * (start - rest) * without * -alpha * k).sum(1),
            "init.theta": slope * by_start,
            "log_strengths.init_std.theta": slope * by_start * random,
        }
        assert found.loss[i].item() == pytest.approx(0.5 * (b * (end - d) ** 2).sum(), rel=1e-12)
        for name, grads in found.grads.items():
            np.testing.assert_allclose(grads[i].numpy(), expected[name], rtol=1e-11, atol=1e-14, err_msg=name)


@modes
@pytest.mark.parametrize("granularity", ["global", "tensor"])
def test_a_shared_strength_collects_the_hypergradients_of_its_elements(granularity, mode):
    horizon = 4
    shared, tasks, draws = quadratic_problem(learned_settings(granularity, "scaled"), horizon)
    single, _, _ = quadratic_problem(learned_settings("element", "scaled"), horizon)
    with torch.no_grad():
        for quantity, table in single.log_strengths.items():
            (value,) = shared.log_strengths[quantity].parameters()
            table["theta"].fill_(value)
    found = MODES[mode]()(shared, OBJECTIVE, tasks, draws, horizon).grads
    elements = MODES[mode]()(single, OBJECTIVE, tasks, draws, horizon).grads
    for name, grads in found.items():
        quantity = name.split(".")[1]
        torch.testing.assert_close(grads, elements[f"log_strengths.{quantity}.theta"].sum(1), rtol=1e-11, atol=1e-14)


@modes
@pytest.mark.parametrize("horizon", [2, 3, 8])
def test_the_hypergradient_of_momentum_is_exact(horizon, mode):
    """One step maps (θ − c, m) by the matrix A = [[1 − αa, −αμ], [a, μ]]: dA^T/dμ = Σ_i A^i (dA/dμ) A^(T−1−i)."""
    settings = PolicySettings(
        lr=StrengthSettings("fixed", 0.3), momentum=MomentumSettings("learned", 0.7), init=InitSettings("fresh")
    )
    policy, tasks, draws = quadratic_problem(settings, horizon)
    found = MODES[mode]()(policy, OBJECTIVE, tasks, draws, horizon)
    alpha, mu = 0.3, 1 / (1 + math.exp(-policy.momentum_logit.item()))
    for i in range(TASKS):
        hypergradient = 0.0
        for j in range(SIZE):
            (a, c), (b, d) = ((batch.x[i, j].item(), batch.y[i, j].item()) for batch in (tasks.support, tasks.query))
            start = np.array([MEAN + STD * draws.noise["theta"][i, j].item() - c, 0.0])
            step = np.array([[1 - alpha * a, -alpha * mu], [a, mu]])
            by_mu = np.array([[0.0, -alpha], [0.0, 1.0]])
            power = np.linalg.matrix_power
            moved = sum(power(step, t) @ by_mu @ power(step, horizon - 1 - t) for t in range(horizon)) @ start
            end = (power(step, horizon) @ start)[0] + c
            hypergradient += b * (end - d) * moved[0] * mu * (1 - mu)
        assert found.grads["momentum_logit"][i].item() == pytest.approx(hypergradient, rel=1e-11)


def test_training_on_a_quadratic_ends_where_the_recursion_does():
    """The forward pass alone: a schedule of ones and no strengths is θ_T = c + (1 − αa)^T (θ₀ − c)."""
    settings = PolicySettings(lr=StrengthSettings("learned", 0.3, "global"))
    policy, tasks, draws = quadratic_problem(settings, 6)
    loss = adapt(policy, OBJECTIVE, tasks, draws, 6, on="test").loss[:, -1]
    (a, c), (b, d) = tasks.support, tasks.test
    alpha = policy.log_strengths["lr"]["all"].exp().detach()
    end = c + (1 - alpha * a) ** 6 * (MEAN + STD * draws.noise["theta"] - c)
    torch.testing.assert_close(loss, 0.5 * (b * (end - d) ** 2).sum(1), rtol=1e-12, atol=0)
