import io

import pytest
from rich.console import Console

from metaopt.report.overview import MOST_LEFT_OUT, MOST_ROWS, overview_table
from metaopt.tasks.tables.overview import Overview, TableRow
from metaopt.tasks.tables.table import LeftOut

FACTS = ("classification, because targets are texts", "each task: 10 rows to train on")


def printed(overview, width=80):
    """The overview as a terminal of that width shows it, without colours."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, legacy_windows=False).print(overview_table(overview))
    return file.getvalue()


def rows_of(n):
    splits = ("meta_train", "meta_validation", "meta_test")
    return tuple(
        TableRow(
            f"table[{i}]", splits[i % 3], 40 + i, 3 + i % 2, i % 3, "ill (20), well (20)", "not in all tables: bmi"
        )
        for i in range(n)
    )


def test_each_table_has_a_row_and_all_that_is_left_out_a_reason():
    left_out = tuple(LeftOut(f"bad{i}.csv", "is empty; fill it") for i in range(12))
    text = printed(Overview(FACTS, rows_of(9), left_out))
    for i in range(9):
        assert f"table[{i}]" in text
    assert "Classification, because targets are texts." in text
    assert text.count("is empty; fill it") == 12
    assert "3 numbers, 2" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_many_tables_are_summed_up_by_split():
    left_out = tuple(LeftOut(f"bad{i}", "has 3 rows; add some") for i in range(30))
    text = printed(Overview(FACTS, rows_of(MOST_ROWS + 2), left_out))
    assert "table[0]" not in text
    line = next(line for line in text.splitlines() if "meta_validation" in line)
    assert line.split() == ["meta_validation", "14", "41", "to", "80", "4", "to", "5"]
    assert text.count("add some") == MOST_LEFT_OUT
    assert f"{30 - MOST_LEFT_OUT} more" in text


@pytest.mark.parametrize("note", ["", "same data or source as other"])
def test_a_column_for_notes_is_there_where_there_are_any(note):
    rows = tuple(row._replace(note=note) for row in rows_of(3))
    assert ("Note" in printed(Overview(FACTS, rows, ()))) is bool(note)
