import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from table_makers import numbers_frame, real_pmlb, write_pmlb

from metaopt.errors import DataError
from metaopt.tasks.tables.pmlb import Filter, read_pmlb, table_from
from metaopt.tasks.tables.sklearn_tables import NAMES, read_sklearn
from metaopt.tasks.tables.table import BadTable
from metaopt.types import Kind

LABELS = Kind.classification


@pytest.fixture
def root(tmp_path):
    return write_pmlb(
        tmp_path,
        [
            ("small", "classification", numbers_frame(rows=30, columns=2, classes=2)),
            ("large", "classification", numbers_frame(rows=90, columns=5, classes=4)),
            ("573_values", "regression", numbers_frame(rows=50, classes=0)),
        ],
    )


def read(root, wanted=None, one_hot=8, download=False):
    return read_pmlb(root, wanted or Filter(LABELS), one_hot, download)


def test_tables_of_the_kind_are_read_as_they_are(root):
    tables, left_out = read(root)
    assert ([table.name for table in tables], left_out) == (["small", "large"], [])
    frame = numbers_frame(rows=90, columns=5, classes=4)
    large = tables[1]
    np.testing.assert_array_equal(large.x, frame.drop(columns="target").to_numpy())
    np.testing.assert_array_equal(large.y, frame["target"])
    assert (large.kind, large.classes, large.y.dtype) == (LABELS, ("0", "1", "2", "3"), np.int64)
    (values,), _ = read(root, Filter(Kind.regression))
    assert (values.name, values.group, values.classes, values.y.dtype) == ("573_values", "values", (), np.float64)


@pytest.mark.parametrize(
    ("place", "index"),
    [
        ("datasets/{0}/{0}.tsv.gz", "pmlb/all_summary_stats.tsv"),
        ("{0}/{0}.tsv.gz", "all_summary_stats.tsv"),
        ("{0}.tsv.gz", "index.tsv"),
    ],
)
def test_a_clone_of_the_repository_and_a_cache_of_the_package_will_do(tmp_path, place, index):
    root = write_pmlb(tmp_path, [("one", "classification", numbers_frame())], place, index)
    assert [table.name for table in read(root)[0]] == ["one"]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"min_rows": 50}, "small has 30 rows; lower tasks.min_rows=50"),
        ({"max_rows": 50}, "large has 90 rows; raise tasks.max_rows=50"),
        ({"max_columns": 3}, "large has 5 columns; raise tasks.max_columns=3"),
        ({"max_classes": 3}, "large has 4 classes; raise tasks.max_classes=3"),
    ],
)
def test_a_filter_says_what_it_leaves_out(root, limits, words):
    tables, left_out = read(root, Filter(LABELS, **limits))
    assert [f"{table.name} {table.reason}" for table in left_out] == [words]
    assert len(tables) == 1


def test_classes_do_not_limit_a_regression(root):
    assert len(read(root, Filter(Kind.regression, max_classes=10))[0]) == 1


def test_names_choose_tables(root):
    assert [table.name for table in read(root, Filter(LABELS, names=["large"]))[0]] == ["large"]
    with pytest.raises(DataError, match=r"tasks\.names has 'larg', .*like it: large"):
        read(root, Filter(LABELS, names=["larg"]))
    with pytest.raises(DataError, match=r"'573_values', which is regression, but tasks\.kind is classification"):
        read(root, Filter(LABELS, names=["573_values"]))


def test_columns_of_a_few_whole_numbers_are_categories_and_others_are_not():
    frame = pd.DataFrame(
        {
            "binary": [0, 1, 0, 1, 0],
            "three": [7.0, 5.0, -1.0, np.nan, 5.0],
            "many": [1, 2, 3, 4, 5],
            "halves": [0.5, 1.0, 1.5, 1.0, 0.5],
            "target": [0, 1, 0, 1, 0],
        }
    )
    table = table_from("t", frame, LABELS, one_hot=4)
    assert [column.categories for column in table.columns] == [(), ("-1", "5", "7"), (), ()]
    np.testing.assert_array_equal(table.x[:, 1], [2, 1, 0, np.nan, 1])
    np.testing.assert_array_equal(table.x[:, 0], frame["binary"])
    assert table.width == 6
    assert table_from("t", frame, LABELS, one_hot=5).width == 10


def test_tables_that_cannot_be_used_are_left_out_with_the_reason(tmp_path):
    twice = numbers_frame().rename(columns={"f1": "target "})
    twice.columns = [column.strip() for column in twice.columns]
    entries = [("good", "classification", numbers_frame()), ("none", "classification", numbers_frame())]
    root = write_pmlb(tmp_path, entries)
    twice.to_csv(root / "datasets/none.tsv.gz", sep="\t", index=False, compression="gzip")
    tables, left_out = read(root)
    assert [table.name for table in tables] == ["good"]
    assert left_out == [("none", "has two columns called target")]


def test_a_missing_target_makes_a_table_useless():
    frame = numbers_frame(classes=0)
    frame.loc[3, "target"] = np.nan
    with pytest.raises(BadTable, match="missing"):
        table_from("t", frame, Kind.regression, 8)


def test_a_file_that_the_index_promises_and_the_folder_lacks_is_left_out(root):
    (root / "datasets/small.tsv.gz").unlink()
    assert [(table.name, "tasks.download=true" in table.reason) for table in read(root)[1]] == [("small", True)]


def test_damage_is_named_with_the_file(root):
    (root / "datasets/small.tsv.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"small\.tsv\.gz is damaged .* get it again"):
        read(root)
    (root / "index.tsv").write_text("dataset\ttask\nsmall\tclassification\n")
    with pytest.raises(DataError, match=r"index\.tsv must be a table with the columns dataset, task, n_instances"):
        read(root)


def test_without_an_index_the_error_says_how_to_get_one(tmp_path):
    with pytest.raises(DataError, match=r"tasks\.root=.* holds none of index\.tsv.*tasks\.download=true"):
        read(tmp_path)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A stand-in for the package pmlb, with an index of its own and a table to fetch."""
    folder = tmp_path / "site" / "pmlb"
    write_pmlb(folder, [("far", "classification", numbers_frame())], "nowhere/{0}.gz", "all_summary_stats.tsv")
    fetched = []

    def fetch_data(name, local_cache_dir, dropna):
        fetched.append((name, local_cache_dir, dropna))
        return numbers_frame()

    spec = SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr("metaopt.tasks.tables.pmlb.find_spec", lambda name: spec if name == "pmlb" else None)
    monkeypatch.setitem(sys.modules, "pmlb", SimpleNamespace(fetch_data=fetch_data))
    return fetched


def test_the_package_gives_index_and_tables_where_it_is_asked_to(package, tmp_path):
    root = tmp_path / "data"
    tables, _ = read(root, download=True)
    assert [table.name for table in tables] == ["far"]
    assert package == [("far", str(root), False)]
    with pytest.raises(DataError, match=r"tasks\.download=true"):
        read(root, download=False)
    assert len(package) == 1


def test_failures_of_the_package_say_what_to_do(package, tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "pmlb", SimpleNamespace(fetch_data=offline))
    with pytest.raises(DataError, match=r"could not fetch far \(no network\); try again, put far/far\.tsv\.gz into"):
        read(tmp_path, download=True)
    monkeypatch.setitem(sys.modules, "pmlb", None)
    with pytest.raises(DataError, match="pip install pmlb"):
        read(tmp_path, download=True)
    monkeypatch.setattr("metaopt.tasks.tables.pmlb.find_spec", lambda _: None)
    with pytest.raises(DataError, match="not installed; pip install pmlb"):
        read(tmp_path, download=True)


def test_scikit_learns_tables_come_with_it():
    tables, _ = read_sklearn(Filter(LABELS), one_hot=8)
    assert {table.name: (table.rows, len(table.columns), len(table.classes)) for table in tables} == {
        "iris": (150, 4, 3), "wine": (178, 13, 3), "breast_cancer": (569, 30, 2), "digits": (1797, 64, 10),
    }  # fmt: skip
    (diabetes,), _ = read_sklearn(Filter(Kind.regression), one_hot=8)
    assert (diabetes.name, diabetes.rows) == ("diabetes", 442)
    assert set(NAMES) == {table.name for table in tables} | {"diabetes"}


def test_scikit_learns_tables_obey_the_filter():
    tables, left_out = read_sklearn(Filter(LABELS, names=["iris", "digits"], max_classes=3), one_hot=8)
    assert ([table.name for table in tables], [table.name for table in left_out]) == (["iris"], ["digits"])
    with pytest.raises(DataError, match=r"tasks\.names has 'diabetes', .* for classification are iris, wine"):
        read_sklearn(Filter(LABELS, names=["diabetes"]), one_hot=8)


def test_the_real_tables_are_those_of_the_index():
    root = real_pmlb()
    index = pd.read_csv(f"{root}/index.tsv", sep="\t").set_index("dataset")
    for kind in Kind:
        tables, left_out = read(root, Filter(kind, max_rows=5000))
        assert len(tables) > 60
        assert all("raise tasks.max_rows" in table.reason or table.name == "schizo" for table in left_out)
        for table in tables:
            assert table.rows == index.n_instances[table.name]
            assert len(table.columns) == index.n_features[table.name]
            if kind is LABELS:
                assert len(table.classes) == index.n_classes[table.name]
            assert np.isfinite(table.x).all() or table.name == "penguins"
