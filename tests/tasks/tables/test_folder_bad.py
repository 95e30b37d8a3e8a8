"""Everything that can be wrong with a user's own files, each named with its remedy in both modes."""

import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
from table_makers import patients, write_patients

from metaopt.errors import TaskError
from metaopt.tasks.tables.folder import Folder

N = 40


def changed(**columns):
    """A good frame with other columns; a dictionary changes single rows (the first is 0)."""
    frame = patients(N, seed=99).astype(object)
    for name, value in columns.items():
        if isinstance(value, dict):
            for row, cell in value.items():
                frame.loc[row, name] = cell
        else:
            frame[name] = value
    return frame


def csv(frame, name="bad.csv"):
    return lambda folder: frame.to_csv(folder / name, index=False)


def text(content, name="bad.csv"):
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def arrays(**content):
    return lambda folder: np.savez(folder / "bad.npz", **content)


def pickled(folder):
    (folder / "bad.npz").write_bytes(pickle.dumps({"x": [1], "y": [2]}))


def single_array(folder):
    np.save(folder / "bad.npy", np.zeros((3, 3)))
    (folder / "bad.npy").rename(folder / "bad.npz")


def parquet_of(**columns):
    return lambda folder: changed(**columns).to_parquet(folder / "bad.parquet")


X, Y = np.random.default_rng(0).normal(size=(N, 4)), np.arange(N) % 2

BAD_FILES = {
    "no target": (
        csv(changed().drop(columns="target")),
        "no column 'target' to predict; its columns are age.*; set tasks.target=COLUMN",
    ),
    "two targets": (text("a,target,target\n" + "1,x,y\n" * N), "two columns called 'target'; rename"),
    "no inputs": (csv(changed()[["target"]]), "no column of inputs"),
    "three rows": (csv(changed()[:3]), "has 3 rows, but at least 12 are needed for support, query and test; add rows"),
    "no rows": (csv(changed()[:0]), "no rows; fill it, or remove it"),
    "empty": (text(""), "is empty; fill it, or remove it"),
    "one class": (csv(changed(target="ill")), "one class only, ill; a task needs two or more"),
    "rare class": (csv(changed(target={0: "dead", 1: "dead"})), "fewer than 3 rows of class dead; add some"),
    "missing target": (
        csv(changed(target={2: None, 5: ""})),
        "no target in rows 3 and 6; fill it in, or remove these rows",
    ),
    "many missing targets": (csv(changed(target=dict.fromkeys(range(9)))), "no target in rows 1, 2, 3 and 6 more"),
    "stray text": (csv(changed(age={3: "12a", 7: "old"})), "column age holds numbers, but '12a' in rows 4 and 8; mend"),
    "text for numbers": (
        csv(changed(bmi=["low", "high"] * 20)),
        "column bmi holds 'low' in rows 1, 2, 3 .* but numbers in most tables",
    ),
    "numbers for text": (csv(changed(ward=[1, 2] * 20)), "column ward holds numbers, but texts in most tables"),
    "names": (
        csv(changed(ward=[f"w{i}" for i in range(N)])),
        r"column ward holds 40 different texts, .*tasks\.drop=\[ward\]",
    ),
    "own identifiers": (
        csv(changed(patient=[f"p{i}" for i in range(N)])),
        r"column patient holds 40 .*tasks\.drop=\[patient\]",
    ),
    "infinite": (csv(changed(bmi={4: np.inf})), "column bmi is infinite in row 5"),
    "overflowing": (csv(changed(bmi={4: "1e200", 6: "-1e999"})), "column bmi is infinite in rows 5 and 7"),
    "numbers as labels": (csv(changed(target=[0, 1] * 20)), "has numbers as targets, not texts as most tables"),
    "two problems": (csv(changed(bmi={4: np.inf}, target={0: None})), "no target in row 1; .*; column bmi is infinite"),
    "rows of other lengths": (text("a,b,target\n1,2,x\n1,2,3,x\n"), "rows of different lengths .*line 3"),
    "one cell too many in all": (text("a,b,target\n" + "1,2,x,9\n" * N), "rows with more cells than there are names"),
    "semicolons": (text("a;b;target\n1,5;2;x\n"), "semicolons .* save it with commas"),
    "no utf-8": (text("a,b,target\n1,2,w\xe4\n".encode("latin-1")), "not UTF-8 text; save it as UTF-8"),
    "lists in parquet": (parquet_of(bmi=[[1.0]] * N), "column bmi holds ndarray values, not numbers"),
    "dates": (parquet_of(bmi=pd.date_range("2030-01-01", periods=N)), "column bmi holds dates or times; .*tasks.drop"),
    "no parquet": (text("mine", "bad.parquet"), "no readable Parquet file"),
    "objects": (arrays(x=X.astype(object), y=Y), "holds Python objects instead of plain arrays"),
    "texts as x": (arrays(x=X.astype(str), y=Y), "has x of type .*, where numbers are needed"),
    "complex y": (arrays(x=X, y=Y * 1j), "has y of type complex128"),
    "no y": (arrays(x=X), "must hold the arrays x and y, but holds x; write both"),
    "other shapes": (arrays(x=X, y=Y[:-1]), r"x is \[40, 4\] and y \[39\]"),
    "images": (arrays(x=X.reshape(N, 2, 2), y=Y), r"x is \[40, 2, 2\]"),
    "no npz": (text("mine", "bad.npz"), "Python objects instead of plain arrays, or is no .npz file"),
    "empty npz": (text("", "bad.npz"), "cannot be read .*; write it again"),
    "a pickle": (pickled, "Python objects instead of plain arrays, or is no .npz file"),
    "a single array": (single_array, r"is a single array; write it with numpy\.savez"),
    "the same name": (
        lambda folder: changed().to_parquet(folder / "h1.parquet"),
        "has the same name as h1.csv, .*rename or remove one",
    ),
    "the same name in capitals": (csv(changed(), "H4.csv"), "has the same name as H4.csv, .*rename or remove one"),
    "the same rows": (
        lambda folder: shutil.copy(folder / "h2.csv", folder / "twin.csv"),
        "holds the same rows as h2.csv; remove one",
    ),
    "the same rows shuffled": (
        csv(patients(N, seed=2).sample(frac=1, random_state=0), "twin.csv"),
        "the same rows as h2.csv",
    ),
}


@pytest.fixture
def folder(tmp_path):
    return write_patients(tmp_path / "mine")


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named_with_its_remedy_and_stops_the_run_or_is_skipped(folder, case):
    make, words = BAD_FILES[case]
    before = {path.name for path in folder.iterdir()}
    make(folder)
    (new,) = {path.name for path in folder.iterdir()} - before
    with pytest.raises(TaskError, match=rf"(?s)^folder: 1 of the tables cannot be used; .*skip:\n  [\w.]+: .*{words}"):
        Folder(path=str(folder))
    family = Folder(path=str(folder), on_bad_task="skip")
    ((name, reason),) = family.left_out
    assert name in (new, "h4.csv")  # of two names that differ in capitals, the second is left out
    assert reason in str(family.overview().left_out)
    assert len([name for names in family.splits.values() for name in names]) == 6
    assert "nan" not in str(family.spec)


def test_the_error_lists_all_that_is_wrong_a_line_each(folder):
    for name in ("no target", "one class", "infinite"):
        make, _ = BAD_FILES[name]
        make(folder)
        (folder / "bad.csv").rename(folder / f"{name}.csv")
    with pytest.raises(TaskError, match=r"^folder: 3 of the tables cannot be used") as error:
        Folder(path=str(folder))
    lines = str(error.value).splitlines()[1:]
    assert [line.split(":")[0] for line in lines] == ["  infinite.csv", "  no target.csv", "  one class.csv"]


def test_nothing_is_read_with_pickle(folder):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    (folder / "bad.npz").write_bytes(pickle.dumps(Trap()))
    np.savez(folder / "worse.npz", x=np.array([Trap()], dtype=object), y=Y)
    with pytest.raises(TaskError, match=r"2 of the tables"):
        Folder(path=str(folder))


def test_without_pyarrow_the_remedy_is_to_install_it(folder, monkeypatch):
    def read_parquet(*_, **__):
        raise ImportError("Unable to find a usable engine")

    changed().to_parquet(folder / "bad.parquet")
    monkeypatch.setattr(pd, "read_parquet", read_parquet)
    with pytest.raises(
        TaskError, match=r"bad\.parquet: needs the package pyarrow .*install 'torch-metaopt\[parquet\]'"
    ):
        Folder(path=str(folder))


@pytest.mark.parametrize(
    ("target", "kind", "words"),
    [
        (["low", "high"] * 20, None, "has the target 'low' in rows 1, 2, 3 .* numbers are needed as in most tables"),
        (["12a", *range(39)], None, "has the target '12a' in row 1, but numbers are needed as in most tables; mend it"),
        (["12a", *range(39)], "regression", r"has the target '12a' in row 1, .* for a regression \(tasks.kind\)"),
        ([3.5] * 40, "regression", "has the target 3.5 in every row"),
        ([3] * 40, None, "has the target 3 in every row"),
    ],
)
def test_targets_of_a_regression_must_be_numbers_that_differ(tmp_path, target, kind, words):
    rng = np.random.default_rng(0)
    for i in range(4):
        patients(N, seed=i).assign(target=rng.normal(size=N)).to_csv(tmp_path / f"h{i}.csv", index=False)
    patients(N, seed=9).assign(target=target).to_csv(tmp_path / "odd.csv", index=False)
    with pytest.raises(TaskError, match=rf"odd\.csv: {words}"):
        Folder(path=str(tmp_path), kind=kind)
    assert Folder(path=str(tmp_path), kind=kind, on_bad_task="skip").left_out[0].name == "odd.csv"


def test_a_table_with_many_numbers_among_tables_with_labels_is_bad(tmp_path):
    for i in range(4):
        patients(N, seed=i).assign(target=np.arange(N) % 2).to_csv(tmp_path / f"h{i}.csv", index=False)
    patients(N, seed=9).assign(target=np.arange(N)).to_csv(tmp_path / "odd.csv", index=False)
    with pytest.raises(TaskError, match=r"odd\.csv: has 40 different numbers as targets, .* set tasks.kind"):
        Folder(path=str(tmp_path))


def test_texts_that_are_too_many_over_all_tables_stop_the_run_or_are_dropped_in_all(tmp_path):
    for i in range(4):
        frame = patients(N, seed=i).assign(city=[f"city {5 * i + k % 5}" for k in range(N)])
        frame.to_csv(tmp_path / f"h{i}.csv", index=False)
    with pytest.raises(TaskError, match=r"all tables together: in column city are 20 .*one_hot=8 .*drop=\[city\]"):
        Folder(path=str(tmp_path))
    family = Folder(path=str(tmp_path), on_bad_task="skip")
    assert [name for name, _ in family.left_out] == ["all tables together"]
    assert family.spec.input_shape == (6,)
    assert Folder(path=str(tmp_path), one_hot=20).spec.input_shape == (26,)


def test_a_conflict_that_only_shows_without_another_bad_table_is_found(folder):
    changed(ward=[1, 2] * 20).drop(columns="age").to_csv(folder / "bad1.csv", index=False)
    changed(age=["old", "young"] * 20).to_csv(folder / "bad2.csv", index=False)
    family = Folder(path=str(folder), on_bad_task="skip")
    assert sorted(name for name, _ in family.left_out) == ["bad1.csv", "bad2.csv"]


def test_more_classes_than_support_rows_are_too_many(folder):
    changed(target=[f"c{i % 12}" for i in range(N)]).to_csv(folder / "bad.csv", index=False)
    with pytest.raises(TaskError, match=r"bad\.csv: has 12 classes, but only 8 rows .* raise tasks\.support"):
        Folder(path=str(folder), support=8)


def test_set_sizes_must_fit_every_table(folder):
    patients(50, seed=9).to_csv(folder / "large.csv", index=False)
    with pytest.raises(TaskError, match=r"(?s)6 of the tables cannot be used;.*h0\.csv: has 40 rows, but at least 45"):
        Folder(path=str(folder), support=25, query=10, test=10)
    with pytest.raises(TaskError, match=r"(?s)1 tables can be used, but 3 are needed.*h0\.csv: has 40 rows"):
        Folder(path=str(folder), support=25, query=10, test=10, on_bad_task="skip")


def test_two_tables_are_too_few(tmp_path):
    with pytest.raises(TaskError, match=r"2 tables can be used, but 3 are needed, one for each split; add tables"):
        Folder(path=str(write_patients(tmp_path / "mine", n=2)))


def test_skipping_must_leave_three_tables(folder):
    for i in range(4):
        (folder / f"h{i}.csv").write_text("")
    with pytest.raises(TaskError, match=r"(?s)2 tables can be used.*h3\.csv: is empty"):
        Folder(path=str(folder), on_bad_task="skip")


def test_rows_without_a_group_are_named(tmp_path):
    frame = pd.concat([patients(N, seed=i).assign(hospital=f"h{i}") for i in range(4)], ignore_index=True)
    frame.loc[[0, 50], "hospital"] = None
    frame.to_csv(tmp_path / "all.csv", index=False)
    with pytest.raises(TaskError, match=r"all\.csv: has no hospital in rows 1 and 51; fill it in"):
        Folder(path=str(tmp_path / "all.csv"), group="hospital")
    skipped = Folder(path=str(tmp_path / "all.csv"), group="hospital", on_bad_task="skip")
    assert sorted(row.rows for row in skipped.overview().rows) == [39, 39, 40, 40]
    with pytest.raises(TaskError, match=r"all\.csv: has no column 'clinic' \(tasks\.group\); its columns are age"):
        Folder(path=str(tmp_path / "all.csv"), group="clinic")


def test_a_bad_group_is_named_as_a_file_is(tmp_path):
    frames = [patients(N, seed=i).astype({"age": object}).assign(hospital=f"h{i}") for i in range(5)]
    frames[1].loc[3, "age"] = "12a"
    frames[2] = frames[2][:3]
    pd.concat(frames).to_csv(tmp_path / "all.csv", index=False)
    with pytest.raises(TaskError) as error:
        Folder(path=str(tmp_path / "all.csv"), group="hospital")
    assert "\n  h1: column age holds numbers, but '12a' in row 4; mend" in str(error.value)
    assert "\n  h2: has 3 rows" in str(error.value)
    assert "2 of the tables" in str(error.value)
