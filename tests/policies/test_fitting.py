import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from policy_helpers import HORIZON, learned

from metaopt.errors import PolicyFileError
from metaopt.models.conv4 import conv4
from metaopt.models.mlp import mlp
from metaopt.policies.file import PolicyCard
from metaopt.policies.fitting import fit_policy
from metaopt.policies.policy import Policy
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings
from metaopt.types import Kind, TaskSpec

TASK = TaskSpec(Kind.classification, (1, 4, 4), 3)
MODEL = mlp(TASK, [4, 5])


def settings(granularity, schedule, init=None):
    return PolicySettings(
        lr=learned(0.1, granularity),
        l2=learned(0.01, granularity),
        momentum=MomentumSettings("learned"),
        schedule=schedule,
        init=init or InitSettings("scaled", granularity),
    )


ROLE, TENSOR, ELEMENT = settings("role", "step_role"), settings("tensor", "step_tensor"), settings("element", "step")


def trained(chosen, model=MODEL):
    """The tensors and the card of a policy that has learned something else for everything."""
    policy = Policy(chosen, model.shapes, model.init, HORIZON, torch.Generator().manual_seed(1), model.roles)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(torch.randn(p.shape, generator=generator))
    card = PolicyCard(
        chosen, HORIZON, model.spec, {n: tuple(s) for n, s in model.shapes.items()}, "digits", "0", {}, model.roles
    )
    return {name: p.detach() for name, p in policy.named_parameters()}, card, policy


def fitted(chosen, model):
    tensors, card, policy = trained(chosen)
    return policy, *fit_policy(tensors, card, model, Path("p.safetensors"))


def mean_of(values):
    return math.exp(torch.cat([v.detach().log().reshape(-1) for v in values]).mean())


OTHERS = [mlp(TASK, [9, 7, 8, 6]), mlp(TaskSpec(Kind.regression, (20,), 1), [4, 5]), mlp(TASK, [4, 6])]


@pytest.mark.parametrize("chosen", [ROLE, TENSOR, ELEMENT], ids=["role", "tensor", "element"])
def test_its_own_model_gets_everything_back_and_no_note(chosen):
    before, policy, note = fitted(chosen, mlp(TASK, [4, 5]))
    assert note == ""
    assert {n: p.tolist() for n, p in policy.named_parameters()} == {
        n: p.tolist() for n, p in before.named_parameters()
    }


@pytest.mark.parametrize("model", [*OTHERS, mlp(TASK, [3]), mlp(TASK, [])], ids=lambda model: str(model.spec["widths"]))
def test_values_of_roles_go_to_every_tensor_of_the_role(model):
    before, policy, note = fitted(ROLE, model)
    for quantity in ("lr", "l2", "init_std"):
        values, own = policy.strength(quantity), before.strength(quantity)
        for name, role in model.roles.items():
            assert values[name] == own[next(n for n, r in MODEL.roles.items() if r == role)], (quantity, name)
    for name, factors in policy.schedule().items():
        of_role = next(n for n, r in MODEL.roles.items() if r == model.roles[name])
        assert torch.equal(factors, before.schedule()[of_role])
    assert policy.momentum() == before.momentum()
    assert "learned for roles or for all tensors" in note


@pytest.mark.parametrize("chosen", [TENSOR, ELEMENT], ids=["tensor", "element"])
@pytest.mark.parametrize("model", OTHERS, ids=lambda model: str(model.spec["widths"]))
def test_other_values_go_by_name_and_shape_else_by_the_mean_of_their_role(chosen, model):
    before, policy, note = fitted(chosen, model)
    foreign = [name for name, shape in model.shapes.items() if MODEL.shapes.get(name) != shape]
    assert foreign
    for quantity in ("lr", "l2"):
        values, own = policy.strength(quantity), before.strength(quantity)
        for name, role in model.roles.items():
            if name in foreign:
                expected = mean_of([own[n] for n, r in MODEL.roles.items() if r == role])
                assert values[name].detach().unique().tolist() == [pytest.approx(expected)], (quantity, name)
            else:
                assert torch.equal(values[name], own[name]), (quantity, name)
    assert "by role" in note
    assert all(name in note for name in foreign) or f"{len(foreign)} of {len(model.shapes)}" in note


def test_a_schedule_for_each_tensor_keeps_its_steps_apart():
    before, policy, _ = fitted(TENSOR, mlp(TASK, [9, 9, 9]))
    own = before.schedule()
    torch.testing.assert_close(policy.schedule()["hidden2.weight"], own["hidden1.weight"])
    torch.testing.assert_close(policy.schedule()["hidden0.weight"], own["hidden0.weight"])
    assert len(own["hidden0.weight"].unique()) == HORIZON


@pytest.mark.parametrize("chosen", [ROLE, TENSOR, ELEMENT], ids=["role", "tensor", "element"])
def test_a_role_that_the_policy_has_not_met_is_refused_by_name(chosen):
    with pytest.raises(PolicyFileError, match=r"nothing for 'first\.norm'|nothing for 'norm0\.bias', in the role") as e:
        fitted(chosen, conv4(TASK, 4))
    assert "p.safetensors" in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("model", OTHERS, ids=lambda model: str(model.spec["widths"]))
def test_a_learned_initialisation_fits_no_other_model(model):
    with pytest.raises(PolicyFileError, match=r"learned where training starts.*'\w+\.weight' should be of shape"):
        fitted(settings("role", "off", InitSettings("learned")), model)


def test_matrices_for_the_gradients_fit_no_other_model():
    chosen = replace(ROLE, preconditioner="curvature")
    assert not chosen.fits_any_model()
    with pytest.raises(PolicyFileError, match=r"learned matrices for the gradients.*'\w+\.weight' should be of shape"):
        fitted(chosen, mlp(TASK, [9]))


def test_a_policy_with_more_roles_than_its_model_keeps_them():
    tensors, card, before = trained(ROLE)
    policy, _ = fit_policy(tensors, card, mlp(TASK, [9]), Path("p"))
    assert set(dict(policy.named_parameters())) == set(tensors)
    again = policy.on(mlp(TASK, [3, 3, 3]))
    assert again.strength("lr")["hidden2.bias"] == before.strength("lr")["hidden1.bias"]
    assert dict(again.named_parameters()).keys() == tensors.keys()
    assert all(a is b for a, b in zip(again.parameters(), policy.parameters(), strict=True))
