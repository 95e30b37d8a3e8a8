import math

import pytest
import torch

from metaopt.models.mlp import mlp
from metaopt.models.objective import objective, objective_of
from metaopt.types import Batch, Kind, TaskSpec


def given_outputs(params, x):
    return params["outputs"] + 0 * x.sum()


def test_classification_is_mean_cross_entropy_in_nats_and_the_share_of_hits():
    logits = torch.tensor([[0.0, 0.0, 0.0], [1.0, 3.0, 2.0], [5.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([2, 1, 0, 0])
    loss, scores = objective_of(given_outputs, Kind.classification)
    batch = Batch(torch.zeros(4, 1), y)
    found, accuracy = scores({"outputs": logits}, batch)
    expected = -sum(math.log(row.exp()[label] / row.exp().sum()) for row, label in zip(logits, y, strict=True)) / 4
    assert found.item() == pytest.approx(expected)
    assert loss({"outputs": logits}, batch) == found
    assert accuracy == 0.5


def test_regression_is_mean_squared_error_over_examples_and_outputs_and_has_no_accuracy():
    outputs, y = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    loss, scores = objective_of(given_outputs, Kind.regression)
    batch = Batch(torch.zeros(2, 1), y)
    found, accuracy = scores({"outputs": outputs}, batch)
    assert found.item() == loss({"outputs": outputs}, batch).item() == pytest.approx((4 + 9) / 4)
    assert accuracy.isnan()


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_the_objective_of_a_model_scores_its_outputs(kind):
    model = mlp(TaskSpec(kind, (3,), 4), [5])
    generator = torch.Generator().manual_seed(0)
    params = {name: torch.randn(shape, generator=generator) for name, shape in model.shapes.items()}
    x = torch.randn(6, 3, generator=generator)
    y = torch.arange(6) % 4 if kind is Kind.classification else torch.randn(6, 4, generator=generator)
    found = objective(model, kind).scores(params, Batch(x, y))
    expected = objective_of(given_outputs, kind).scores({"outputs": model.apply(params, x)}, Batch(x, y))
    torch.testing.assert_close(found, expected, equal_nan=True)
