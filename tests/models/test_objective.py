import math

import pytest
import torch

from metaopt.errors import ConfigError
from metaopt.models.mlp import mlp
from metaopt.models.objective import Perturbation, objective, objective_of
from metaopt.types import Batch, Kind, TaskSpec


def given_outputs(params, x):
    return params["outputs"] + 0 * x.sum()


def test_classification_is_mean_cross_entropy_in_nats_and_the_share_of_hits():
    logits = torch.tensor([[0.0, 0.0, 0.0], [1.0, 3.0, 2.0], [5.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([2, 1, 0, 0])
    loss, scores, *_ = objective_of(given_outputs, Kind.classification)
    batch = Batch(torch.zeros(4, 1), y)
    found, accuracy = scores({"outputs": logits}, batch)
    expected = -sum(math.log(row.exp()[label] / row.exp().sum()) for row, label in zip(logits, y, strict=True)) / 4
    assert found.item() == pytest.approx(expected)
    assert loss({"outputs": logits}, batch) == found
    assert accuracy == 0.5


def test_regression_is_mean_squared_error_over_examples_and_outputs_and_has_no_accuracy():
    outputs, y = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    loss, scores, *_ = objective_of(given_outputs, Kind.regression)
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


def test_a_class_that_the_task_does_not_have_takes_no_probability():
    logits = torch.tensor([[1.0, 2.0, 50.0], [3.0, 0.0, 50.0]], requires_grad=True)
    y = torch.tensor([[0, 1, -1], [0, 1, -1]])
    padded = objective_of(given_outputs, Kind.classification, padded=True)
    plain = objective_of(lambda params, x: params["outputs"][:, :2], Kind.classification)
    batch, cut = Batch(torch.zeros(2, 1), y), Batch(torch.zeros(2, 1), torch.tensor([1, 1]))
    torch.testing.assert_close(padded.scores({"outputs": logits}, batch), plain.scores({"outputs": logits}, cut))
    (grads,) = torch.autograd.grad(padded.loss({"outputs": logits}, batch), logits)
    assert grads[:, 2].tolist() == [0, 0]


@pytest.mark.parametrize("padded", [False, True])
def test_the_error_surrogate_is_the_probability_that_the_right_class_does_not_get(padded):
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [30.0, -30.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1])
    y = torch.nn.functional.one_hot(labels, 2) if padded else labels
    found = objective_of(given_outputs, Kind.classification, padded, "error_surrogate")
    error, accuracy = found.outer({"outputs": logits}, Batch(torch.zeros(3, 1), y))
    wrong = [1 / (1 + math.exp(2)), 1 / (1 + math.exp(-1)), 1.0]
    assert error.item() == pytest.approx(sum(wrong) / 3)
    assert accuracy.item() == pytest.approx(1 / 3)
    assert found.scores({"outputs": logits}, Batch(torch.zeros(3, 1), y))[0] > 19, "scores stay losses"


def test_a_regression_has_no_errors_to_count():
    with pytest.raises(ConfigError, match=r"outer\.objective is 'error_surrogate'.*use loss"):
        objective_of(given_outputs, Kind.regression, outer="error_surrogate")


@pytest.mark.parametrize("share", [0.05, 0.5, torch.tensor(0.3, dtype=torch.float64)], ids=str)
def test_smoothed_targets_give_the_cross_entropy_that_torch_gives(share):
    logits, batch = torch.randn(7, 4, dtype=torch.float64), Batch(torch.zeros(7, 1), torch.arange(7) % 4)
    for padded in (False, True):
        told = batch._replace(y=torch.nn.functional.one_hot(batch.y, 4)) if padded else batch
        loss = objective_of(given_outputs, Kind.classification, padded).loss
        found = loss({"outputs": logits}, told, Perturbation(share))
        expected = torch.nn.functional.cross_entropy(logits, batch.y, label_smoothing=float(share))
        torch.testing.assert_close(found, expected)
        assert loss({"outputs": logits}, told, Perturbation()) == loss({"outputs": logits}, told)


def test_targets_are_smoothed_over_the_classes_that_the_task_has():
    logits = torch.randn(2, 5, dtype=torch.float64)
    y = torch.tensor([[0, 1, 0, -1, -1], [1, 0, 0, -1, -1]])
    found = objective_of(given_outputs, Kind.classification, padded=True).loss(
        {"outputs": logits}, Batch(torch.zeros(2, 1), y), Perturbation(0.2)
    )
    expected = torch.nn.functional.cross_entropy(logits[:, :3], torch.tensor([1, 0]), label_smoothing=0.2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_layers_are_given_something_else_while_the_loss_is_perturbed_and_only_then(kind, padded):
    model = mlp(TaskSpec(kind, (3,), 4), [5])
    params = {name: torch.randn(shape) for name, shape in model.shapes.items()}
    y = torch.randn(6, 4) if kind is Kind.regression else torch.arange(6) % 4
    batch = Batch(torch.randn(6, 3), torch.nn.functional.one_hot(y, 4) if padded and y.dim() == 1 else y)
    loss = objective(model, kind, padded).loss
    plain = loss(params, batch)
    doubled = params | {"output.weight": 2 * params["output.weight"]}
    found = loss(params, batch, Perturbation(hidden={"output.weight": lambda x: 2 * x}))
    torch.testing.assert_close(found, loss(doubled, batch))
    assert found != plain
    assert loss(params, batch) == plain

    def fail(_):
        raise ValueError("in the middle of a pass")

    with pytest.raises(ValueError, match="in the middle"):
        loss(params, batch, Perturbation(hidden={"output.weight": fail}))
    assert loss(params, batch) == plain
