import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from table_makers import draw, patients, write_patients

from metaopt.config.families import build_family
from metaopt.config.load import tasks_config
from metaopt.errors import DataError, TaskError
from metaopt.tasks.tables.folder import LEAST_ROWS, Folder, infer_sizes
from metaopt.tasks.tables.table import RowSizes
from metaopt.types import SPLITS, Kind, TaskSpec


def family_of(folder, **settings):
    return Folder(path=str(folder), **settings)


def table_of(family, name):
    """What the family made of one file."""
    return next(table for tables in family._tables.values() for table in tables if table.name == name)


def facts_of(family):
    return " | ".join(family.overview().facts)


def names_of(family):
    return sorted(name for names in family.splits.values() for name in names)


@pytest.fixture
def folder(tmp_path):
    return write_patients(tmp_path / "mine")


def test_ten_files_are_a_family_with_nothing_said(tmp_path):
    family = family_of(write_patients(tmp_path / "mine", n=10))
    assert [len(family.splits[split]) for split in SPLITS] == [6, 2, 2]
    assert family.spec == TaskSpec(Kind.classification, (6,), 2, padded=True)
    assert family.left_out == []
    for split in SPLITS:
        tasks, names = draw(family, split, 5)
        assert set(names) <= set(family.splits[split])
        assert [batch.x.shape for batch in tasks] == [(5, 20, 6), (5, 10, 6), (5, 10, 6)]
        assert not any(batch.x.isnan().any() for batch in tasks)
        same = family.sample(split, 5, torch.Generator().manual_seed(0))
        assert torch.equal(same.query.x, tasks.query.x)


def test_everything_inferred_is_in_the_overview(folder):
    (folder / "notes.txt").write_text("mine")
    patients(52, seed=9).to_csv(folder / "larger.csv", index=False)
    overview = family_of(folder).overview()
    facts = " | ".join(overview.facts)
    for words in (
        "classification, because targets are texts",
        "all tables have the same 4 columns",
        "target column: target (tasks.target changes it)",
        "sizes of a task follow the smallest table, h0",
        "ignored: notes.txt",
        "20 rows to train on (support), 10 query, 10 test",
    ):
        assert words in facts
    rows = {row.name: row for row in overview.rows}
    assert rows["larger"][2:] == (52, 2, 2, "ill (26), well (26)", "")
    assert {row.split for row in overview.rows} == set(SPLITS)


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "CSV"])
def test_formats_with_names_hold_the_same_tables(tmp_path, ending):
    reference = family_of(write_patients(tmp_path / "csv", n=4))
    for i in range(4):
        frame = patients(40, seed=i)
        path = tmp_path / "other" / f"h{i}.{ending}"
        path.parent.mkdir(exist_ok=True)
        match ending:
            case "parquet":
                frame.to_parquet(path)
            case "tsv":
                frame.to_csv(path, sep="\t", index=False)
            case _:
                frame.to_csv(path, index=False)
    family = family_of(tmp_path / "other")
    assert family.splits == reference.splits
    assert family.split_hash == reference.split_hash


def test_arrays_are_tables_too(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        x = rng.normal(size=(30, 3))
        x[4, 1] = np.nan
        np.savez(tmp_path / f"a{i}.npz", x=x.astype(np.float32), y=rng.permutation(np.arange(30) % 3))
    family = family_of(tmp_path)
    assert family.spec == TaskSpec(Kind.classification, (3,), 3, padded=True)
    assert np.isnan(table_of(family, "a0").x).sum() == 1
    for i in range(4):
        np.savez(tmp_path / f"a{i}.npz", x=rng.normal(size=30), y=rng.normal(size=(30, 1)))
    assert family_of(tmp_path).spec == TaskSpec(Kind.regression, (1,), 1, padded=True)
    for i in range(4):
        np.savez(tmp_path / f"a{i}.npz", x=rng.integers(0, 2, (30, 2)) == 1, y=np.array(["no", "yes"] * 15))
    assert table_of(family_of(tmp_path), "a1").classes == ("no", "yes")


@pytest.mark.parametrize("as_folder", [False, True])
@pytest.mark.parametrize("numbered", [False, True])
def test_each_value_of_a_group_column_is_a_task(tmp_path, as_folder, numbered):
    frames = [patients(40, seed=i).assign(hospital=i if numbered else f"clinic {i}") for i in range(5)]
    whole = pd.concat(frames).sample(frac=1, random_state=0)
    halves = {"all.csv": whole} if not as_folder else {"one.csv": whole[:90], "two.csv": whole[90:]}
    for name, frame in halves.items():
        frame.to_csv(tmp_path / name, index=False)
    family = family_of(tmp_path if as_folder else tmp_path / "all.csv", group="hospital")
    assert names_of(family) == ([f"{i}" for i in range(5)] if numbered else [f"clinic {i}" for i in range(5)])
    assert [column.name for column in table_of(family, names_of(family)[0]).columns] == ["age", "bmi", "ward", "smoker"]
    assert {row.rows for row in family.overview().rows} == {40}
    assert "a task for each hospital" in facts_of(family)


def test_a_column_means_the_same_in_all_tables(tmp_path):
    # Other orders of the columns, and wards that a hospital does not have.
    a, b, c = (patients(40, seed=i) for i in range(3))
    b = b[["smoker", "target", "bmi", "ward", "age"]].assign(ward=np.where(b["ward"] == "east", "west", b["ward"]))
    c = c.assign(ward="north")
    for name, frame in zip("abc", (a, b, c), strict=True):
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    family = family_of(tmp_path)
    assert len({table_of(family, name).columns for name in "abc"}) == 1
    assert table_of(family, "a").columns[2].categories == ("east", "north", "west")
    assert set(table_of(family, "b").x[:, 2]) == {1.0, 2.0}
    assert set(table_of(family, "c").x[:, 2]) == {1.0}
    np.testing.assert_array_equal(table_of(family, "b").x[:, 0], b["age"])


def test_whole_numbers_are_categories_in_all_tables_or_in_none(tmp_path):
    for i in range(3):
        frame = patients(40, seed=i)
        frame["grade"] = np.arange(40) % 3
        frame["count"] = np.arange(40) % 3 + 0.5 * (i == 1)
        frame.to_csv(tmp_path / f"h{i}.csv", index=False)
    columns = {column.name: column for column in table_of(family_of(tmp_path), "h0").columns}
    assert columns["grade"].categories == ("0", "1", "2")
    assert columns["count"].categories == ()


def test_columns_that_not_all_tables_have_come_last_and_are_noted(folder):
    patients(40, seed=8).assign(zip=np.arange(40.0) ** 2).drop(columns="bmi").to_csv(folder / "odd.csv", index=False)
    family = family_of(folder)
    assert [column.name for column in table_of(family, "h0").columns] == ["age", "ward", "smoker", "bmi"]
    assert [column.name for column in table_of(family, "odd").columns] == ["age", "ward", "smoker", "zip"]
    notes = {row.name: row.note for row in family.overview().rows}
    assert notes["odd"] == "not in all tables: zip"
    assert notes["h0"] == "not in all tables: bmi"
    assert "3 columns are in all tables and come first" in facts_of(family)


def test_tables_with_nothing_in_common_are_allowed_and_it_is_said(tmp_path):
    for i in range(3):
        frame = patients(40, seed=i)
        frame.columns = [*(f"{column}{i}" for column in frame.columns[:-1]), "target"]
        frame.drop(columns=frame.columns[:i]).to_csv(tmp_path / f"h{i}.csv", index=False)
    family = family_of(tmp_path)
    assert "no column is in all tables" in facts_of(family)
    assert {row.note for row in family.overview().rows} == {""}
    tasks, names = draw(family, "meta_train", 1)
    assert tasks.support.x.isnan()[0, 0].sum() == family.spec.input_shape[0] - table_of(family, names[0]).width


def test_labels_that_all_tables_have_are_the_same_class_in_each(tmp_path):
    labels = {"a": ["b", "d", "a"], "b": ["d", "b"], "c": ["c", "b", "d"]}
    for name, own in labels.items():
        patients(42).assign(target=[own[i % len(own)] for i in range(42)], bmi=ord(name)).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    family = family_of(tmp_path)
    assert table_of(family, "a").classes == ("b", "d", "a")
    assert table_of(family, "b").classes == ("b", "d")
    assert table_of(family, "c").classes == ("b", "d", "c")
    assert table_of(family, "a").y[:3].tolist() == [0, 1, 2]
    assert family.spec.output_size == 3


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (lambda i: ["yes", "no"] * 20, Kind.classification),
        (lambda i: [True, False] * 20, Kind.classification),
        (lambda i: [0, 1, 2, 3] * 10, Kind.classification),
        (lambda i: [0.0, 1.0] * 20, Kind.classification),
        (lambda i: list(range(40)), Kind.regression),
        (lambda i: [0.5, 1.0] * 20, Kind.regression),
        (lambda i: np.random.default_rng(i).normal(size=40).tolist(), Kind.regression),
    ],
)
def test_the_kind_is_seen_in_the_targets(tmp_path, target, kind):
    for i in range(3):
        patients(40, seed=i).assign(target=target(i)).to_csv(tmp_path / f"h{i}.csv", index=False)
    family = family_of(tmp_path)
    assert family.spec.kind is kind
    assert f"{kind.value}, because" in facts_of(family)


def test_the_kind_can_be_set(tmp_path):
    for i in range(3):
        patients(44, seed=i).assign(target=np.arange(44) % 11).to_csv(tmp_path / f"h{i}.csv", index=False)
    assert family_of(tmp_path).spec.kind is Kind.regression
    family = family_of(tmp_path, kind="classification")
    assert family.spec.output_size == 11
    assert table_of(family, "h0").classes == tuple(str(i) for i in range(11))  # 2 before 10
    assert "as tasks.kind says" in facts_of(family)


def test_the_target_has_any_name_and_columns_can_be_dropped(folder):
    for path in folder.iterdir():
        frame = pd.read_csv(path).rename(columns={"target": "outcome"})
        frame.assign(patient=[f"p{i}" for i in range(40)]).to_csv(path, index=False)
    family = family_of(folder, target="outcome", drop=["patient", "bmi"])
    assert [column.name for column in table_of(family, "h0").columns] == ["age", "ward", "smoker"]
    assert "target column: outcome" in facts_of(family)


def test_cells_may_be_empty(folder):
    frame = patients(40, seed=7).astype(object)
    frame.loc[3, "age"], frame.loc[4, "ward"], frame.loc[5, "smoker"], frame.loc[6, "bmi"] = "?", "", "NA", " "
    frame.to_csv(folder / "holes.csv", index=False)
    table = table_of(family_of(folder), "holes")
    assert np.argwhere(np.isnan(table.x)).tolist() == [[3, 0], [4, 2], [6, 1]]
    smoker = next(column for column in table.columns if column.name == "smoker")
    assert "NA" in smoker.categories, "among words it is one"


def test_a_column_that_counts_the_rows_is_noted(folder):
    for path in folder.iterdir():
        pd.read_csv(path).to_csv(path)  # with pandas' index as a first column without name
    notes = {row.note for row in family_of(folder).overview().rows}
    assert notes == {"Unnamed: 0 numbers the rows; tasks.drop leaves it out"}


@given(st.integers(LEAST_ROWS, 1000), st.tuples(*[st.none() | st.integers(1, 300)] * 3))
def test_inferred_sizes_fit_into_the_smallest_table(rows, given_sizes):
    sizes = infer_sizes(rows, given_sizes)
    for size, wanted in zip(sizes, given_sizes, strict=True):
        assert size >= 1
        assert wanted in (None, size)
    if None in given_sizes and rows >= sum(size or 1 for size in given_sizes) + 2:
        assert sum(sizes) <= rows


@pytest.mark.parametrize(
    ("rows", "given_sizes", "sizes"),
    [
        (12, (None, None, None), (6, 3, 3)),
        (100, (None, None, None), (50, 25, 25)),
        (200, (None, None, None), (64, 50, 50)),
        (5000, (None, None, None), (64, 64, 128)),
        (100, (32, None, None), (32, 34, 34)),
        (100, (None, 10, 60), (30, 10, 60)),
    ],
)
def test_sizes_follow_the_smallest_table(rows, given_sizes, sizes):
    assert infer_sizes(rows, given_sizes) == RowSizes(*sizes)


def test_set_sizes_are_kept(folder):
    family = family_of(folder, support=12, test=20)
    tasks = family.sample("meta_test", 2, torch.Generator())
    assert [batch.x.shape[1] for batch in tasks] == [12, 8, 20]


def test_tables_that_share_most_rows_stay_together(folder):
    part = patients(40, seed=0)[:30]
    pd.concat([part, patients(20, seed=50)]).to_csv(folder / "part.csv", index=False)
    for seed in range(6):
        splits = family_of(folder, split_seed=seed).splits
        where = {name: split for split, names in splits.items() for name in names}
        assert where["h0"] == where["part"]
    assert "same data or source as h0" in {row.name: row.note for row in family_of(folder).overview().rows}["part"]


def test_it_can_be_said_which_table_lies_where(folder):
    family = family_of(folder, meta_test=["h3"], meta_validation=["h0", "h5"])
    assert family.splits == {
        "meta_train": ["h1", "h2", "h4"],
        "meta_validation": ["h0", "h5"],
        "meta_test": ["h3"],
    }
    with pytest.raises(TaskError, match=r"tasks\.meta_test has 'h9', .*choose from h0, h1"):
        family_of(folder, meta_test=["h9"])


def test_the_hash_follows_the_split_and_the_content_and_not_the_place(folder, tmp_path):
    reference = family_of(folder)
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert family_of(tmp_path / "elsewhere").split_hash == reference.split_hash
    assert family_of(folder, split_seed=3).split_hash != reference.split_hash
    patients(40, seed=77).to_csv(folder / "h2.csv", index=False)
    assert family_of(folder).split_hash != reference.split_hash


def test_it_is_configured_like_every_family(folder):
    config = tasks_config({"name": "folder", "path": str(folder), "drop": ["bmi"], "support": 10})
    assert build_family(config).spec.input_shape == (5,)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "labels"}, r"tasks\.kind is 'labels'; choose one of classification, regression"),
        ({"on_bad_task": "warn"}, r"tasks\.on_bad_task is 'warn'; choose one of error, skip"),
        ({"one_hot": 1}, r"tasks\.one_hot must be at least 2"),
        ({"query": 0}, r"tasks\.query must be at least 1"),
        ({"drop": ["bmj"]}, r"tasks\.drop names 'bmj', which no table has; columns are age, bmi"),
        ({"test_share": 0.9}, "leave nothing for meta-train"),
    ],
)
def test_impossible_settings_are_refused(folder, settings, words):
    with pytest.raises(TaskError, match=words):
        family_of(folder, **settings)


def test_a_path_that_holds_no_tables_is_refused(folder, tmp_path):
    with pytest.raises(DataError, match=r"tasks\.path=.*nowhere is no folder, nor a file; give a folder with \.npz"):
        family_of(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds notes\.txt, but no table"):
        family_of(tmp_path / "empty")
    with pytest.raises(TaskError, match=r"is one file, so tasks\.group=COLUMN must say"):
        family_of(folder / "h0.csv")
    with pytest.raises(DataError, match="is no folder; give"):
        family_of(tmp_path / "empty" / "notes.txt", group="ward")
