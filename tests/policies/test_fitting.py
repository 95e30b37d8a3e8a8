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
def test_norms_that_the_policy_has_not_met_are_biases_to_it(chosen):
    model = conv4(TASK, 4)
    before, policy, note = fitted(chosen, model)
    norms = [name for name, role in model.roles.items() if role.endswith("norm")]
    assert len(norms) == 8
    assert f"stepped as biases: {', '.join(norms[:4])} and 4 more" in note
    for quantity in ("lr", "l2"):
        found = policy.strength(quantity)
        for name in norms:
            position = model.roles[name].split(".")[0]
            own = {"first": "hidden0.bias", "hidden": "hidden1.bias", "last": "output.bias"}[position]
            torch.testing.assert_close(found[name].log().mean(), before.strength(quantity)[own].log().mean())


@pytest.mark.parametrize("chosen", [ROLE, TENSOR, ELEMENT], ids=["role", "tensor", "element"])
def test_tensors_of_roles_that_the_policy_has_not_met_are_refused_with_all_their_names(chosen):
    tensors, card, _ = trained(chosen, mlp(TASK, []))
    model = mlp(TASK, [4, 5])
    with pytest.raises(PolicyFileError) as caught:
        fit_policy(tensors, card, model, Path("p.safetensors"))
    text = str(caught.value)
    unknown = [f"'{name}' (role {role})" for name, role in model.roles.items() if role.startswith(("first", "hidden"))]
    assert f"has nothing for {', '.join(unknown)};" in text
    assert text.count("(role ") == len(unknown) == 4
    assert "p.safetensors" in text
    assert "\n" not in text


def test_many_unknown_tensors_are_counted():
    chosen = settings("tensor", "off")
    tensors, card, _ = trained(chosen, mlp(TASK, [4]))
    with pytest.raises(PolicyFileError) as caught:
        fit_policy(tensors, card, mlp(TASK, [4] * 11), Path("p.safetensors"))
    text = str(caught.value)
    assert "nothing for 'hidden1.weight' (role hidden.weight), 'hidden1.bias' (role hidden.bias), 'hidden2" in text
    assert "'hidden4.bias' (role hidden.bias) and 12 more; the policy was meta-trained on mlp(" in text
    assert text.count("(role ") == 8


@pytest.mark.parametrize("model", OTHERS, ids=lambda model: str(model.spec["widths"]))
def test_a_learned_initialisation_fits_no_other_model(model):
    with pytest.raises(PolicyFileError, match=r"learned where training starts.*'\w+\.weight' should be of shape") as e:
        fitted(settings("role", "off", InitSettings("learned")), model)
    foreign = [name for name, shape in model.shapes.items() if MODEL.shapes.get(name) != shape]
    missing = [name for name in MODEL.shapes if name not in model.shapes]
    assert all(f"'{name}' should be" in str(e.value) for name in (foreign + missing)[:8])
    assert (" more; " in str(e.value)) == (len(foreign + missing) > 8)


def test_matrices_for_the_gradients_fit_no_other_model():
    chosen = replace(ROLE, preconditioner="curvature")
    assert not chosen.fits_any_model()
    with pytest.raises(PolicyFileError, match=r"learned matrices for the gradients.*'\w+\.weight' should be of shape"):
        fitted(chosen, mlp(TASK, [9]))


@pytest.mark.parametrize("model", [MODEL, mlp(TASK, [9, 7])], ids=["own", "other"])
def test_a_policy_shares_no_numbers_with_the_file_or_another_policy(model):
    for chosen in (ROLE, TENSOR, ELEMENT):
        tensors, card, _ = trained(chosen)
        tensors = {name: t.mT.contiguous().mT if t.dim() == 2 else t for name, t in tensors.items()}
        before = {name: t.clone() for name, t in tensors.items()}
        first, second = (fit_policy(tensors, card, model, Path("p")).policy for _ in range(2))
        own = {name: p.detach().clone() for name, p in second.named_parameters()}
        with torch.no_grad():
            for p in first.parameters():
                assert p.is_leaf
                assert p.requires_grad
                assert p.is_contiguous()
                assert p.untyped_storage().nbytes() == p.numel() * p.element_size()
                p.view(-1)[:1] += 1  # of what is expanded, all would change
        assert all(torch.equal(t, before[name]) for name, t in tensors.items())
        assert all(torch.equal(p, own[name]) for name, p in second.named_parameters())
        changed = zip(first.parameters(), second.parameters(), strict=True)
        assert all((a != b).sum() == 1 for a, b in changed)


def test_settings_that_do_not_suit_the_model_are_refused_as_everything_else():
    tensors, card, _ = trained(replace(ROLE, dropout=learned(0.1, "role")))
    with pytest.raises(PolicyFileError, match=r"p\.safetensors does not fit mlp\(.*policy\.dropout\.mode is learned"):
        fit_policy(tensors, card, mlp(TASK, []), Path("p.safetensors"))


def test_a_damaged_file_is_no_policy_for_another_model_either():
    tensors, card, _ = trained(TENSOR)
    other = mlp(TASK, [9, 9])
    path = Path("p.safetensors")
    assert fit_policy(tensors, card, other, path).policy
    for name, damaged, words in (
        ("momentum_logit", None, "'momentum_logit' should be of shape .* but is absent"),
        ("momentum_logit", torch.zeros(2), r"'momentum_logit' should be of shape \(\) but is of shape \(2,\)"),
        ("log_schedule.hidden0/weight", torch.zeros(HORIZON + 1), "log_schedule.* should be of shape"),
        ("log_strengths.lr.hidden0/weight", torch.tensor(torch.inf), "no finite floats"),
        (
            "log_strengths.lr.hidden0/weight",
            torch.zeros(2, dtype=torch.int64),
            "no finite floats",
        ),  # which have no mean
        ("log_strengths.lr.hidden0/weight", torch.zeros(0), "no finite floats"),  # whose mean is NaN
        ("log_strengths.lr.hidden0/weight", torch.full((2,), 3e38), "no finite floats"),  # whose sum is infinite
    ):
        changed = {key: value for key, value in (tensors | {name: damaged}).items() if value is not None}
        with pytest.raises(PolicyFileError, match=f"is damaged: .*{words}"):
            fit_policy(changed, card, other, path)


def test_schedules_that_would_fill_the_memory_when_they_are_interpolated_are_refused():
    chosen = replace(ROLE, schedule_knots=1000)
    tensors, card, _ = trained(chosen)
    fit_policy(tensors, card, MODEL, Path("p"))
    with pytest.raises(PolicyFileError, match="1000 factors for 1000000 steps, 6000000000 numbers for 6 of them"):
        fit_policy(tensors, replace(card, horizon=10**6), MODEL, Path("p"))


def test_a_policy_with_more_roles_than_its_model_keeps_them():
    tensors, card, before = trained(ROLE)
    policy, _ = fit_policy(tensors, card, mlp(TASK, [9]), Path("p"))
    assert set(dict(policy.named_parameters())) == set(tensors)
    again = policy.on(mlp(TASK, [3, 3, 3]))
    assert again.strength("lr")["hidden2.bias"] == before.strength("lr")["hidden1.bias"]
    assert dict(again.named_parameters()).keys() == tensors.keys()
    assert all(a is b for a, b in zip(again.parameters(), policy.parameters(), strict=True))
