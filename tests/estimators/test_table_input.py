import numpy as np
import pandas as pd
import pytest

from metaopt.estimators.table_input import MOST_CATEGORIES, TableInput, codes_of, columns_of, has_texts
from metaopt.tasks.tables.table import Column

FRAME = pd.DataFrame(
    {
        "age": [20.0, 40.0, np.nan, 60.0],
        "town": ["Rome", "Oslo", None, "Rome"],
        "size": pd.Categorical([3, 1, 2, 3]),
        "owner": [True, False, True, None],
        "sex": ["f", "m", "m", "f"],
    }
)


def fitted(frame):
    columns = columns_of(frame)
    return columns, TableInput.fit(columns, codes_of(frame, columns))


def inputs(fit_on, frame):
    columns, table = fitted(fit_on)
    return table(codes_of(frame, columns))


def test_columns_are_categories_where_they_are_texts_or_pandas_says_so():
    assert columns_of(FRAME) == (
        Column("age"),
        Column("town", ("Oslo", "Rome")),
        Column("size", ("1", "2", "3")),
        Column("owner"),
        Column("sex", ("f", "m")),
    )


def test_missing_values_are_the_median_or_the_most_frequent_category():
    found = inputs(FRAME, FRAME)
    assert found.shape == (4, 1 + 1 + 3 + 1 + 1)
    np.testing.assert_allclose(found[:, 0], [-2 / 2**0.5, 0, 0, 2 / 2**0.5], atol=1e-6)
    np.testing.assert_allclose(found[:, 1], [1 / 3**0.5, -(3**0.5), 1 / 3**0.5, 1 / 3**0.5], atol=1e-6)
    np.testing.assert_array_equal(found[:, 2:5], [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(found[:, 5], [1 / 3**0.5, -(3**0.5), 1 / 3**0.5, 1 / 3**0.5], atol=1e-6)
    np.testing.assert_allclose(found[:, 6], [-1, 1, 1, -1], atol=1e-6)


def test_an_unknown_category_is_zero_everywhere_also_where_two_are_one_number():
    new = FRAME.assign(
        size=pd.Categorical([4, 1, 2, 3]), town=["Paris", "Oslo", "Rome", "Rome"], sex=["x", "f", "m", "f"]
    )
    found, known = inputs(FRAME, new), inputs(FRAME, FRAME)
    np.testing.assert_array_equal(found[0, 2:5], [0, 0, 0])
    assert found[0, 1] == 0
    assert found[0, 6] == 0
    np.testing.assert_array_equal(found[[1, 3]][:, :6], known[[1, 3]][:, :6])


def test_a_category_is_the_same_in_every_type_that_it_comes_in():
    def of(column):
        return inputs(pd.DataFrame({"c": pd.Categorical([1, 2, 3])}), pd.DataFrame({"c": column}))

    expected = np.eye(3)[[2, 0]]
    for column in (pd.Categorical([3, 1]), [3, 1], [3.0, 1.0], ["3", "1"], pd.array([3, 1], dtype="Int64")):
        np.testing.assert_array_equal(of(column), expected)
    missing = of(pd.Categorical([3.0, np.nan, 1.0]))
    np.testing.assert_array_equal(missing, np.eye(3)[[2, 0, 0]])
    np.testing.assert_array_equal(of([3.0, np.nan, 1.0]), missing)


def test_texts_that_are_all_numbers_are_numbers():
    frame = pd.DataFrame({"n": ["1.5", "?", "2.5"], "m": ["1", "2", "x"]})
    assert columns_of(frame) == (Column("n"), Column("m", ("1", "2", "x")))
    np.testing.assert_array_equal(codes_of(frame, columns_of(frame))[:, 0], [1.5, np.nan, 2.5])


def test_true_and_false_are_one_and_zero_with_and_without_missing_values():
    columns = columns_of(pd.DataFrame({"b": [True, False, True]}))
    for values in ([True, None, False], pd.array([True, None, False], dtype="boolean"), [1.0, np.nan, 0.0]):
        np.testing.assert_array_equal(codes_of(pd.DataFrame({"b": values}), columns)[:, 0], [1, np.nan, 0])


def test_of_very_many_categories_the_rarer_ones_share_an_input():
    texts = [f"t{i:03}" for i in range(100)] + [f"t{i:03}" for i in range(50, 100)]
    columns, table = fitted(pd.DataFrame({"c": texts}))
    assert table.width == MOST_CATEGORIES
    found = table(codes_of(pd.DataFrame({"c": ["t099", "t049", "t048", "never seen"]}), columns))
    assert found.sum(1).tolist() == [1, 1, 1, 1]
    assert found[0].argmax() != found[1].argmax()
    assert found[1:].argmax(1).tolist() == [MOST_CATEGORIES - 1] * 3


@pytest.mark.parametrize(
    ("column", "error", "words"),
    [
        ([{"a": 1}, 2], TypeError, "column c holds a dict, but each argument must be a string or a number"),
        (pd.date_range("2030-01-01", periods=2), TypeError, "column c holds dates or times; turn them into numbers"),
        (["a", np.inf], None, ""),
        ([np.inf, None], ValueError, r"column c is infinite in row 1"),
    ],
)
def test_a_column_that_is_neither_numbers_nor_texts_is_named(column, error, words):
    frame = pd.DataFrame({"c": pd.Series(column, dtype=None if hasattr(column, "dtype") else object)})
    if error is None:
        assert columns_of(frame) == (Column("c", ("a", "inf")),)
        return
    with pytest.raises(error, match=words):
        columns_of(frame)


def test_numbers_that_have_become_texts_are_named_with_their_rows():
    with pytest.raises(ValueError, match=r"column age held no texts .* but holds 'old' in row 2; give numbers"):
        codes_of(pd.DataFrame({"age": ["20", "old"]}), columns_of(FRAME[["age"]]))


def test_a_column_without_values_is_nothing():
    frame = pd.DataFrame({"c": [None, None], "n": [1.0, 2.0], "t": ["a", "b"]})
    np.testing.assert_array_equal(inputs(frame, frame), [[0, -1, -1], [0, 1, 1]])


def test_what_needs_to_be_looked_at_column_by_column():
    assert has_texts(FRAME)
    assert has_texts([["a", 1.0], ["b", 2.0]])
    assert has_texts(np.array([["a", 1.0]], dtype=object))
    assert has_texts(pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}))
    assert not has_texts(FRAME[["age"]].assign(flag=True))
    assert not has_texts([[1, 2.0], [3, 4]])
    assert not has_texts([[1], [2, 3]])


def test_no_input_depends_on_the_order_of_columns():
    turned = FRAME[FRAME.columns[::-1]]
    straight, back = inputs(FRAME, FRAME), inputs(turned, turned)
    np.testing.assert_array_equal(back[:, [6, 5, 2, 3, 4, 1, 0]], straight)
