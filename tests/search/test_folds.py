import pytest
import torch
from search_helpers import CLASSES, PADDED, REGRESSION, SPEC, classification, padded, regression

from metaopt.errors import ConfigError
from metaopt.search.folds import folds_of
from metaopt.trees import take_tasks
from metaopt.types import Batch


def numbered(tasks):
    """The tasks with each support example's number in its first input."""
    x = tasks.support.x.clone()
    x[..., 0] = torch.arange(x.shape[1], dtype=x.dtype)
    return tasks._replace(support=Batch(x, tasks.support.y))


def rows_of(folds):
    """Numbers of the examples that each fold trains on and leaves out, for tasks from `numbered`."""
    return [
        (set(inside.tolist()), set(outside.tolist()))
        for inside, outside in zip(folds.tasks.support.x[..., 0], folds.tasks.query.x[..., 0], strict=True)
    ]


@pytest.mark.parametrize(("support", "count"), [(18, 3), (18, 5), (20, 7), (6, 5), (5, 5), (4, 2)])
@pytest.mark.parametrize("spec", [SPEC, REGRESSION, PADDED], ids=["classes", "regression", "padded"])
def test_folds_part_the_support_set(spec, support, count):
    tasks = {SPEC: classification, PADDED: padded}.get(spec, lambda n, support: regression(n))(4, support=support)
    tasks = numbered(tasks)
    n = tasks.support.x.shape[1]
    folds = folds_of(tasks, spec, count, 0)
    assert folds.each == count
    parts = rows_of(folds)
    assert len(parts) == 4 * count
    for task in range(4):
        own = parts[task * count : (task + 1) * count]
        for inside, outside in own:
            assert not inside & outside
            assert len(inside) == n - -(-n // count)
            assert len(outside) == n // count
        left_out = [row for _, outside in own for row in outside]
        assert len(left_out) == len(set(left_out))
        assert set().union(*(inside for inside, _ in own)) <= set(range(n))
        if n % count == 0:
            assert all(inside | outside == set(range(n)) for inside, outside in own)
    for task in range(4):  # what a row holds moves with it
        for fold in range(task * count, (task + 1) * count):
            rows = folds.tasks.query.x[fold, :, 0].long()
            assert torch.equal(folds.tasks.query.x[fold].nan_to_num(), tasks.support.x[task, rows].nan_to_num())
            assert torch.equal(folds.tasks.query.y[fold], tasks.support.y[task, rows])
            assert torch.equal(folds.tasks.test.y[fold], folds.tasks.query.y[fold])


@pytest.mark.parametrize(("support", "count"), [(18, 3), (18, 6), (18, 5), (20, 7), (6, 4)])
def test_classes_are_spread_evenly(support, count):
    """Also where classes lie one after the other, and where none has an example for each fold."""
    tasks = classification(4, support=support)
    y = tasks.support.y.sort(1).values
    tasks = tasks._replace(support=Batch(tasks.support.x, y))
    folds = folds_of(tasks, SPEC, count, 0)
    for batch in (folds.tasks.support, folds.tasks.query):
        counts = torch.nn.functional.one_hot(batch.y, CLASSES).sum(1)
        share = batch.y.shape[1] / CLASSES
        assert (counts >= int(share) - (support % count > 0)).all()
        assert (counts <= -(-batch.y.shape[1] // CLASSES) + (support % count > 0)).all()
    assert (torch.nn.functional.one_hot(folds.tasks.support.y, CLASSES).sum(1) > 0).all()


def test_a_rare_class_is_missing_only_where_it_is_left_out():
    """Where a fold trains on one example less than it could, that is none of the few."""
    tasks = classification(1, support=7)
    tasks = tasks._replace(support=Batch(tasks.support.x, torch.tensor([[0, 0, 0, 0, 0, 1, 2]])))
    for seed in range(10):
        trained = folds_of(tasks, SPEC, 3, seed).tasks.support.y
        for rare in (1, 2):
            assert ((trained == rare).any(1)).sum() == 2


def test_they_depend_on_the_seed_and_not_on_the_other_tasks():
    tasks = classification(3)
    first, again, other = (folds_of(tasks, SPEC, 3, seed).tasks.query.x for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(folds_of(take_tasks(tasks, slice(2, 3)), SPEC, 3, 0).tasks.query.x, first[6:])


def test_more_folds_than_examples_are_refused():
    with pytest.raises(
        ConfigError, match=r"^search\.folds is 7, but a support set has 6 examples; use 6 folds or fewer$"
    ):
        folds_of(classification(support=6), SPEC, 7, 0)
