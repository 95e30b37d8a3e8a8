import pytest
import torch
from outer_problems import SETTINGS, make_problem, short

from metaopt.inner.program import Program
from metaopt.outer.flat import flatten
from metaopt.outer.state import new_state
from metaopt.policies.policy import Policy
from metaopt.policies.settings import PolicySettings, StrengthSettings


def make_policy(settings=SETTINGS, seed=0):
    problem = make_problem(settings)
    generator = torch.Generator().manual_seed(seed)
    return Policy(settings, problem.model.shapes, problem.model.init, problem.horizon, generator)


def is_start(name):
    return name.startswith("init.")


def copied(policy):
    return {name: p.detach().clone() for name, p in policy.named_parameters()}


def test_values_names_and_shapes_stay():
    policy = make_policy()
    before, objects = copied(policy), list(policy.parameters())
    flatten(policy, is_start)
    for (name, now), (expected_name, expected) in zip(policy.named_parameters(), before.items(), strict=True):
        assert name == expected_name
        assert now.shape == expected.shape
        assert torch.equal(now, expected), name
        assert now.requires_grad
        assert now.is_leaf
    assert all(now is then for now, then in zip(policy.parameters(), objects, strict=True))


def test_the_vectors_hold_all_numbers_in_order():
    policy = make_policy()
    rest, start = flatten(policy, is_start)
    numbers = torch.cat([p.detach().flatten() for p in policy.parameters()])
    assert torch.equal(torch.cat([rest.vector, start.vector]), numbers)
    for group in (rest, start):
        assert torch.equal(group.vector, numbers[group.part])
        assert group.vector.is_leaf
        assert group.vector.requires_grad
    starts = sum(p.numel() for name, p in policy.named_parameters() if is_start(name))
    assert start.vector.numel() == starts > 0


def test_moving_the_vectors_moves_the_parameters():
    policy = make_policy()
    before = copied(policy)
    rest, start = flatten(policy, is_start)
    with torch.no_grad():
        rest.vector.add_(1)
        start.vector.mul_(2)
    for name, p in policy.named_parameters():
        expected = 2 * before[name] if is_start(name) else before[name] + 1
        assert torch.equal(p, expected), name


def test_parameters_that_are_loaded_are_written_through_to_the_vectors():
    policy = make_policy()
    rest, start = flatten(policy, is_start)
    other = copied(make_policy(seed=1))
    other = {name: value + 0.5 for name, value in other.items()}
    policy.load_state_dict(other)
    numbers = torch.cat([value.flatten() for value in other.values()])
    assert torch.equal(torch.cat([rest.vector, start.vector]).detach(), numbers)


@pytest.mark.parametrize(("belongs", "empty"), [(lambda name: False, 1), (lambda name: True, 0)])
def test_a_group_may_be_empty(belongs, empty):
    policy = make_policy()
    groups = flatten(policy, belongs)
    assert groups[empty].vector.numel() == 0
    assert groups[1 - empty].vector.numel() == sum(p.numel() for p in policy.parameters())
    assert groups[1 - empty].part == slice(0, groups[1 - empty].vector.numel())


def test_a_policy_of_one_number_has_a_vector_of_its_own():
    policy = make_policy(PolicySettings(lr=StrengthSettings("learned", 0.1, "global")))
    (before,) = copied(policy).values()
    (group, _) = flatten(policy, is_start)
    with torch.no_grad():
        group.vector.add_(1)
    (after,) = policy.parameters()
    assert after.shape == before.shape == ()
    assert after == before + 1


def test_double_precision_stays():
    policy = make_policy().double()
    rest, start = flatten(policy, is_start)
    assert rest.vector.dtype == start.vector.dtype == torch.float64


@pytest.mark.parametrize("init_lr", [None, 0.02, 0.001])
def test_the_optimizer_of_a_run_moves_the_policy_at_the_rates_of_its_groups(init_lr):
    settings = short(lr=0.02, init_lr=init_lr)
    state = new_state(make_policy(), settings, torch.Generator())
    before = copied(state.policy)
    groups = state.optimizer.param_groups
    numbers = sum(p.numel() for p in state.policy.parameters())
    assert [i for group in groups for i in range(*group["part"])] == list(range(numbers))
    for group in groups:
        group["params"][0].grad = torch.ones_like(group["params"][0])
    state.optimizer.step()
    for name, p in state.policy.named_parameters():
        rate = 0.001 if is_start(name) and init_lr == 0.001 else 0.02
        torch.testing.assert_close(before[name] - p.detach(), torch.full(p.shape, rate), rtol=1e-3, atol=1e-6)


def test_a_program_reads_the_vector_and_notices_when_the_parameters_have_left_it():
    problem, policy = make_problem(), make_policy()
    rest, _ = flatten(policy, is_start)
    program = Program(policy, problem.objective)
    with torch.no_grad():
        rest.vector.add_(1)
    expected = torch.cat([p.detach().flatten() for p in policy.parameters()])
    assert program.hyper_vector().data_ptr() == rest.vector.data_ptr(), "copied for nothing"
    assert torch.equal(program.hyper_vector(), expected)
    policy.double()
    assert program.hyper_vector().dtype == torch.float64
    assert torch.equal(program.hyper_vector(), expected.double())
