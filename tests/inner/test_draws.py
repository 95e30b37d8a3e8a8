import hypothesis
import pytest
import torch
from hypothesis import strategies as st

from metaopt.inner.draws import Draws, cast_draws, draw, take_draws
from metaopt.policies.loss_strengths import BANK_SIZE
from metaopt.policies.rule import LossNoise

SHAPES = {"weight": torch.Size([40, 50]), "bias": torch.Size([50])}


def drawn(n_tasks=2, horizon=5, batch_size=3, n_support=7, seed=0, shapes=SHAPES):
    return draw(shapes, n_tasks, horizon, batch_size, n_support, torch.Generator().manual_seed(seed))


@hypothesis.settings(max_examples=50)
@hypothesis.given(n_support=st.integers(2, 12), batch_size=st.integers(1, 11), horizon=st.integers(1, 20))
def test_minibatches_go_through_the_support_set_in_epochs(n_support, batch_size, horizon):
    order = drawn(3, horizon, batch_size, n_support, shapes={"bias": torch.Size([1])}).order
    if batch_size >= n_support:
        assert order is None
        return
    assert order.shape == (3, horizon, batch_size)
    for examples in order.flatten(1):
        for epoch in examples.split(n_support):
            assert len(set(epoch.tolist())) == len(epoch), "an example came twice in an epoch"
            assert set(epoch.tolist()) <= set(range(n_support))


def test_epochs_and_tasks_have_orders_of_their_own():
    order = drawn(n_tasks=2, horizon=4, batch_size=10, n_support=20).order.reshape(2, 2, 20)
    assert len({tuple(epoch) for task in order.tolist() for epoch in task}) == 4


def test_each_example_comes_first_equally_often():
    first = drawn(n_tasks=6000, horizon=1, batch_size=1, n_support=3, shapes={"bias": torch.Size([1])}).order.flatten()
    assert (first.bincount(minlength=3) / 6000 - 1 / 3).abs().max() < 0.03


@pytest.mark.parametrize("batch_size", [None, 7, 8])
def test_a_batch_that_covers_the_support_set_has_no_order(batch_size):
    assert drawn(batch_size=batch_size).order is None


def test_noise_is_standard_normal_and_independent():
    noise = drawn(n_tasks=3).noise
    assert {name: tuple(n.shape) for name, n in noise.items()} == {"weight": (3, 40, 50), "bias": (3, 50)}
    weight = noise["weight"]
    assert weight.mean().abs() < 0.05
    assert (weight.std() - 1).abs() < 0.05
    assert (weight.pow(4).mean() - 3).abs() < 0.4
    assert (weight[0] * weight[1]).mean().abs() < 0.1


def test_draws_depend_on_the_generator_alone():
    first = drawn(seed=1)
    torch.manual_seed(99)
    again, other = drawn(seed=1), drawn(seed=2)
    assert torch.equal(first.order, again.order)
    assert not torch.equal(first.order, other.order)
    for name in SHAPES:
        assert torch.equal(first.noise[name], again.noise[name])
        assert not torch.equal(first.noise[name], other.noise[name])


def test_the_noise_does_not_depend_on_the_horizon_or_the_batch():
    # So that a sweep over the horizon compares trainings from the same start.
    for name, noise in drawn().noise.items():
        for other in (drawn(horizon=50), drawn(batch_size=None)):
            assert torch.equal(other.noise[name], noise)


@pytest.mark.parametrize("batch_size", [3, None])
def test_taking_draws_takes_noise_and_order_of_the_same_tasks(batch_size):
    draws = drawn(n_tasks=4, batch_size=batch_size)
    one, some = take_draws(draws, 2), take_draws(draws, slice(1, 3))
    for name, noise in draws.noise.items():
        assert torch.equal(one.noise[name], noise[2])
        assert torch.equal(some.noise[name], noise[1:3])
    if batch_size is None:
        assert one.order is some.order is None
    else:
        assert torch.equal(one.order, draws.order[2])
        assert torch.equal(some.order, draws.order[1:3])


def test_casting_changes_the_noise_and_not_the_order():
    draws = drawn()
    double = cast_draws(draws, torch.float64)
    assert torch.equal(double.order, draws.order)
    assert double.order.dtype == torch.int64
    for name, noise in draws.noise.items():
        assert double.noise[name].dtype == torch.float64
        assert torch.equal(double.noise[name].float(), noise)


def test_noise_of_the_losses_is_drawn_last_and_only_where_it_is_asked_for():
    arguments = (SHAPES, 2, 5, 3, 7)
    plain = draw(*arguments, torch.Generator().manual_seed(0))
    noisy = draw(*arguments, torch.Generator().manual_seed(0), loss_noise=True)
    assert (plain.loss.bank, plain.loss.present) == (None, None)
    assert torch.equal(noisy.order, plain.order)
    for name in SHAPES:
        assert torch.equal(noisy.noise[name], plain.noise[name])
    assert noisy.loss.bank.shape == (2, BANK_SIZE)
    assert not torch.equal(*noisy.loss.bank)


def test_seeds_differ_by_task_and_by_draw_and_leave_the_generator_as_it_is():
    generator = torch.Generator().manual_seed(0)
    first, second = (draw(SHAPES, 3, 5, 3, 7, generator) for _ in range(2))
    bare = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    for shape in SHAPES.values():
        torch.randn(3, *shape, generator=bare)
    torch.rand(3, 3, 7, generator=bare)
    again = draw(SHAPES, 3, 5, 3, 7, bare)
    assert all(torch.equal(again.noise[name], second.noise[name]) for name in SHAPES), "the seeds were drawn from it"
    seeds = torch.cat([first.loss.seed, second.loss.seed])
    assert len(seeds.unique()) == 6
    cast = cast_draws(first, torch.float32)
    assert torch.equal(cast.loss.seed, first.loss.seed)
    assert torch.equal(take_draws(first, 1).loss.seed, first.loss.seed[1])


def test_noise_of_the_losses_is_taken_and_cast_with_the_rest():
    bank, present = torch.randn(3, 5), torch.ones(3, 2)
    draws = Draws({"bias": torch.zeros(3, 1)}, None, LossNoise(bank, present))
    one = cast_draws(take_draws(draws, 1), torch.float64)
    assert torch.equal(one.loss.bank, bank[1].double())
    assert torch.equal(one.loss.present, present[1].double())
    assert take_draws(draws._replace(loss=LossNoise(bank)), slice(0, 2)).loss.present is None


def test_noise_that_nothing_starts_at_takes_neither_memory_nor_random_numbers():
    found = draw(SHAPES, 2, 5, 3, 7, torch.Generator().manual_seed(0), start_noise=False)
    expected = draw({}, 2, 5, 3, 7, torch.Generator().manual_seed(0))
    assert torch.equal(found.order, expected.order)
    for draws in (found, cast_draws(found, torch.float64)):
        for name, shape in SHAPES.items():
            assert draws.noise[name].shape == (2, *shape)
            assert not draws.noise[name].any()
            assert draws.noise[name].untyped_storage().nbytes() <= 8
    assert cast_draws(found, torch.float64).noise["bias"].dtype == torch.float64


def test_numbers_that_share_their_memory_keep_their_value():
    draws = Draws({"scalar": torch.tensor(3.0).expand(4), "none": torch.zeros(()).expand(0, 2)}, None)
    found = cast_draws(draws, torch.float64).noise
    assert found["scalar"].tolist() == [3.0] * 4
    assert found["none"].shape == (0, 2)
