import pytest

from metaopt.models.conv4 import conv4
from metaopt.models.mlp import mlp
from metaopt.models.roles import ROLES
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


@pytest.mark.parametrize("model", [mlp(TASK), conv4(TASK, 4)], ids=["mlp", "conv4"])
def test_every_tensor_has_a_role(model):
    assert list(model.roles) == list(model.shapes)
    assert set(model.roles.values()) <= set(ROLES)
