"""A regressor that needs no tuning."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import Tags

from metaopt.estimators.base import MetaTuned
from metaopt.types import Kind


@final
class MetaTunedRegressor(RegressorMixin, MetaTuned):
    """A small multi-layer perceptron, trained with a meta-trained policy in place of tuned hyperparameters.

    Tables, parameters and attributes are those of `MetaTunedClassifier`, but for `classes_`. Targets are standardised
    for training by the mean and standard deviation of the training rows. What is averaged over the networks are their
    values.
    """

    _kind = Kind.regression
    _several_outputs = True

    def __sklearn_tags__(self) -> Tags:
        """Says that there may be several targets."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MetaTunedRegressor:
        """Trains on a table.

        Args:
            X: [rows, columns], two rows or more.
            y: targets, [rows] or [rows, targets].
            sample_weight: see `MetaTunedClassifier.fit`.

        Returns:
            The regressor itself.

        Raises:
            TypeError, ValueError: a parameter, the table or the targets are not what they should be.
            PolicyFileError: there is no such policy, or it fits its own model only.
            TrainingError: training diverged.
        """
        columns, codes, y, weights = self._checked(X, y, sample_weight)
        values = y.reshape(len(y), -1)
        varies = np.ptp(values, axis=0) > 0
        mean, deviation = values.mean(axis=0), np.where(varies, values.std(axis=0), 1.0)
        if weights is not None:
            mean = np.average(values, axis=0, weights=weights)
            spread = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))
            deviation = np.where(varies, spread, 1.0)
        self._train(columns, codes, ((values - mean) / deviation).astype(np.float32), values.shape[1], weights)
        self._mean, self._deviation, self._several = mean, deviation, y.ndim > 1
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Values, [rows] or [rows, targets] as in `fit`; X is [rows, columns]."""
        values = self._outputs(X) * self._deviation + self._mean
        return values if self._several else values[:, 0]
