import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from metaopt.tasks.tables.preprocess import CLIP, fit, layout_of
from metaopt.tasks.tables.table import Column

NUMBER, TWO, THREE, FOUR = (
    Column("n"),
    Column("b", ("no", "yes")),
    Column("c", ("x", "y", "z")),
    Column("d", tuple("abcd")),
)


def inputs(columns, support, rows):
    return fit(layout_of(columns), np.array(support, dtype=np.float64))(np.array(rows, dtype=np.float64))


def test_a_column_becomes_one_input_or_one_for_each_of_three_or_more_categories():
    layout = layout_of([NUMBER, THREE, TWO, FOUR])
    assert layout.starts.tolist() == [0, 1, 4, 5]
    assert layout.width == 9


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.floats(0, 0.6))
def test_it_is_what_scikit_learn_makes_of_the_same_support_rows(seed, n_support, missing):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (n_support + 15, 3)).astype(np.float64)
    numbers = rng.normal(size=(n_support + 15, 2)) * 100
    x = np.concatenate([numbers, codes], axis=1)
    x[rng.random(x.shape) < missing] = np.nan
    # Columns that the support rows show to be constant, or not at all, are ours to decide: see the tests below.
    x[:2, :2] = [[1.0, 2.0], [3.0, 4.0]]
    x[0, 2:] = 1
    support = x[:n_support]
    found = inputs([NUMBER, NUMBER, FOUR, FOUR, FOUR], support, x)

    median = SimpleImputer(strategy="median").fit(support[:, :2])
    scaler = StandardScaler().fit(median.transform(support[:, :2]))
    scaled = scaler.transform(median.transform(x[:, :2])).clip(-CLIP, CLIP)
    np.testing.assert_allclose(found[:, :2], scaled, rtol=1e-5, atol=1e-6)

    mode = SimpleImputer(strategy="most_frequent").fit(support[:, 2:])
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(mode.transform(support[:, 2:]))
    expected = np.zeros((len(x), 12))
    places = np.concatenate([4 * i + codes.astype(int) for i, codes in enumerate(encoder.categories_)])
    expected[:, places] = encoder.transform(mode.transform(x[:, 2:]))
    np.testing.assert_array_equal(found[:, 2:], expected)


def test_no_row_but_the_support_rows_has_a_say():
    columns = [NUMBER, THREE]
    support = [[1.0, 0], [2.0, 1], [np.nan, 1]]
    transform = fit(layout_of(columns), np.array(support))
    alone = transform(np.array(support))
    with_others = transform(np.array([*support, [1e6, 2], [np.nan, np.nan]]))
    np.testing.assert_array_equal(with_others[:3], alone)


def test_a_category_that_no_support_row_has_is_zero_everywhere_and_moves_no_other():
    found = inputs([THREE, NUMBER], [[0, 1.0], [2, 2.0]], [[0, 1.0], [1, 1.0], [2, 2.0]])
    np.testing.assert_array_equal(found[:, :3], [[1, 0, 0], [0, 0, 0], [0, 0, 1]])
    assert found.shape == (3, 4)


@pytest.mark.parametrize("shown", [5.0, np.nan])
def test_a_number_of_which_the_support_shows_one_value_or_none_is_zero_everywhere(shown):
    found = inputs([NUMBER, NUMBER], [[shown, 1.0], [shown, 2.0]], [[1e9, 1.0], [np.nan, 2.0], [shown, 1.5]])
    np.testing.assert_array_equal(found[:, 0], [0, 0, 0])


def test_outliers_are_clipped_and_missing_values_are_the_median():
    found = inputs([NUMBER], [[1.0], [2.0], [3.0]], [[1e12], [-1e12], [np.nan], [2.0]])
    np.testing.assert_allclose(found[:, 0], [CLIP, -CLIP, 0.0, 0.0])


def test_nothing_that_comes_out_is_nan():
    support = [[np.nan, np.nan, np.nan]] * 3
    found = inputs([NUMBER, TWO, FOUR], support, [*support, [1.0, 1, 3]])
    assert np.isfinite(found).all()


def test_complete_tables_take_the_short_way_to_the_same_inputs():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(30, 4)), rng.integers(0, 3, (30, 1))], axis=1)
    layout = layout_of([NUMBER, NUMBER, NUMBER, TWO, THREE])
    np.testing.assert_array_equal(fit(layout, x[:10], complete=True)(x), fit(layout, x[:10])(x))
