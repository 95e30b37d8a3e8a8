import pytest

from metaopt.models.conv4 import conv4
from metaopt.models.linear import linear
from metaopt.models.mlp import mlp
from metaopt.models.resnet import resnet
from metaopt.models.roles import ROLES
from metaopt.models.transformer import transformer
from metaopt.types import Kind, TaskSpec

TASK = TaskSpec(Kind.classification, (1, 16, 16), 3)


@pytest.mark.parametrize(
    ("widths", "positions"),
    [([], ["last"]), ([4], ["first", "last"]), ([4, 4, 4], ["first", "hidden", "hidden", "last"])],
)
def test_layers_of_an_mlp_are_first_hidden_and_last(widths, positions):
    expected = [f"{position}.{part}" for position in positions for part in ("weight", "bias")]
    assert list(mlp(TASK, widths).roles.values()) == expected


def test_a_normalisation_stands_where_the_layer_before_it_stands():
    roles = conv4(TASK, 4, "layer").roles
    assert {role for name, role in roles.items() if name.startswith("norm0")} == {"first.norm"}
    assert {role for name, role in roles.items() if name.startswith("norm3")} == {"hidden.norm"}
    assert (roles["conv0.weight"], roles["conv0.bias"], roles["conv3.weight"]) == (
        "first.weight",
        "first.bias",
        "hidden.weight",
    )
    assert roles["output.weight"] == "last.weight"


def test_a_residual_network_begins_with_its_first_convolution():
    roles = resnet(TASK, [2, 4], norm="layer").roles
    assert {name for name, role in roles.items() if role.startswith("first")} == {
        "conv.weight",
        "conv.bias",
        "norm.weight",
        "norm.bias",
    }
    assert {name for name, role in roles.items() if role.startswith("last")} == {"output.weight", "output.bias"}
    assert roles["stage1.block0.shortcut.conv.weight"] == "hidden.weight"
    assert roles["stage1.block0.shortcut.norm.bias"] == roles["stage1.block0.body.norm0.weight"] == "hidden.norm"


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize(("shape", "vocabulary"), [((6,), None), ((6,), 5), ((6, 3), None), ((1, 16, 16), None)])
def test_a_transformer_begins_with_its_embedding_whatever_its_tokens(shape, vocabulary, positions):
    task = TaskSpec(Kind.classification, shape, 3, vocabulary=vocabulary)
    roles = transformer(task, 8, 2, 2, positions=positions).roles
    first = {name: role for name, role in roles.items() if role.startswith("first") and "norm0" not in name}
    bias = {} if vocabulary and not positions else {"embedding.bias": "first.bias"}
    assert first == {"embedding.weight": "first.weight"} | bias
    assert roles["blocks.0.attention.query.weight"] == roles["blocks.1.down.weight"] == "hidden.weight"
    assert roles["blocks.1.norm0.bias"] == roles["norm.weight"] == "hidden.norm"
    assert {name for name, role in roles.items() if role.startswith("last")} == {"output.weight", "output.bias"}


MODELS = {"mlp": mlp, "linear": linear, "conv4": conv4, "resnet": resnet, "transformer": transformer}


@pytest.mark.parametrize("model", [build(TASK) for build in MODELS.values()], ids=MODELS)
def test_every_tensor_has_a_role(model):
    assert list(model.roles) == list(model.shapes)
    assert set(model.roles.values()) <= set(ROLES)
