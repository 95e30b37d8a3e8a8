from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_makers import make_table

from metaopt.errors import TaskError
from metaopt.tasks.tables.table_splits import SplitSettings, divide
from metaopt.types import SPLITS

NOTHING_GIVEN = dict.fromkeys(SPLITS, None)
TABLES = {f"t{i:02d}": make_table(f"t{i:02d}", rows=6, numbers=1, classes=2, seed=i) for i in range(40)}


def split(groups, seed=0, shares=(0.15, 0.25), **given):
    """Divides tables t00, t01, … of which the i-th is in group groups[i]."""
    tables = [replace(table, group=str(group)) for table, group in zip(TABLES.values(), groups, strict=False)]
    return divide("letters", tables, SplitSettings(shares, seed, NOTHING_GIVEN | given), "add tables")


def group_of(divided):
    return {name: {table.group for table in members} for name, members in divided.tables.items()}


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=3, max_size=40).filter(lambda g: len(set(g)) >= 3), st.integers(0, 50))
def test_every_table_lies_in_one_split_with_all_of_its_group(groups, seed):
    divided = split(groups, seed)
    assert sorted(name for names in divided.names.values() for name in names) == list(TABLES)[: len(groups)]
    where = list(group_of(divided).values())
    assert sum(map(len, where)) == len(set().union(*where)) == len(set(groups))
    assert all(divided.names[name] for name in SPLITS)
    assert {s: [table.name for table in members] for s, members in divided.tables.items()} == divided.names


@pytest.mark.parametrize(("shares", "sizes"), [((0.15, 0.25), (24, 6, 10)), ((0.3, 0.3), (16, 12, 12))])
def test_shares_are_of_the_tables(shares, sizes):
    assert tuple(len(split(range(40), shares=shares).names[name]) for name in SPLITS) == sizes


def test_shares_are_of_what_a_large_group_leaves():
    # Otherwise the large group would be all of meta-train.
    divided = split([0] * 20 + list(range(1, 21)))
    assert [len(divided.names[name]) for name in SPLITS] == [32, 3, 5]


def test_three_tables_are_enough():
    assert [len(split(range(3)).names[name]) for name in SPLITS] == [1, 1, 1]


@pytest.mark.parametrize("seed", range(10))
def test_a_large_group_goes_to_meta_train(seed):
    divided = split([0, 0, 0, 1, 1, 2, 3, 4, 5, 6], seed)
    assert "0" in group_of(divided)["meta_train"]
    assert any("1" in group_of(split([0, 0, 0, 1, 1, 2, 3, 4, 5, 6], s))["meta_test"] for s in range(20))


def test_a_split_is_frozen_for_ever():
    # Published results hold for a split: these are constants, not samples.
    names = split([0, 0, 0, *range(1, 10)]).names
    assert (names["meta_validation"], names["meta_test"]) == (["t04"], ["t08", "t11"])


def test_the_seed_moves_groups_and_nothing_else_does():
    reference = split(range(40))
    assert split(range(40)).names == reference.names
    assert split(range(40), seed=1).names != reference.names
    backwards = divide(
        "letters", list(TABLES.values())[::-1], SplitSettings((0.15, 0.25), 0, NOTHING_GIVEN), "add tables"
    )
    by_name = divide("letters", list(TABLES.values()), SplitSettings((0.15, 0.25), 0, NOTHING_GIVEN), "add tables")
    assert backwards.names == by_name.names
    assert backwards.hash == by_name.hash


def test_the_hash_changes_with_every_move_and_with_the_content():
    reference = split(range(10))
    assert split(range(10)).hash == reference.hash
    one, other = reference.names["meta_train"][0], reference.names["meta_test"][0]
    swapped = {
        name: [{one: other, other: one}.get(table, table) for table in members]
        for name, members in reference.names.items()
    }
    assert split(range(10), **swapped).hash != reference.hash
    assert split(range(10), **reference.names).hash == reference.hash
    assert split(range(11)).hash != reference.hash

    def hash_with(**changes):
        tables = [*list(TABLES.values())[:9], replace(TABLES["t09"], **changes)]
        return divide("letters", tables, SplitSettings((0.15, 0.25), 0, NOTHING_GIVEN), "").hash

    x, y = TABLES["t09"].x.copy(), TABLES["t09"].y.copy()
    x[2, 0] += 1
    y[:2] = y[:2][::-1]
    assert len({hash_with(), hash_with(x=x), hash_with(y=y), hash_with(classes=("a", "b"))}) == 4


def test_named_tables_lie_where_they_were_put_and_take_their_groups_along():
    divided = split([0, 0, 1, 2, 3, 4, 5, 6], meta_test=["t00", "t05"])
    assert divided.names["meta_test"] == ["t00", "t01", "t05"]
    assert divided.names["meta_train"]
    assert divided.names["meta_validation"]
    assert divided.left_out == []


def test_where_all_splits_are_given_the_rest_is_left_out_and_said_to_be():
    divided = split(range(6), meta_train=["t00", "t01"], meta_validation=["t02"], meta_test=["t03"])
    assert divided.names == {"meta_train": ["t00", "t01"], "meta_validation": ["t02"], "meta_test": ["t03"]}
    assert [table.name for table in divided.left_out] == ["t04", "t05"]


@pytest.mark.parametrize(
    ("groups", "given", "words"),
    [
        (
            [0, 0, 1, 2, 3],
            {"meta_test": ["t00"], "meta_train": ["t01"]},
            r"tasks\.meta_test has t00, but tasks\.meta_tr",
        ),
        ([0, 1, 2, 3], {"meta_test": ["t00"], "meta_train": ["t00"]}, "which is the same table"),
        ([0, 1, 2], {"meta_test": ["t07"]}, r"tasks\.meta_test has 't07', .* choose from t00, t01, t02"),
        ([0, 1, 2], {"meta_test": []}, r"tasks\.meta_test is empty"),
        ([0, 1, 2], {"meta_test": ["t00", "t01"]}, "meta_validation would have none, with 3 usable tables in 3 groups"),
        ([0, 0, 0, 1], {}, "each split needs a table, but .* in 2 groups of related ones; add tables"),
        ([0, 1, 2], {"shares": (0.5, 0.5)}, "leave nothing for meta-train"),
        ([0, 1, 2], {"shares": (0.0, 0.5)}, r"tasks\.validation_share must be between 0 and 1, but is 0"),
        ([0, 1, 2], {"shares": (0.5, 1.5)}, r"tasks\.test_share must be"),
    ],
)
def test_impossible_divisions_are_refused(groups, given, words):
    with pytest.raises(TaskError, match=words):
        split(groups, **given)
