"""Weights of rows, values that are missing later, and what the program around has set in torch."""

import numpy as np
import pandas as pd
import pytest
import torch

from metaopt.estimators import MetaTunedClassifier, MetaTunedRegressor

R = np.random.default_rng(0)
Y = np.arange(40) % 2
X = R.normal(size=(40, 2)) + 3 * Y[:, None]


def probabilities(policy, x=X, y=Y, at=X, **fit):
    model = MetaTunedClassifier(policy, steps=10, n_networks=1, random_state=0)
    return model.fit(x, y, **fit).predict_proba(at)


def test_equal_weights_change_nothing_and_only_proportions_matter(adam):
    np.testing.assert_array_equal(probabilities(adam, sample_weight=np.full(40, 0.3)), probabilities(adam))
    weights = R.random(40) + 0.1
    once, scaled = (probabilities(adam, sample_weight=weights * factor) for factor in (1, 4))
    np.testing.assert_array_equal(once, scaled)
    assert np.abs(once - probabilities(adam)).max() > 1e-4


def test_rows_of_weight_zero_do_not_count_at_all(adam):
    frame = pd.DataFrame({"a": [*X[:, 0], 1e9, 1e9], "c": [*np.where(Y, "u", "v"), "w", None]})
    found = probabilities(adam, frame, [*Y, 2, 2], frame, sample_weight=[1.0] * 40 + [0.0] * 2)
    np.testing.assert_array_equal(found, probabilities(adam, frame[:40], Y, frame))


def test_a_regressors_weights_move_its_mean(adam):
    model = MetaTunedRegressor(steps=1, n_networks=1, random_state=0)
    values = np.where(Y, 1.0, 0.0)
    model.fit(X, values, sample_weight=np.where(Y, 3.0, 1.0))
    assert model._mean == pytest.approx(0.75)


@pytest.mark.parametrize("weights", [-np.ones(40), np.zeros(40), np.full(40, np.nan), np.ones(3)])
def test_wrong_weights_are_refused(adam, weights):
    with pytest.raises(ValueError, match="weight"):
        probabilities(adam, sample_weight=weights)


def test_values_that_are_missing_at_prediction_only_are_the_median(adam):
    gaps = X.copy()
    gaps[:, 1] = np.nan
    filled = np.column_stack([X[:, 0], np.full(40, np.median(X[:, 1]))])
    np.testing.assert_array_equal(probabilities(adam, at=gaps), probabilities(adam, at=filled))


def test_texts_in_a_column_that_was_empty_are_unseen(adam):
    empty = pd.DataFrame({"a": pd.Series([None] * 40, dtype=object), "b": X[:, 1]})
    found = probabilities(adam, empty, at=empty.assign(a="new"))
    np.testing.assert_array_equal(found, probabilities(adam, empty, at=empty))


@pytest.mark.parametrize(
    "around", [torch.inference_mode, lambda: torch.device("meta"), lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_the_program_around_does_not_matter(adam, around):
    expected = probabilities(adam)
    with around():
        np.testing.assert_array_equal(probabilities(adam), expected)


def test_the_default_type_does_not_matter_and_stays(adam):
    expected = probabilities(adam)
    torch.set_default_dtype(torch.float64)
    try:
        np.testing.assert_array_equal(probabilities(adam), expected)
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_whole_weights_are_repeated_rows(adam):
    weights = R.integers(0, 4, 40)
    weighted = probabilities(adam, sample_weight=weights)
    np.testing.assert_allclose(weighted, probabilities(adam, X.repeat(weights, 0), Y.repeat(weights)), atol=1e-4)
