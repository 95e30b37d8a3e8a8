import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from outer_problems import HORIZON, Slopes, ignore, parameters, short

from metaopt.errors import ConfigError
from metaopt.inner.hypergradient import Hypergradients
from metaopt.inner.reverse import Reverse
from metaopt.models.mlp import mlp
from metaopt.models.objective import objective
from metaopt.outer.loop import Validation, differentiate, meta_train, outer_step, sample
from metaopt.outer.mixture import Mixture, Part, counts_of, parts_of
from metaopt.outer.problem import InnerProblem
from metaopt.outer.state import new_state
from metaopt.policies.policy import Policy
from metaopt.policies.settings import MomentumSettings, PolicySettings, StrengthSettings
from metaopt.tasks.images.digits import Digits
from metaopt.types import Kind

ROLES = PolicySettings(
    lr=StrengthSettings("learned", 0.05, "role"), momentum=MomentumSettings("learned", 0.5), schedule="step"
)


def problem_of(family, widths):
    model = mlp(family.spec, widths, "tanh")
    return InnerProblem(family, model, objective(model, family.spec.kind), HORIZON, 4, Reverse(), chunk=8)


@pytest.fixture
def mixture():
    """Regression with a shallow network, and classification with a deeper one."""
    parts = {"slopes": problem_of(Slopes(), [3]), "digits": problem_of(Digits(3, 4, 4, 4), [5, 4])}
    return Mixture(parts, {"slopes": 1.0, "digits": 2.0})


def state_of(mixture, settings):
    first = mixture.parts["slopes"]
    roles = [role for part in mixture.parts.values() for role in part.model.roles.values()]
    policy = Policy(ROLES, first.model.shapes, first.model.init, HORIZON, None, first.model.roles, roles)
    return new_state(policy, settings, torch.Generator().manual_seed(1))


def validations_of(mixture):
    generator = torch.Generator().manual_seed(9)
    return [Validation(*sample(part, "meta_validation", 3, generator)) for part in mixture.parts.values()]


def test_one_policy_learns_from_all_parts(mixture):
    settings, records = short(meta_batch=6), []
    state = state_of(mixture, settings)
    before = parameters(state)
    assert meta_train(mixture, settings, state, validations_of(mixture), records.append, ignore)
    after = parameters(state)
    assert {"log_strengths.lr.hidden/weight", "log_strengths.lr.first/weight"} < set(after), "one has no hidden layer"
    assert all(not torch.equal(after[name], before[name]) for name in after if not name.endswith("norm"))
    validation = [r for r in records if r["kind"] == "meta_validation"][-1]
    assert validation["loss"] == pytest.approx((validation["loss_slopes"] + validation["loss_digits"]) / 2)
    assert 0 <= validation["accuracy"] <= 1, "of those that have one"


def test_the_step_goes_along_the_mean_over_the_tasks_of_all_parts(mixture, monkeypatch):
    settings = short(meta_batch=6, clip=None)
    state, moved = state_of(mixture, settings), []
    monkeypatch.setattr("metaopt.outer.loop.apply_gradient", lambda _, gradient: moved.append(gradient))
    generator = torch.Generator().manual_seed(3)
    found = [differentiate(part, n, generator) for part, n in zip(parts_of(mixture, state.policy), (2, 4), strict=True)]
    outer_step(state, settings, found)
    torch.testing.assert_close(moved[0], sum(part.flat.sum(0) for part in found) / 6)


def test_a_task_that_went_wrong_leaves_the_other_parts_alone(mixture, monkeypatch):
    settings = short(meta_batch=6, clip=None)
    state, moved = state_of(mixture, settings), []
    monkeypatch.setattr("metaopt.outer.loop.apply_gradient", lambda _, gradient: moved.append(gradient))
    parts = parts_of(mixture, state.policy)
    good = differentiate(parts[0], 2, torch.Generator().manual_seed(3))
    size = good.flat.shape[1]
    bad = Hypergradients(torch.ones(2, size), good.layout, torch.tensor([1.0, torch.nan]), *[torch.ones(2)] * 2)
    record = outer_step(state, settings, [good, bad])
    torch.testing.assert_close(moved[0], (good.flat.sum(0) + 1) / 3)
    assert record["dropped"] == 1


def test_parts_share_their_parameters_and_have_models_of_their_own(mixture):
    state = state_of(mixture, short())
    parts = parts_of(mixture, state.policy)
    assert [part.name for part in parts] == ["slopes", "digits"]
    assert [
        len(part.policy.start({n: torch.zeros(s) for n, s in part.problem.model.shapes.items()})) for part in parts
    ] == [
        4,
        6,
    ]
    for part in parts:
        assert all(a is b for a, b in zip(part.policy.parameters(), state.policy.parameters(), strict=True))
        assert part.policy.vector is state.policy.vector


def test_a_single_problem_is_its_own_only_part(mixture):
    problem = mixture.parts["slopes"]
    policy = state_of(mixture, short()).policy
    assert parts_of(problem, policy) == [Part("", problem, policy)]
    assert counts_of(problem, 7) == [7]


@hypothesis.given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6), n=st.integers(6, 200))
def test_tasks_are_divided_by_weight_and_every_part_has_one(mixture_counts, weights, n):
    counts = mixture_counts(weights, n)
    assert sum(counts) == n
    assert min(counts) >= 1
    exact = [n * w / sum(weights) for w in weights]
    if min(exact) >= 1:
        assert max(abs(c - e) for c, e in zip(counts, exact, strict=True)) < 1


@pytest.fixture(scope="module")
def mixture_counts():
    problem = problem_of(Slopes(), [3])

    def counts(weights, n):
        names = [str(i) for i in range(len(weights))]
        return counts_of(Mixture(dict.fromkeys(names, problem), dict(zip(names, weights, strict=True))), n)

    return counts


def test_too_few_tasks_for_the_parts_are_an_error(mixture):
    with pytest.raises(ConfigError, match="1 tasks cannot be divided among the 2 parts"):
        mixture.counts(1)


def test_kinds_differ(mixture):
    assert {part.family.spec.kind for part in mixture.parts.values()} == set(Kind)
