import pytest
import torch

from metaopt.errors import ConfigError
from metaopt.models.linear import linear
from metaopt.models.objective import objective
from metaopt.types import Batch, Kind, TaskSpec


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def newton(task, batch, l2, steps):
    """Trains with a penalty l2/2 · |θ|² until nothing changes."""
    model = linear(task)
    loss = objective(model, task.kind).loss
    sizes = [shape.numel() for shape in model.shapes.values()]

    def penalised(flat):
        parts = flat.split(sizes)
        params = {name: part.view(shape) for (name, shape), part in zip(model.shapes.items(), parts, strict=True)}
        return loss(params, batch) + l2 / 2 * flat.square().sum()

    gradient = torch.func.grad(penalised)
    flat = torch.zeros(sum(sizes), dtype=torch.float64)
    for _ in range(steps):
        flat = flat - torch.linalg.solve(torch.func.jacrev(gradient)(flat), gradient(flat))
    return flat


def test_on_regression_it_is_ridge_regression():
    task = TaskSpec(Kind.regression, (2, 3), 1)
    x, y = normal(20, 2, 3), normal(20, 1, seed=1)
    design = torch.cat([x.flatten(1), torch.ones(20, 1, dtype=torch.float64)], 1)
    gram = 2 * design.T @ design / 20 + 0.1 * torch.eye(7, dtype=torch.float64)
    expected = torch.linalg.solve(gram, 2 * design.T @ y / 20).flatten()
    torch.testing.assert_close(newton(task, Batch(x, y), 0.1, 1), expected)


def test_on_classification_it_is_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    x, y = normal(30, 4), torch.arange(30) % 3
    # scikit-learn sums the losses and leaves the intercepts out of the penalty: these get none from a column of ones.
    ones = torch.cat([x, torch.ones(30, 1, dtype=torch.float64)], 1)
    other = LogisticRegression(C=1 / (30 * 0.1), fit_intercept=False, tol=1e-10, max_iter=10_000).fit(ones, y)
    found = newton(TaskSpec(Kind.classification, (4,), 3), Batch(x, y), 0.1, 10)
    expected = torch.from_numpy(other.coef_)
    torch.testing.assert_close(found, torch.cat([expected[:, :4].flatten(), expected[:, 4]]), rtol=1e-4, atol=1e-5)


def test_it_has_one_layer_which_a_padded_table_may_meet():
    model = linear(TaskSpec(Kind.classification, (2, 3), 5))
    assert list(model.shapes.items()) == [("output.weight", (5, 6)), ("output.bias", (5,))]
    assert model.roles == {"output.weight": "last.weight", "output.bias": "last.bias"}
    assert model.input_layer == ("output.weight", "output.bias")
    assert model.spec == {"name": "linear"}


def test_words_are_refused():
    with pytest.raises(ConfigError, match=r"model=linear takes numbers.*11 words.*model=transformer"):
        linear(TaskSpec(Kind.classification, (4,), 3, vocabulary=11))
