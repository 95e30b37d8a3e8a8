import functools

import pytest
import torch
from policy_helpers import HORIZON, INIT, SHAPES, fixed, learned, make_policy, normal, trained, tree

from metaopt.models.model import Moments
from metaopt.policies.meta_curvature import identities, matrix_key, modes, preconditioned
from metaopt.policies.policy import Policy
from metaopt.policies.rule import UpdateRule
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings

LEARNED_START = InitSettings("learned")
SHAPES_OF_ALL_KINDS = {
    "bias": torch.Size([4]),
    "linear.weight": torch.Size([4, 3]),
    "conv.weight": torch.Size([2, 3, 5, 4]),
    "pointwise.weight": torch.Size([2, 3, 1, 1]),
    "scalar": torch.Size([]),
}


def curvature(settings, name, mode):
    return settings.curvature[matrix_key(name, mode)]


def plain_gradient_as_the_step():
    return UpdateRule(lambda params: {}, lambda params, grads, state, step, loss=None: (grads, state))


def test_modes_of_a_kernel_are_one():
    assert {name: modes(shape) for name, shape in SHAPES_OF_ALL_KINDS.items()} == {
        "bias": (4,),
        "linear.weight": (4, 3),
        "conv.weight": (2, 3, 20),
        "pointwise.weight": (2, 3, 1),
        "scalar": (),
    }


def test_a_gradient_is_multiplied_with_the_kronecker_product_of_the_matrices():
    """Park & Oliva, 2019: vec(G') = (M_o ⊗ M_i ⊗ M_f) vec(G)."""
    generator = torch.Generator().manual_seed(0)
    matrices = {key: normal(m.shape, generator) for key, m in identities(SHAPES_OF_ALL_KINDS).items()}
    grads = {name: normal(shape, generator) for name, shape in SHAPES_OF_ALL_KINDS.items()}
    found, _ = preconditioned(plain_gradient_as_the_step(), matrices).update(grads, grads, {}, 0)
    assert torch.equal(found.pop("scalar"), grads["scalar"])
    for name, transformed in found.items():
        own = [matrices[matrix_key(name, mode)] for mode in range(len(modes(SHAPES_OF_ALL_KINDS[name])))]
        expected = functools.reduce(torch.kron, own) @ grads[name].flatten()
        assert transformed.shape == grads[name].shape
        torch.testing.assert_close(transformed.flatten(), expected, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize(
    "others",
    [
        {"lr": learned(), "init": LEARNED_START},
        {"lr": fixed(0.1), "init": LEARNED_START},
        {
            "lr": learned(0.1, "tensor"),
            "l2": learned(0.1),
            "pull": learned(0.2, "global"),
            "momentum": MomentumSettings("learned"),
            "schedule": "step_tensor",
        },
    ],
    ids=["meta_sgd", "maml", "everything"],
)
def test_with_identities_the_step_is_what_it_is_without(others):
    plain = make_policy(PolicySettings(**others))
    policy = Policy(PolicySettings(**others, preconditioner="curvature"), SHAPES, INIT, HORIZON).double()
    own = dict(plain.named_parameters())
    policy.load_state_dict({name: own.get(name, p) for name, p in policy.named_parameters()})
    ends = []
    for each in (plain, policy):
        start, rule, _ = each(tree(0))
        ends.append(trained(rule, start, HORIZON)[-1])
    for name in SHAPES:
        assert torch.equal(ends[0][name], ends[1][name]), name


def test_only_the_gradient_of_the_loss_is_transformed_and_not_the_regularisation():
    settings = PolicySettings(lr=fixed(0.1), l2=fixed(0.3), preconditioner="curvature")
    policy = make_policy(settings)
    params, grads = tree(1), tree(2)
    _, rule, _ = policy(tree(0))
    found, _ = rule.update(params, grads, rule.init(params), 0)
    for name in ("hidden.weight", "hidden.bias"):
        matrix = curvature(policy, name, 0)
        g = matrix @ grads[name]
        if name == "hidden.weight":
            g = g @ curvature(policy, name, 1).T
        torch.testing.assert_close(found[name], params[name] - 0.1 * (g + 0.3 * params[name]))


def test_there_is_a_matrix_for_each_mode_and_the_initialisation_stays_last():
    policy = make_policy(PolicySettings(lr=learned(), init=LEARNED_START, preconditioner="curvature"))
    found = {name: tuple(p.shape) for name, p in policy.named_parameters()}
    assert {name: shape for name, shape in found.items() if name.startswith("curvature.")} == {
        "curvature.hidden/weight/0": (4, 4),
        "curvature.hidden/weight/1": (3, 3),
        "curvature.hidden/bias/0": (4, 4),
        "curvature.norm/weight/0": (4, 4),
    }
    belongs = [name.startswith("init.") for name in found]
    assert belongs == sorted(belongs)
    assert policy.settings.learned() == {"lr", "init", "curvature"}


def test_matrices_begin_as_identities():
    shapes = {"conv.weight": torch.Size([2, 3, 2, 2])}
    policy = Policy(
        PolicySettings(lr=fixed(0.1), preconditioner="curvature"), shapes, {"conv.weight": Moments(0.0, 1.0)}, 1
    )
    for mode, size in enumerate((2, 3, 4)):
        assert torch.equal(curvature(policy, "conv.weight", mode), torch.eye(size))
