from collections import Counter

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from table_makers import draw, make_table

from metaopt.tasks.tables.preprocess import fit, layout_of
from metaopt.tasks.tables.synthetic import MOST_CLASSES, WIDEST, synthetic
from metaopt.tasks.tables.table import RowSizes
from metaopt.tasks.tables.table_sampler import TableSampler
from metaopt.types import SPLITS

SIZES = RowSizes(64, 64, 64)


@pytest.fixture(scope="module")
def tables():
    return synthetic(60, SIZES, 0)


def test_most_tables_can_be_tasks_and_no_two_are_alike(tables):
    assert len(tables) > 50
    assert len({table.digest for table in tables}) == len(tables)
    assert len({table.group for table in tables}) == len(tables)


def test_a_seed_gives_the_same_tables_and_more_of_them_leave_the_first_as_they_are(tables):
    again = {table.name: table.digest for table in synthetic(5, SIZES, 0)}
    assert again == {table.name: table.digest for table in tables if table.name in again}
    assert {table.digest for table in synthetic(5, SIZES, 1)}.isdisjoint(again.values())


def test_widths_classes_and_kinds_of_columns_vary(tables):
    widths = [len(table.columns) for table in tables]
    assert min(widths) <= 3
    assert 20 < max(widths) <= WIDEST
    classes = Counter(len(table.classes) for table in tables)
    assert 15 < classes[2] < 45
    assert 5 < max(classes) <= MOST_CLASSES
    coded = [np.mean([bool(column.categories) for column in table.columns]) for table in tables]
    assert min(coded) == 0
    assert max(coded) == 1


def test_codes_are_those_of_their_categories(tables):
    for table in tables:
        for i, column in enumerate(table.columns):
            if column.categories:
                assert set(np.unique(table.x[:, i])) <= set(range(len(column.categories)))


def test_some_tables_can_be_predicted_well_and_others_not_at_all(tables):
    """By how much a forest is better than always giving the most frequent class."""
    gains = []
    for table in tables[:40]:
        x = fit(layout_of(table.columns), table.x[:128])(table.x)
        forest = RandomForestClassifier(50, random_state=0).fit(x[:128], table.y[:128])
        chance = np.bincount(table.y[128:]).max() / len(table.y[128:])
        gains.append((forest.score(x[128:], table.y[128:]) - chance) / (1 - chance))
    assert np.sum(np.array(gains) > 0.6) >= 5
    assert np.sum(np.array(gains) < 0.1) >= 5


def test_meta_training_takes_equal_shares_and_the_other_splits_nothing(tables):
    real = [make_table(name, rows=200, seed=i) for i, name in enumerate("abc")]
    sampler = TableSampler(dict.fromkeys(SPLITS, real), SIZES, [[], tables])
    drawn = Counter(name.startswith("synthetic") for name in draw(sampler, "meta_train", 400)[1])
    assert 150 < drawn[True] < 250
    assert not any(name.startswith("synthetic") for name in draw(sampler, "meta_test", 30)[1])
