from collections import Counter

import numpy as np
import pytest
import torch
from table_makers import draw, make_table, numbers_frame, write_pmlb

from metaopt.errors import TaskError
from metaopt.tasks.tables.derived import RARE, derived
from metaopt.tasks.tables.table import RowSizes, Table
from metaopt.tasks.tables.table_sampler import TableSampler
from metaopt.tasks.tables.tabular import Tabular
from metaopt.types import SPLITS

SIZES = RowSizes(10, 8, 12)


def test_a_column_of_categories_is_a_target_and_no_input():
    table = make_table("t", rows=80, numbers=2, categories=(3,))
    (found,) = [each for each in derived([table], SIZES, 10) if each.name == "t:c0"]
    assert [column.name for column in found.columns] == ["n0", "n1"]
    np.testing.assert_array_equal(found.y, table.x[:, 2].astype(int))
    np.testing.assert_array_equal(found.x, table.x[:, :2])
    assert (found.group, len(found.classes)) == ("t", 3)


def test_a_column_of_numbers_is_cut_into_classes_of_equal_size_and_in_order():
    table = make_table("t", rows=120, numbers=3)
    for found in derived([table], SIZES, 10):
        column = table.x[:, int(found.name[-1])]
        assert np.ptp(np.bincount(found.y)) <= 1
        tops = [column[found.y == label].max() for label in range(len(found.classes))]
        bottoms = [column[found.y == label].min() for label in range(len(found.classes))]
        assert all(top < bottom for top, bottom in zip(tops, bottoms[1:], strict=False))


def test_the_tables_own_target_is_no_input():
    table = make_table("t", rows=60, numbers=2)
    leaked = Table("t", "t", table.columns, np.column_stack([table.y, table.x[:, 1]]), table.y, table.classes)
    names = {each.name: [column.name for column in each.columns] for each in derived([leaked], SIZES, 10)}
    assert names == {"t:n0": ["n1"], "t:n1": ["n0"]}


def test_rows_without_a_target_and_rare_classes_are_left_out():
    table = make_table("t", rows=200, numbers=1, categories=(3,), missing=0.0)
    x = table.x.copy()
    x[:, 1] = np.arange(200) % 2
    x[:2, 1] = 2  # a class of fewer than 2 %
    x[2:12, 1] = np.nan
    assert RARE * 190 > 2
    (found,) = [
        t for t in derived([Table("t", "t", table.columns, x, table.y, table.classes)], SIZES, 9) if "c0" in t.name
    ]
    assert found.rows == 188
    np.testing.assert_array_equal(found.y, np.arange(12, 200) % 2)


def test_a_column_that_hardly_varies_and_a_lonely_one_make_no_tasks():
    table = make_table("t", rows=60, numbers=2)
    x = table.x.copy()
    x[:, 0] = 1.0
    assert [t.name for t in derived([Table("t", "t", table.columns, x, table.y, table.classes)], SIZES, 10)] == ["t:n1"]
    assert derived([make_table("t", numbers=1)], SIZES, 10) == []


def test_of_many_columns_as_many_are_taken_as_asked_for():
    table = make_table("t", rows=60, numbers=9)
    assert [found.name for found in derived([table], SIZES, 3)] == ["t:n0", "t:n4", "t:n8"]
    assert derived([table], SIZES, 0) == []


def test_half_of_meta_training_and_nothing_else_is_of_derived_tables():
    tables = [make_table(name, rows=60, numbers=3, seed=i) for i, name in enumerate("abc")]
    sampler = TableSampler(dict.fromkeys(SPLITS, tables), SIZES, [derived(tables, SIZES, 10)])
    drawn = Counter(":" in name for name in draw(sampler, "meta_train", 400)[1])
    assert 150 < drawn[True] < 250
    for split in ("meta_validation", "meta_test"):
        assert not any(":" in name for name in draw(sampler, split, 30)[1])


def test_outputs_are_enough_for_the_classes_of_derived_tables():
    tables = [make_table("a", rows=90, numbers=1, categories=(7,), classes=2)]
    sampler = TableSampler(dict.fromkeys(SPLITS, tables), SIZES, [derived(tables, SIZES, 10)])
    assert sampler.spec.output_size == 7
    tasks = sampler.sample("meta_train", 20, torch.Generator().manual_seed(0))
    assert tasks.support.y.shape[-1] == 7


@pytest.fixture
def root(tmp_path):
    frames = [
        (f"table_{letter}", "classification", numbers_frame(rows=40, seed=i)) for i, letter in enumerate("abcdef")
    ]
    return str(write_pmlb(tmp_path, [*frames, ("values", "regression", numbers_frame(classes=0))]))


def test_splits_and_held_out_tasks_stay_what_they_are(root):
    sizes = {"support": 10, "query": 10, "test": 10}
    plain, more = Tabular(root=root, **sizes), Tabular(root=root, derived_targets=5, **sizes)
    assert (plain.splits, plain.split_hash) == (more.splits, more.split_hash)
    assert draw(plain, "meta_test")[1] == draw(more, "meta_test")[1]
    names = set(draw(more, "meta_train", 60)[1])
    origins = {name.partition(":")[0] for name in names}
    assert origins <= set(more.splits["meta_train"])
    assert any(":" in name for name in names)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"derived_targets": -1}, "at least 0"),
        ({"derived_targets": 2, "kind": "regression"}, "tasks.kind is regression"),
    ],
)
def test_what_cannot_be_is_refused(root, settings, words):
    with pytest.raises(TaskError, match=words):
        Tabular(root=root, **settings)
