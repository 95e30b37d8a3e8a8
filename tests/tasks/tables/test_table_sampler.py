from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from table_makers import draw, make_table

from metaopt.tasks.tables.table import RowSizes
from metaopt.tasks.tables.table_sampler import TableSampler, stratified
from metaopt.types import SPLITS, Kind

SIZES = RowSizes(10, 8, 12)


def sampler_of(*tables, sizes=SIZES):
    """A sampler that has these tables in each split."""
    return TableSampler({split: list(tables) for split in SPLITS}, sizes)


def all_rows(tasks):
    """Inputs and targets of support, query and test side by side."""
    return torch.cat([batch.x for batch in tasks], 1), torch.cat([batch.y for batch in tasks], 1)


@pytest.fixture
def mixed():
    """Tables of different widths and classes, with missing values and categories."""
    return [
        make_table("wide", numbers=6, categories=(4, 2), classes=2, missing=0.1),
        make_table("narrow", numbers=1, classes=5, seed=1),
        make_table("coded", numbers=0, categories=(3, 3), classes=3, seed=2, missing=0.3),
    ]


def test_what_a_task_lacks_is_nan_in_its_last_inputs_and_nothing_else_is(mixed):
    sampler = sampler_of(*mixed)
    assert sampler.spec.padded
    assert (sampler.spec.input_shape, sampler.spec.output_size) == ((11,), 5)
    tasks, names = draw(sampler)
    assert set(names) == {"wide", "narrow", "coded"}
    widths = {table.name: table.width for table in mixed}
    assert widths == {"wide": 11, "narrow": 1, "coded": 6}
    for batch in tasks:
        for task, name in enumerate(names):
            absent = torch.arange(11) >= widths[name]
            assert torch.equal(batch.x[task].isnan(), absent.expand(batch.x.shape[1], 11))
        assert batch.x.dtype == torch.float32


def test_classes_are_marked_and_those_that_a_task_lacks_are_its_last(mixed):
    tasks, names = draw(sampler_of(*mixed))
    classes = {table.name: len(table.classes) for table in mixed}
    for batch in tasks:
        assert batch.y.dtype == torch.int64
        for task, name in enumerate(names):
            marks = batch.y[task]
            assert (marks[:, classes[name] :] == -1).all()
            assert (marks[:, : classes[name]] >= 0).all()
            assert (marks.clamp(min=0).sum(1) == 1).all()


def test_sizes_are_those_asked_for_and_no_row_comes_twice():
    table = make_table(rows=40, numbers=1, classes=2)
    tasks, _ = draw(sampler_of(table))
    assert [batch.x.shape[1] for batch in tasks] == list(SIZES)
    x, _ = all_rows(tasks)
    assert all(len(rows.unique()) == sum(SIZES) for rows in x.squeeze(-1))


def test_labels_stay_with_their_rows():
    table = make_table(rows=40, numbers=2, classes=4)
    x = table.x.copy()
    x[:, 0] = table.y
    tasks, _ = draw(sampler_of(replace(table, x=x)))
    inputs, marks = all_rows(tasks)
    for task in range(len(inputs)):
        by_class = [inputs[task, marks[task, :, label] == 1, 0] for label in range(4)]
        assert all(len(values.unique()) == 1 for values in by_class)
        assert [values[0].item() for values in by_class] == sorted(values[0].item() for values in by_class)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(3, 60), min_size=1, max_size=7),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_every_first_part_of_the_rows_has_each_class_in_proportion(counts, part, seed):
    bounds = np.cumsum([0, *counts])
    strata = [np.arange(start, end) for start, end in pairwise(bounds)]
    n = max(1, int(part * bounds[-1]))
    rows = stratified(strata, n, np.random.default_rng(seed))
    assert len(set(rows.tolist())) == n
    label = np.searchsorted(bounds, rows, side="right") - 1
    for size in range(1, n + 1):
        found = np.bincount(label[:size], minlength=len(counts))
        if size <= len(counts):
            assert found.max() == 1
            continue
        # One row of each comes first; what follows is in proportion up to a row or two.
        exact = 1 + (np.array(counts) - 1) * (size - len(counts)) / (bounds[-1] - len(counts))
        assert (np.abs(found - exact) < 2).all()


@pytest.mark.parametrize("classes", [0, 3])
def test_which_rows_are_drawn_varies(classes):
    table = make_table(rows=200, numbers=1, classes=classes)
    first, second = (draw(sampler_of(table), n=1, seed=seed)[0].test.x for seed in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("classes", [0, 3])
def test_support_rows_alone_decide_how_a_task_looks(classes):
    # An outlier in one row at a time: exactly the support rows move anything in the support set.
    table = make_table(rows=34, numbers=2, categories=(3,), classes=classes)
    reference = draw(sampler_of(table), n=1)[0]
    moving = 0
    for row in range(table.rows):
        x, y = table.x.copy(), table.y.copy()
        x[row, :2] = 1e4
        if not classes:
            y[row] = -1e4
        changed = draw(sampler_of(replace(table, x=x, y=y)), n=1)[0]
        same = torch.equal(changed.support.x, reference.support.x) and torch.equal(
            changed.support.y, reference.support.y
        )
        moving += not same
        if same:
            others = torch.cat([changed.query.x, changed.test.x], 1) != torch.cat(
                [reference.query.x, reference.test.x], 1
            )
            assert others.any(-1).sum() <= 1, "a row outside of the support set moved another row"
    assert moving == SIZES.support


def test_targets_of_a_regression_are_standardised_by_the_support_set():
    tasks, _ = draw(sampler_of(make_table(rows=300, classes=0), sizes=RowSizes(50, 50, 150)))
    assert tasks.support.y.shape == (6, 50, 1)
    torch.testing.assert_close(tasks.support.y.mean(1), torch.zeros(6, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(tasks.support.y.std(1, correction=0), torch.ones(6, 1))
    assert (tasks.test.y.mean(1).abs() > 1e-3).all()
    assert tasks.test.y.dtype == torch.float32


def test_equal_support_targets_are_centred_and_not_blown_up():
    table = make_table(rows=40, classes=0)
    y = np.full(40, 0.1)
    y[7] = 0.6
    tasks, _ = draw(sampler_of(replace(table, y=y)), n=20)
    assert tasks.test.y.abs().max() < 7
    assert {round(float(value), 3) for value in tasks.query.y[(tasks.support.y == 0).all(1).squeeze()].flatten()} <= {
        0.0,
        0.5,
    }


@pytest.mark.parametrize("split", ["meta_validation", "meta_test"])
def test_held_out_tables_take_turns(split):
    tables = [make_table(f"t{i}", seed=i, group="one" if i < 2 else None) for i in range(4)]
    _, names = draw(sampler_of(*tables), n=10, split=split)
    assert sorted(Counter(names).values()) == [2, 2, 3, 3]
    assert len(set(names[:4])) == len(set(names[4:8])) == 4
    orders = {tuple(draw(sampler_of(*tables), n=4, split=split, seed=seed)[1]) for seed in range(20)}
    assert len(orders) > 5


def test_in_meta_train_a_group_comes_as_often_as_a_single_table():
    tables = [make_table(f"t{i}", seed=i, group="large" if i < 5 else None) for i in range(6)]
    _, names = draw(sampler_of(*tables), n=600, split="meta_train")
    counts = Counter(names)
    assert 240 < counts["t5"] < 360
    assert min(counts[f"t{i}"] for i in range(5)) > 30


def test_sampling_is_pure_in_the_generator(mixed):
    sampler = sampler_of(*mixed)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - to see that it is not used
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    generator = torch.Generator().manual_seed(5)
    first = sampler.sample("meta_train", 5, generator)
    second = sampler.sample("meta_train", 5, generator)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    again, _ = draw(sampler_of(*mixed), n=5, split="meta_train", seed=5)
    for one, same, other in zip(first, again, second, strict=True):
        assert torch.equal(one.x.nan_to_num(7.0), same.x.nan_to_num(7.0))
        assert torch.equal(one.y, same.y)
        assert not torch.equal(one.x.nan_to_num(7.0), other.x.nan_to_num(7.0))


def test_names_say_which_table_each_task_is():
    tables = [replace(make_table(f"t{i}", classes=0, seed=i), y=np.linspace(0, 1, 60) ** (3 * i + 1)) for i in range(3)]
    sampler = sampler_of(*tables, sizes=RowSizes(20, 20, 20))
    assert sampler.spec.kind is Kind.regression
    tasks, names = draw(sampler, n=6)
    _, targets = all_rows(tasks)
    skewness = {name: targets[i].pow(3).mean().item() for i, name in enumerate(names)}
    assert skewness["t0"] < skewness["t1"] < skewness["t2"]


def test_no_tasks_are_no_tasks(mixed):
    tasks, names = draw(sampler_of(*mixed), n=0)
    assert (len(names), tasks.support.x.shape[0]) == (0, 0)
