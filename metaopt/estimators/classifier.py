"""A classifier that needs no tuning."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from metaopt.estimators.base import MetaTuned
from metaopt.types import Kind


@final
class MetaTunedClassifier(ClassifierMixin, MetaTuned):
    """A small multi-layer perceptron, trained with a meta-trained policy in place of tuned hyperparameters.

    A table is an array or a data frame. Numbers are standardised; columns of texts and pandas categories are encoded
    one-hot, where a category that is new at prediction is zero everywhere. Missing values are filled in with the median
    or the most frequent category.

    Args:
        policy: path of a `policy.safetensors` or of the directory of a run, or the name of a policy that comes with
            metaopt; None: the one that was learned on tables of this kind.
        steps: number of training steps; None: as `plan` has it, which is what the policy was meta-trained for, and more
            on large tables. Beyond these, the last factor of a learned schedule holds.
        batch_size: rows in the minibatch of a step; more than there are means all of them. None: as the policy was
            meta-trained; where that was on all rows, up to 1024.
        n_networks: networks from different initialisations and minibatches, trained side by side, whose probabilities
            are averaged.
        hidden: widths of the hidden layers; None: those of the network that the policy was meta-trained on, whose
            activation it has in any case.
        random_state: seed of the initialisations and minibatches; an int makes the same classifier each time.
        device: where to train, `cpu`, `cuda`, `cuda:N` or `auto`. Predictions are made on the CPU.

    Attributes:
        classes_: the class labels, in the order of the columns of `predict_proba`.
        n_features_in_: number of columns of the table.
        feature_names_in_: their names, where all are texts.
        n_iter_: number of training steps.
        loss_curve_: loss that each step saw, mean over the networks, [steps].
        policy_note_: how the policy was fitted to the network, in a sentence; empty where it was made for such a one.
    """

    _kind = Kind.classification
    _several_outputs = False

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MetaTunedClassifier:
        """Trains on a table.

        Args:
            X: [rows, columns], two rows or more.
            y: class labels, [rows].
            sample_weight: how much each row counts, [rows], 0 or more; a row of weight 0 does not count at all. Only
                their proportions matter. None: all count the same.

        Returns:
            The classifier itself.

        Raises:
            TypeError, ValueError: a parameter, the table or the labels are not what they should be.
            PolicyFileError: there is no such policy, or it fits its own model only.
            TrainingError: training diverged.
        """
        columns, codes, y, weights = self._checked(X, y, sample_weight)
        check_classification_targets(y)
        classes, indices = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has one class only, {classes[0]!r}; a classifier needs two or more")
        self._train(columns, codes, indices.astype(np.int64), len(classes), weights)
        self.classes_ = classes
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes.

        Args:
            X: [rows, columns], as in `fit`.

        Returns:
            [rows, classes]; each row sums to 1.
        """
        return self._outputs(X)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, [rows]; X as in `predict_proba`."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]
