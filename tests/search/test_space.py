import math

import pytest
from search_helpers import HORIZON, USUAL

from metaopt.policies.baselines import OPTIMIZERS
from metaopt.search.mapping import PolicySpace
from metaopt.search.space import ADAM_SHARE, BATCH_SIZES, DIMENSIONS, ConventionalSpace, discrete, grid_of

WHOLE = ConventionalSpace(DIMENSIONS, 200)
SGD = {"optimizer": "sgd", "lr": 0.3, "l2": 1e-3, "momentum": 0.5, "schedule": "cosine", "batch_size": 16}


def n_points(grid):
    return math.prod(map(len, grid.values()))


@pytest.mark.parametrize("trials", [1, 2, 5, 30, 100, 1000])
@pytest.mark.parametrize(
    "dimensions", [USUAL, DIMENSIONS, ("lr",), ("lr", "momentum"), ("optimizer", "width")], ids=str
)
def test_a_grid_has_no_more_points_than_trials_and_all_inside_the_space(dimensions, trials):
    space = ConventionalSpace(dimensions, 200)
    grid = grid_of(space.distributions, trials)
    assert list(grid) == list(space.distributions)
    assert 1 <= n_points(grid) <= trials
    for name, values in grid.items():
        assert len(set(values)) == len(values)
        for value in values:
            distribution = space.distributions[name]
            assert distribution._contains(distribution.to_internal_repr(value)), (name, value)


@pytest.mark.parametrize("dimensions", [USUAL, DIMENSIONS, ("lr",), ("lr", "l2"), ("momentum",)], ids=str)
def test_a_grid_makes_use_of_its_trials(dimensions):
    assert n_points(grid_of(ConventionalSpace(dimensions, 200).distributions, 100)) >= 50


def test_a_grid_is_finest_in_the_learning_rate():
    grid = grid_of(ConventionalSpace(USUAL, 200).distributions, 100)
    assert len(grid["lr"]) == max(map(len, grid.values())) >= 4
    assert len(grid["optimizer"]) >= 2
    ratios = [b / a for a, b in zip(grid["lr"], grid["lr"][1:], strict=False)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))
    around = PolicySpace(("lr", "l2"), ("batch_size",), 200, (("batch_size", 16),))
    grid = grid_of(around.distributions, 30)
    assert len(grid["lr_multiplier"]) >= len(grid["l2_multiplier"]) >= 2


def test_a_point_is_the_optimizer_that_it_says():
    settings = WHOLE.settings(SGD)
    assert (settings.optimizer, settings.lr, settings.l2) == ("sgd", 0.3, 1e-3)
    assert (settings.momentum, settings.schedule) == (0.5, "cosine")
    adam = WHOLE.settings(SGD | {"optimizer": "adamw"})
    assert adam.lr == pytest.approx(0.3 * ADAM_SHARE)
    assert adam.momentum == 0
    assert WHOLE.settings(SGD | {"l2": 0.9e-5}).l2 == 0
    alone = ConventionalSpace(("lr",), 200).settings({"lr": 0.3})
    assert (alone.optimizer, alone.momentum, alone.l2, alone.schedule) == ("sgd", 0.9, 0.0, "constant")


def test_a_record_has_what_a_point_means_and_no_more():
    assert WHOLE.record(SGD) == SGD
    found = WHOLE.record(SGD | {"optimizer": "adam", "width": 32})
    assert "momentum" not in found
    assert found["lr"] == pytest.approx(0.3 * ADAM_SHARE)
    assert found["width"] == 32
    assert WHOLE.record(SGD | {"l2": 1e-6})["l2"] == 0


def test_candidates_go_side_by_side_unless_shapes_differ():
    groups = {
        WHOLE.candidate(SGD | changed, HORIZON).group
        for changed in (
            {},
            {"lr": 1.0},
            {"optimizer": "nesterov"},
            {"schedule": "linear"},
            {"l2": 0.1, "momentum": 0.0},
        )
    }
    assert groups == {("sgd", 16, ())}
    other = [{"optimizer": "adam"}, {"batch_size": 8}, {"width": 16}, {"depth": 1}, {"activation": "tanh"}]
    assert len({WHOLE.candidate(SGD | changed, HORIZON).group for changed in [{}, *other]}) == 1 + len(other)
    for name in OPTIMIZERS:
        numbers = WHOLE.candidate(SGD | {"optimizer": name}, HORIZON).numbers
        assert {key: tuple(tensor.shape) for key, tensor in numbers.items()} == {
            "lr": (), "l2": (), "momentum": (), "variant": (), "factors": (HORIZON,)
        }  # fmt: skip


@pytest.mark.parametrize(
    ("n_support", "sizes"), [(200, BATCH_SIZES), (33, (8, 16, 32, 33)), (16, (8, 16)), (8, (8,)), (5, (5,))]
)
def test_batches_go_up_to_the_whole_support_set(n_support, sizes):
    assert discrete(n_support)["batch_size"] == sizes
