"""What the estimators share: scikit-learn's checks around the training of networks with a policy."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted, check_X_y, validate_data

from metaopt.errors import TrainingError
from metaopt.estimators.network import network_for, outputs_of, plain_torch
from metaopt.estimators.parameters import device_of, hidden_widths, policy_path, seeds_of, whole_number
from metaopt.estimators.plan import plan
from metaopt.estimators.table_input import TableInput, codes_of, columns_of, has_texts, is_frame
from metaopt.estimators.training import train
from metaopt.policies.file import load_policy_file
from metaopt.policies.fitting import fit_policy
from metaopt.tasks.tables.columns import LARGEST
from metaopt.tasks.tables.table import Column
from metaopt.types import Batch, Kind, TaskSpec

FEWEST_ROWS = 2
MISSING_VALUES: dict[str, Any] = {"ensure_all_finite": "allow-nan"}


class MetaTuned(BaseEstimator):
    """The parameters and the training of both estimators, which say what they are for."""

    _kind: ClassVar[Kind]
    _several_outputs: ClassVar[bool]

    def __init__(
        self,
        policy: str | Path | None = None,
        *,
        steps: int | None = None,
        batch_size: int | None = None,
        n_networks: int = 4,
        hidden: Sequence[int] | None = None,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
    ) -> None:
        self.policy = policy
        self.steps = steps
        self.batch_size = batch_size
        self.n_networks = n_networks
        self.hidden = hidden
        self.random_state = random_state
        self.device = device

    def __sklearn_tags__(self) -> Tags:
        """Says that values may be missing."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _checked(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[tuple[Column, ...], np.ndarray, np.ndarray, np.ndarray | None]:
        """Columns, codes (see `codes_of`), targets and weights of the training rows, as scikit-learn checks them.

        Rows of weight 0 are not among them. The weights are 1 on average; None where all are the same.
        """
        numeric = self._kind is Kind.regression
        checks: dict[str, Any] = {
            "dtype": np.float64,
            **MISSING_VALUES,
            "ensure_min_samples": FEWEST_ROWS,
            "multi_output": self._several_outputs,
            "y_numeric": numeric,
        }
        if has_texts(X):
            X, y = validate_data(self, X, y, skip_check_array=True)
            frame = _frame(X)
            weights = _weights_of(sample_weight, frame)
            counts = slice(None) if weights is None else weights > 0
            columns = columns_of(frame[counts])
            codes, y = _arrays(check_X_y(codes_of(frame, columns), y, estimator=self, **checks))
        else:
            codes, y = _arrays(validate_data(self, X, y, **checks))
            weights = _weights_of(sample_weight, codes)
            names = getattr(self, "feature_names_in_", range(codes.shape[1]))
            columns = tuple(Column(str(name)) for name in names)
        y = y.astype(np.float64) if numeric else y
        for name, values in (("X", codes), ("y", y))[: 1 + numeric]:
            if (np.abs(values) > LARGEST).any():
                raise ValueError(f"{name} holds numbers beyond {LARGEST:g}, whose squares overflow; scale them")
        if weights is None:
            return columns, codes, y, None
        counts = weights > 0
        if counts.sum() < FEWEST_ROWS:
            raise ValueError(
                f"sample_weight is positive for {counts.sum()} of {len(counts)} rows; {FEWEST_ROWS} or more must count"
            )
        codes, y, weights = codes[counts], y[counts], weights[counts]
        return (
            columns,
            codes,
            y,
            None if np.ptp(weights) == 0 else weights / weights.max() / (weights / weights.max()).mean(),
        )

    def _train(
        self,
        columns: Sequence[Column],
        codes: np.ndarray,
        targets: np.ndarray,
        outputs: int,
        weights: np.ndarray | None = None,
    ) -> None:
        """Trains on a table, and sets what both estimators have when they are fitted.

        Args:
            columns: of the table.
            codes: the table.
            targets: class indices [rows], or values [rows, outputs].
            outputs: number of classes, or of values.
            weights: of the rows, positive; None: all the same.
        """
        steps, batch_size, n_networks, hidden, device = self._parameters()
        path = policy_path(self.policy, self._kind)
        tensors, card = load_policy_file(path)
        planned = plan(len(codes), card)
        steps, batch_size = steps or planned.steps, batch_size or planned.batch_size
        self._table = TableInput.fit(columns, codes, weights)
        self._network = network_for(TaskSpec(self._kind, (self._table.width,), outputs), card, hidden)
        support = Batch(torch.from_numpy(self._table(codes)), torch.from_numpy(targets))
        shares = None if weights is None else torch.from_numpy(weights.astype(np.float32))
        seeds = seeds_of(self.random_state, n_networks)
        with plain_torch():
            model = self._network.model()
            policy, self.policy_note_ = fit_policy(tensors, card, model, path)
            trained = train(policy, model, self._kind, support, steps, batch_size, seeds, device, planned.l2, shares)
        if trained.diverged == n_networks:
            raise TrainingError(
                f"training diverged in all of n_networks={n_networks} within {steps} steps; give fewer steps, or a "
                "policy that was meta-trained on tables like this one"
            )
        if trained.diverged:
            warnings.warn(
                f"training diverged in {trained.diverged} of n_networks={n_networks}, which are left out",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.n_iter_ = steps
        self.loss_curve_ = trained.losses.double().numpy()
        self._weights = {name: tensor.numpy() for name, tensor in trained.weights.items()}

    def _parameters(self) -> tuple[int | None, int | None, int, tuple[int, ...] | None, torch.device]:
        """Steps, minibatch size, number of networks, widths and device, checked."""
        own = "the policy's own"
        return (
            None if self.steps is None else whole_number("steps", self.steps, own),
            None if self.batch_size is None else whole_number("batch_size", self.batch_size, own),
            whole_number("n_networks", self.n_networks),
            hidden_widths(self.hidden),
            device_of(self.device),
        )

    def _outputs(self, X: Any) -> np.ndarray:
        """What the networks make of rows on average, float64 [rows, outputs]."""
        check_is_fitted(self)
        columns = self._table.columns
        if has_texts(X) or any(column.categories for column in columns):
            validate_data(self, X, reset=False, skip_check_array=True)
            (codes,) = _arrays([check_array(codes_of(_frame(X), columns), **MISSING_VALUES, estimator=self)])
        else:
            (codes,) = _arrays([validate_data(self, X, reset=False, dtype=np.float64, **MISSING_VALUES)])
        # Copies, because a memory-mapped array may be read only.
        with plain_torch():
            weights = {name: torch.tensor(array) for name, array in self._weights.items()}
            return outputs_of(self._network, weights, torch.from_numpy(self._table(codes))).numpy()


def _frame(X: Any) -> Any:
    """A table of columns of different types, as a data frame."""
    import pandas as pd  # noqa: PLC0415 - slow to import, and only tables with texts need it

    anything: dict[str, Any] = {"dtype": object, "ensure_all_finite": False}
    return X if is_frame(X) else pd.DataFrame(_arrays([check_array(X, **anything)])[0])


def _weights_of(sample_weight: Any, rows: Any) -> np.ndarray | None:
    """Weights of all rows, float64, not all 0; None where none are given."""
    if sample_weight is None:
        return None
    weights = np.asarray(_check_sample_weight(sample_weight, rows, dtype=np.float64))
    if (weights < 0).any():
        raise ValueError(f"Negative values in data passed to `sample_weight`: {weights.min():g}; give 0 or more")
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number")
    return weights


def _arrays(checked: Any) -> tuple[np.ndarray, ...]:
    """What scikit-learn's checks give, which its annotations do not say."""
    return tuple(checked)
