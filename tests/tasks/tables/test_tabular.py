import pytest
import torch
from table_makers import draw, numbers_frame, real_pmlb, write_pmlb

from metaopt.config.families import build_family
from metaopt.config.load import tasks_config
from metaopt.errors import DataError, TaskError
from metaopt.tasks.family import TaskFamily
from metaopt.tasks.tables.relatives import group_of
from metaopt.tasks.tables.tabular import Tabular
from metaopt.types import SPLITS, Kind, TaskSpec

SMALL = {"support": 10, "query": 10, "test": 10}


@pytest.fixture
def root(tmp_path):
    """Eight usable tables, of which two are relatives by name and one is a copy, and four that are not usable."""
    frames = {
        f"table_{letter}": numbers_frame(rows=40 + i, classes=2 + i % 2, seed=i) for i, letter in enumerate("abcdef")
    }
    frames |= {"monk1": numbers_frame(rows=40, seed=20), "monk2": numbers_frame(rows=40, seed=21)}
    frames |= {
        "copy": frames["table_a"].sample(frac=1, random_state=0),
        "few": numbers_frame(rows=29, seed=30),
        "wide": numbers_frame(rows=40, columns=12, seed=31),
        "single": numbers_frame(rows=40, classes=1, seed=32),
        "rare": numbers_frame(rows=40, seed=33).assign(target=[2, 2] + [0, 1] * 19),
    }
    tables = [(name, "classification", frame) for name, frame in frames.items()]
    return str(write_pmlb(tmp_path, [*tables, ("values", "regression", numbers_frame(classes=0))]))


def family_of(root, **settings) -> TaskFamily:
    return Tabular(root=root, **{"max_width": 10} | SMALL | settings)


def test_what_cannot_be_used_is_left_out_with_its_reason(root):
    family = Tabular(root=root, max_width=10, **SMALL)
    assert sorted(name for names in family.splits.values() for name in names) == sorted(
        [*(f"table_{letter}" for letter in "abcdef"), "monk1", "monk2"]
    )
    reasons = {table.name: table.reason for table in family.left_out}
    assert set(reasons) == {"copy", "few", "wide", "single", "rare"}
    assert "has 29 rows, but a task needs 30" in reasons["few"]
    assert reasons["wide"] == "has 12 inputs; raise tasks.max_width=10, or lower tasks.one_hot"
    assert reasons["copy"] == "is row by row table_a"
    assert "one class only" in reasons["single"]
    assert "fewer than 3 rows of class 2" in reasons["rare"]


@pytest.mark.parametrize("seed", range(8))
def test_relatives_by_name_are_never_parted(root, seed):
    splits = family_of(root, split_seed=seed).splits
    where = {name: split for split, names in splits.items() for name in names}
    assert where["monk1"] == where["monk2"]


@pytest.mark.parametrize("seed", range(8))
def test_relatives_by_content_are_never_parted_whatever_their_names(tmp_path, seed):
    frames = {name: numbers_frame(rows=40, seed=i) for i, name in enumerate(("alpha", "beta", "gamma", "delta"))}
    frames["omega"] = frames["beta"][5:].rename(columns={"f0": "f2", "f2": "f0"})
    write_pmlb(tmp_path, [(name, "classification", frame) for name, frame in frames.items()])
    splits = family_of(str(tmp_path), split_seed=seed).splits
    where = {name: split for split, names in splits.items() for name in names}
    assert where["beta"] == where["omega"]


def test_tasks_are_rows_of_tables_of_their_split(root):
    family = Tabular(root=root, max_width=10, **SMALL)
    assert family.spec == TaskSpec(Kind.classification, (3,), 3, padded=True)
    for split in SPLITS:
        tasks, names = draw(family, split, 6)
        assert set(names) <= set(family.splits[split])
        same = family.sample(split, 6, torch.Generator().manual_seed(0))
        assert torch.equal(tasks.test.y, same.test.y)
        assert torch.equal(tasks.test.x, same.test.x)
        assert tasks.test.x.shape == (6, 10, 3)


def test_the_hash_follows_split_and_content(root):
    reference = family_of(root)
    assert family_of(root).split_hash == reference.split_hash
    assert family_of(root, support=12, query=8).split_hash == reference.split_hash
    others = [family_of(root, split_seed=1), family_of(root, test_share=0.5), family_of(root, max_width=12)]
    assert len({reference.split_hash, *(other.split_hash for other in others)}) == 4


def test_named_tables_and_splits(root):
    names = [f"table_{letter}" for letter in "abcde"]
    family = family_of(root, names=names, meta_test=["table_c"], meta_validation=["table_a", "table_b"])
    assert family.splits == {
        "meta_train": ["table_d", "table_e"],
        "meta_validation": ["table_a", "table_b"],
        "meta_test": ["table_c"],
    }


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"source": "uci"}, r"tasks\.source is 'uci'; choose one of pmlb, sklearn"),
        ({"kind": "ranking"}, r"tasks\.kind is 'ranking'; choose one of classification, regression"),
        ({"support": 0}, r"tasks\.support must be at least 1 row per task, but is 0"),
        ({"one_hot": 1}, r"tasks\.one_hot must be at least 2"),
        ({"max_width": 0}, r"tasks\.max_width must be at least 1"),
        ({"support": 25}, r"each split needs a table, .*with 1 usable .* left out: .* needs 45 .*; and \d+ more"),
        ({"kind": "regression"}, "with 1 usable tables in 1 groups"),
    ],
)
def test_impossible_settings_are_refused(root, settings, words):
    with pytest.raises(TaskError, match=words):
        family_of(root, **settings)


def test_choices_are_checked_before_anything_is_read():
    with pytest.raises(TaskError, match=r"tasks\.query"):
        Tabular(root="nowhere", query=0)
    with pytest.raises(DataError, match=r"tasks\.root=nowhere"):
        Tabular(root="nowhere")


def test_scikit_learns_tables_make_a_family_without_any_file():
    family = Tabular(source="sklearn", support=40, query=40, test=60)
    assert {name for names in family.splits.values() for name in names} == {"iris", "wine", "breast_cancer", "digits"}
    assert all(family.splits.values())
    assert family.sample("meta_test", 2, torch.Generator()).test.x.shape[1] == 60
    with pytest.raises(TaskError, match=r"left out: iris has 150 rows, but a task needs 256"):
        Tabular(source="sklearn")


def test_it_is_configured_like_every_family(root):
    settings = {"name": "tabular", "root": root, "max_width": 10, "meta_test": ["table_c"], **SMALL}
    family = build_family(tasks_config(settings))
    assert isinstance(family, Tabular)
    assert family.splits["meta_test"] == ["table_c"]


def test_the_overview_has_a_row_for_each_table(root):
    overview = Tabular(root=root, max_width=10, **SMALL).overview()
    rows = {row.name: row for row in overview.rows}
    assert len(rows) == 8
    assert rows["table_b"][2:6] == (41, 3, 0, "0 (14), 1 (14), 2 (13)")
    assert rows["monk1"].note == "same data or source as monk2"
    assert overview.left_out
    assert overview.facts == ("each task: 10 rows to train on (support), 10 query, 10 test",)


@pytest.mark.parametrize("kind", [kind.value for kind in Kind])
@pytest.mark.parametrize("split_seed", [0, 1])
def test_no_real_table_and_no_group_is_on_two_sides(kind, split_seed):
    family = Tabular(root=real_pmlb(), kind=kind, max_rows=5000, split_seed=split_seed)
    names = [name for members in family.splits.values() for name in members]
    assert len(names) == len(set(names)) > 40
    groups = [{group_of(name) for name in members} for members in family.splits.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))
    where = {name: split for split, members in family.splits.items() for name in members}
    friedman = {split for name, split in where.items() if "_fri" in name}
    assert friedman == ({"meta_train"} if kind == "regression" else set())
