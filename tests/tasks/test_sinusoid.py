import math

import pytest
import torch

from metaopt.errors import TaskError
from metaopt.tasks.family import hash_splits
from metaopt.tasks.sinusoid import Sinusoid
from metaopt.types import Kind


def sampled(n: int = 300, distribution: str = "maml", **sizes: int):
    return Sinusoid(**sizes, distribution=distribution).sample("meta_train", n, torch.Generator().manual_seed(0))


def points(tasks) -> tuple[torch.Tensor, torch.Tensor]:
    """All points of each task, [tasks, points, 1]."""
    return torch.cat([batch.x for batch in tasks], dim=1), torch.cat([batch.y for batch in tasks], dim=1)


def fitted(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Amplitude, phase and largest residual of A sin(x − phase) = a sin x + b cos x, by least squares; [tasks] each."""
    basis = torch.cat([x.sin(), x.cos()], dim=-1).double()
    a, b = (solution := torch.linalg.lstsq(basis, y.double()).solution).squeeze(-1).unbind(-1)
    residual = (basis @ solution - y).abs().amax((1, 2))
    return torch.hypot(a, b), torch.atan2(-b, a), residual


def test_shapes_and_spec():
    family = Sinusoid(support=5, query=7, test=9)
    tasks = family.sample("meta_test", 4, torch.Generator())
    assert [tuple(batch.x.shape) for batch in tasks] == [(4, 5, 1), (4, 7, 1), (4, 9, 1)]
    assert all(batch.y.shape == batch.x.shape and batch.y.dtype == torch.float32 for batch in tasks)
    assert (family.spec.kind, family.spec.input_shape, family.spec.output_size) == (Kind.regression, (1,), 1)


def test_all_sets_of_a_task_lie_on_one_curve_of_the_distribution():
    x, y = points(sampled())
    amplitude, phase, residual = fitted(x, y)
    assert residual.max() < 1e-4
    assert (amplitude.min() > 0.0999, amplitude.max() < 5.0001) == (True, True)
    assert (phase.min() > -1e-4, phase.max() < math.pi + 1e-4) == (True, True)
    # Uniform over the whole range: the mean and the spread of 300 draws are close to the distribution's.
    for values, low, high in ((amplitude, 0.1, 5.0), (phase, 0.0, math.pi), (x.flatten(), -5.0, 5.0)):
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.06 * (high - low))
        assert values.std().item() == pytest.approx((high - low) / math.sqrt(12), rel=0.1)
    assert x.abs().max() <= 5


def test_curves_of_meta_sgd_differ_in_their_frequency_too():
    """The largest residual against the best of a grid of frequencies is small, and no one frequency serves all."""
    x, y = points(sampled(distribution="meta_sgd"))
    grid = torch.linspace(0.79, 1.21, 421)
    fits = [fitted(frequency * x, y) for frequency in grid]
    residuals = torch.stack([residual for _, _, residual in fits])
    best = residuals.argmin(0)
    frequency = grid[best]
    assert residuals.amin(0).max() < 0.02
    assert residuals.amax(1).min() > 0.5
    assert (frequency.min() > 0.799, frequency.max() < 1.201) == (True, True)
    amplitude, phase = (torch.stack([fit[i] for fit in fits]).gather(0, best[None])[0] for i in (0, 1))
    # sin(ωx + φ): `fitted` finds −φ, which is between −π and 0.
    assert (phase.min() > -math.pi - 0.01, phase.max() < 0.01) == (True, True)
    for values, low, high in ((amplitude, 0.1, 5.0), (-phase, 0.0, math.pi), (frequency, 0.8, 1.2)):
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.06 * (high - low))
        assert values.std().item() == pytest.approx((high - low) / math.sqrt(12), rel=0.1)


def test_samples_of_mamls_distribution_are_those_that_they_have_always_been():
    tasks = Sinusoid().sample("meta_test", 3, torch.Generator().manual_seed(0))
    first = [-1.2443987131118774, -1.004655122756958, -1.9161282777786255, 1.9960726499557495, -2.373750925064087]
    assert tasks.support.y[0].flatten().tolist() == pytest.approx(first, rel=1e-6)
    assert tasks.test.x.double().sum().item() == pytest.approx(-7.133211612701416, rel=1e-6)
    assert Sinusoid().split_hash == "e1e95e0ffb48e509"


def test_the_sets_share_no_point():
    tasks = sampled(20)
    for task in range(20):
        points = torch.cat([batch.x[task].flatten() for batch in tasks])
        assert len(points.unique()) >= len(points) - 1  # two equal float32 draws are possible, a shared set is not


def test_the_hash_is_the_distributions():
    assert Sinusoid().split_hash == Sinusoid(support=10, query=3, test=4).split_hash
    other = Sinusoid(distribution="meta_sgd")
    assert other.split_hash != Sinusoid().split_hash
    assert other.split_hash == hash_splits("sinusoid", other.splits)


def test_a_distribution_that_there_is_not_is_refused():
    with pytest.raises(TaskError, match=r"tasks\.distribution is 'uniform'; choose one of maml, meta_sgd"):
        Sinusoid(distribution="uniform")


@pytest.mark.parametrize("key", ["support", "query", "test"])
def test_an_empty_set_is_refused(key):
    with pytest.raises(TaskError, match=rf"tasks\.{key} .* but is 0"):
        Sinusoid(**{key: 0})
