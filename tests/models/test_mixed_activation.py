import pytest
import torch

from metaopt.models.mixed_activation import ACTIVATIONS, SHARPNESS, activation_shares
from metaopt.models.mlp import mlp
from metaopt.models.roles import CHOICE
from metaopt.types import Kind, TaskSpec

TASK = TaskSpec(Kind.classification, (3,), 2)


def params_of(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in model.shapes.items()}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_all_the_weight_on_one_is_the_network_with_that_activation(name):
    mixture, plain = mlp(TASK, [5, 4], "mixture"), mlp(TASK, [5, 4], name)
    params, x = params_of(mixture), torch.randn(6, 3, dtype=torch.float64)
    params["activation0.logits"] = torch.tensor([60.0 * (other == name) for other in ACTIVATIONS]).double()
    expected = plain.apply({key: p for key, p in params.items() if key in plain.shapes}, x)
    torch.testing.assert_close(mixture.apply(params, x), expected)


def test_all_layers_share_the_weights_which_are_a_choice():
    model = mlp(TASK, [5, 4, 3], "mixture")
    assert [name for name, role in model.roles.items() if role == CHOICE] == ["activation0.logits"]
    others = {name: role for name, role in model.roles.items() if role != CHOICE}
    assert others == mlp(TASK, [5, 4, 3], "relu").roles


def test_the_weights_count_in_every_layer():
    model = mlp(TASK, [5, 4], "mixture")
    params, x = params_of(model), torch.randn(6, 3, dtype=torch.float64)
    seen = []
    handle = model.module.activation1.register_forward_hook(lambda _, given, out: seen.append((given[0], out)))
    model.apply(params, x)
    handle.remove()
    weights = torch.softmax(SHARPNESS * params["activation0.logits"], 0)
    assert len(seen) == 2
    for given, out in seen:
        expected = sum(w * kind()(given) for w, kind in zip(weights, ACTIVATIONS.values(), strict=True))
        torch.testing.assert_close(out, expected)


def test_equal_logits_are_equal_shares():
    assert activation_shares(torch.zeros(5)) == pytest.approx(dict.fromkeys(ACTIVATIONS, 0.2))


def test_without_a_hidden_layer_there_is_nothing_to_choose():
    assert CHOICE not in mlp(TASK, [], "mixture").roles.values()
