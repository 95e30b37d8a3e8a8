import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metaopt.policies.progressive import PARTS, SHORTEST, joins_at, part_at, progressive_order


def order_of(horizon, batch_size, n_support, n_tasks=3, seed=0):
    return progressive_order(n_tasks, horizon, batch_size, n_support, torch.Generator().manual_seed(seed))


def joins(horizon):
    return [step for step in range(horizon) if joins_at(step, horizon, torch.zeros(()))]


@given(horizon=st.integers(SHORTEST, 200), n_support=st.integers(PARTS, 70), batch=st.integers(1, 80))
def test_a_step_in_which_a_part_joins_is_of_new_examples_and_no_other_is(horizon, n_support, batch):
    batch = min(batch, n_support)
    order = order_of(horizon, batch, n_support)
    assert order.shape == (3, horizon, batch)
    new = joins(horizon)
    assert len(new) == PARTS - 1
    for task in order:
        known = set()
        for step, rows in enumerate(task.tolist()):
            if step in new:
                assert not known & set(rows)
            known |= set(rows)


@given(horizon=st.integers(SHORTEST, 100))
def test_by_the_half_all_examples_train(horizon):
    order = order_of(horizon, 20, 20)
    assert part_at(horizon - 1, horizon) == PARTS - 1
    half = order[0, (horizon + 1) // 2 + 1 :]  # after the step in which the last part joins
    assert all(sorted(rows.tolist()) == list(range(20)) for rows in half)


def test_all_that_have_joined_weigh_alike_in_a_full_batch():
    order = order_of(24, 16, 16)
    for step in range(24):
        counts = torch.bincount(order[0, step], minlength=16)
        present = counts[counts > 0]
        assert present.max() - present.min() <= 1
        assert (counts.sum(), len(present)) == (16, 4 if step in joins(24) else 4 * (part_at(step, 24) + 1))


def test_tasks_have_orders_of_their_own_and_a_seed_gives_the_same():
    order = order_of(24, 8, 16)
    assert not torch.equal(order[0], order[1])
    assert torch.equal(order, order_of(24, 8, 16))
    assert not torch.equal(order, order_of(24, 8, 16, seed=1))


@pytest.mark.parametrize("horizon", [SHORTEST, 50, 1000])
def test_steps_and_horizons_may_be_tensors(horizon):
    for step in (0, 1, 2, horizon // 6, horizon // 3, horizon // 2, horizon - 1, horizon + 5):
        expected = joins_at(step, horizon, torch.zeros(()))
        assert joins_at(torch.tensor(step), torch.tensor(horizon), torch.zeros(())) == expected


def test_nothing_joins_at_the_first_step_or_beyond_the_horizon():
    assert not joins_at(0, 12, torch.zeros(()))
    assert not any(joins_at(step, 12, torch.zeros(())) for step in range(12, 100))
