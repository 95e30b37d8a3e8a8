import pytest
import torch
import torch.nn.functional as F

from metaopt.models.mixed_activation import ACTIVATIONS
from metaopt.models.mlp import mlp
from metaopt.types import Kind, TaskSpec

TASK = TaskSpec(Kind.classification, (2, 3), 5)


def random_params(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in model.shapes.items()}


def test_parameters_are_named_and_shaped_in_the_order_of_the_forward_pass():
    assert list(mlp(TASK, [4, 7]).shapes.items()) == [
        ("hidden0.weight", (4, 6)),
        ("hidden0.bias", (4,)),
        ("hidden1.weight", (7, 4)),
        ("hidden1.bias", (7,)),
        ("output.weight", (5, 7)),
        ("output.bias", (5,)),
    ]
    assert list(mlp(TASK, []).shapes) == ["output.weight", "output.bias"]


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_it_is_linear_maps_with_activations_between(activation):
    model = mlp(TASK, [4], activation)
    params = random_params(model)
    x = torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(1))
    hidden = getattr(F if activation != "tanh" else torch, activation)(
        x.flatten(1) @ params["hidden0.weight"].T + params["hidden0.bias"]
    )
    torch.testing.assert_close(model.apply(params, x), hidden @ params["output.weight"].T + params["output.bias"])


def test_examples_do_not_see_each_other():
    model = mlp(TASK, [4])
    params, x = random_params(model), torch.randn(8, 2, 3)
    assert not model.transductive
    torch.testing.assert_close(model.apply(params, x)[:3], model.apply(params, x[:3]))


def test_the_spec_tells_models_apart():
    assert mlp(TASK, (4,)).spec == {"name": "mlp", "widths": [4], "activation": "relu"}
    assert mlp(TASK, (4,)).spec != mlp(TASK, (4,), "tanh").spec
