"""What a cell of a file means: a number, a text, an identifier or nothing."""

import gzip

import numpy as np
import pandas as pd
import pytest

from metaopt.errors import TaskError
from metaopt.tasks.tables.columns import is_text, values_of
from metaopt.tasks.tables.folder import Folder
from metaopt.tasks.tables.table import BadTable
from metaopt.tasks.tables.table_files import read_file

N = 40


def part(seed, **more):
    r = np.random.default_rng(seed)
    y = r.integers(0, 2, N)
    return pd.DataFrame({"a": r.normal(size=N) + y, "target": np.where(y, "yes", "no"), **more})


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    "ids", [[1234561, 1234562, 1234563], [10**18, 10**18 + 1, 10**18 + 2], [0.1234561, 0.1234562, 3]]
)
def test_every_identifier_is_a_task_of_its_own(tmp_path, ids, suffix):
    frame = pd.concat([part(i, g=g) for i, g in enumerate(ids)])
    path = tmp_path / f"all.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path, index=False)
    found = sorted(name for names in Folder(path=str(path), group="g").splits.values() for name in names)
    assert found == sorted(map(str, ids))


def test_identifiers_with_leading_zeros_stay_apart(tmp_path):
    pd.concat([part(i, g=g) for i, g in enumerate(["7", "007", "NA"])]).to_csv(tmp_path / "all.csv", index=False)
    found = Folder(path=str(tmp_path / "all.csv"), group="g").splits.values()
    assert sorted(name for names in found for name in names) == ["007", "7", "NA"]


def test_a_word_is_a_text_among_texts_and_missing_among_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("text,number\nNA,1\nNone,NA\n,2\n")
    frame, _ = read_file(tmp_path / "t.csv")
    assert values_of(frame["text"], "text").tolist() == ["NA", "None", None]
    numbers = values_of(frame["number"], "number")
    assert not is_text(numbers)
    np.testing.assert_array_equal(numbers, [1, np.nan, 2])


@pytest.mark.parametrize("texts", [[str(2**60), str(2**60 + 1)], [2**60, 2**60 + 1]])
def test_whole_numbers_that_float64_makes_equal_are_refused(texts):
    with pytest.raises(BadTable, match="some are equal as float64, such as 1152921504606846976"):
        values_of(pd.Series(texts), "column a")


def test_names_that_differ_in_spaces_alone_are_refused_and_honest_ones_used(tmp_path):
    (tmp_path / "t.csv").write_text('a,"a ",target\n1,2,3\n')
    with pytest.raises(BadTable, match="two columns called 'a'"):
        read_file(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("target.1,target\n1,2\n")
    assert list(read_file(tmp_path / "t.csv")[0].columns) == ["target.1", "target"]


def test_compressed_files_and_links_to_nothing_are_named(tmp_path):
    (tmp_path / "packed.csv").write_bytes(gzip.compress(b"a,target\n1,2\n"))
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(TaskError) as error:
        Folder(path=str(tmp_path))
    assert "packed.csv: is compressed (gzip)" in str(error.value)
    assert "gone.csv: is a link to nothing" in str(error.value)
