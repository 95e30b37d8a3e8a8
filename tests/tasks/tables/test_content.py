from dataclasses import replace

import numpy as np
import pytest
from table_makers import make_table, real_pmlb

from metaopt.tasks.tables.content import by_content, related, row_hashes, same_content
from metaopt.tasks.tables.pmlb import Filter, read_pmlb
from metaopt.tasks.tables.table import Column
from metaopt.types import Kind


def of_rows(table, name, rows, columns=None):
    """The rows of a table at these positions, and its columns in another order."""
    order = list(range(table.x.shape[1])) if columns is None else columns
    chosen = tuple(table.columns[i] for i in order)
    return replace(table, name=name, group=name, columns=chosen, x=table.x[rows][:, order], y=table.y[rows])


def names(pairs):
    return [(one.name, other.name) for one, other in pairs]


@pytest.fixture
def original():
    return make_table("original", rows=50, numbers=4, missing=0.1)


@pytest.fixture
def stranger():
    return make_table("stranger", rows=50, numbers=4, seed=1, missing=0.1)


def test_rows_and_columns_in_another_order_are_the_same_rows(original, stranger):
    mixed = of_rows(original, "mixed", np.random.default_rng(0).permutation(50), [2, 0, 3, 1])
    assert names(same_content([original, stranger, mixed])) == [("mixed", "original")]
    assert set(row_hashes(original, True)) == set(row_hashes(mixed, True))
    assert not set(row_hashes(original, True)) & set(row_hashes(stranger, True))


def test_one_other_cell_or_target_is_other_content(original):
    x, y = original.x.copy(), original.y.copy()
    x[3, 1], y[5] = 7.0, (y[5] + 1) % 3
    assert same_content([original, replace(original, x=x)]) == []
    assert same_content([original, replace(original, y=y)]) == []


@pytest.mark.parametrize("rows", [range(10, 50), range(25), range(5)])
def test_a_part_of_a_table_is_a_relative(original, stranger, rows):
    part = of_rows(original, "part", list(rows))
    assert names(related([original, stranger, part], True)) == [("original", "part")]


def test_a_few_common_rows_do_not_make_a_relative(original, stranger):
    x, y = stranger.x.copy(), stranger.y.copy()
    x[:20], y[:20] = original.x[:20], original.y[:20]
    assert related([original, replace(stranger, x=x, y=y)], True) == []
    x[20:26], y[20:26] = original.x[20:26], original.y[20:26]
    assert len(related([original, replace(stranger, x=x, y=y)], True)) == 1


def test_targets_count_only_where_they_are_meant_to(original):
    other = replace(original, name="other", y=np.roll(original.y, 1))
    assert related([original, other], with_targets=True) == []
    assert names(related([original, other], with_targets=False)) == [("original", "other")]


@pytest.mark.parametrize("with_targets", [True, False])
def test_a_table_with_some_of_the_columns_is_a_relative(original, stranger, with_targets):
    fewer = of_rows(original, "fewer", np.random.default_rng(0).permutation(50), [3, 1])
    assert names(related([original, stranger, fewer], with_targets)) == [("original", "fewer")]


def test_columns_that_tell_nothing_do_not_count(original):
    grid = np.arange(50.0)
    signs = np.random.default_rng(0).permutation(grid % 2)
    tables = []
    for i in range(2):
        table = make_table(f"t{i}", rows=50, numbers=3, seed=i)
        x = np.column_stack([grid, signs, grid[::-1], table.x[:, 0]])
        tables.append(replace(table, columns=tuple(Column(f"c{j}") for j in range(4)), x=x))
    assert related(tables, with_targets=False) == []


def test_rows_of_tables_with_few_categories_do_not_count():
    tables = [make_table(f"t{i}", rows=200, numbers=0, categories=(2, 2, 2), classes=2, seed=i) for i in range(2)]
    shared = set(row_hashes(tables[0], True)) & set(row_hashes(tables[1], True))
    assert len(shared) >= 8
    assert related(tables, with_targets=True) == []


def test_relatives_of_relatives_are_one_group_called_as_the_first(original, stranger):
    first = of_rows(original, "a", list(range(30)))
    last = of_rows(original, "b", list(range(20, 50)))
    grouped = by_content([last, original, stranger, first], with_targets=True)
    assert [table.group for table in grouped] == ["a", "a", "stranger", "a"]
    assert [table.name for table in grouped] == ["b", "original", "stranger", "a"]


def test_groups_by_name_are_joined_and_never_parted(original, stranger):
    named = [replace(original, group="g"), replace(stranger, group="g"), replace(original, name="copy", group="copy")]
    assert {table.group for table in by_content(named, with_targets=True)} == {"copy"}


@pytest.mark.parametrize("kind", list(Kind))
def test_names_already_bring_together_all_real_tables_that_share_content(kind):
    tables, _ = read_pmlb(real_pmlb(), Filter(kind, max_rows=20_000), one_hot=8, download=False)
    pairs = related(tables, with_targets=False)
    assert len(pairs) >= 3, "the check finds the relatives that there are"
    assert [(one.name, other.name) for one, other in pairs if one.group != other.group] == []
