from dataclasses import replace

import pytest
import torch
from search_helpers import (
    ADAPTIVE,
    BATCH,
    BY_ROLE,
    EVERYTHING,
    GLOBAL,
    HORIZON,
    MAML,
    PADDED,
    SUPPORT,
    USUAL,
    classification,
    fixed,
    learned,
    make_draws,
    make_setting,
    padded,
)

from metaopt.errors import ConfigError
from metaopt.inner.adapt import adapt
from metaopt.inner.draws import take_draws
from metaopt.inner.padding import fit_to_width
from metaopt.policies.baselines import DECAYS, RuleSettings, decay_factors
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings, StrengthSettings
from metaopt.search.bench import Bench, Request
from metaopt.search.mapping import IN_FULL, KEPT, MULTIPLIERS, check_multiplied, closest_setting, policy_space
from metaopt.search.space import DIMENSIONS
from metaopt.trees import take_tasks

CURVATURE = PolicySettings(lr=learned(0.05, "tensor"), preconditioner="curvature")
REGULARISED = PolicySettings(
    lr=learned(0.05, "tensor"),
    label_smoothing=StrengthSettings("learned", 0.1),
    dropout=learned(0.3, "tensor"),
    input_noise=fixed(0.2),
)
POLICIES = {
    "global": GLOBAL,
    "everything": EVERYTHING,
    "role": BY_ROLE,
    "second_moment": ADAPTIVE,
    "maml": MAML,
    "curvature": CURVATURE,
    "regularised": REGULARISED,
}
by_policy = pytest.mark.parametrize("settings", POLICIES.values(), ids=POLICIES)


def space_of(setting, n_support=SUPPORT, dimensions=DIMENSIONS):
    return policy_space(setting.policy, dimensions, n_support, setting.batch_size, setting.model.spec)


@by_policy
@pytest.mark.parametrize("batch_size", [8, BATCH, None])
@pytest.mark.parametrize("widths", [(16,), (8,), (16, 8), (32, 32)], ids=str)
def test_the_first_point_is_the_policy_itself(settings, batch_size, widths):
    setting = make_setting(settings, batch_size=batch_size, widths=widths)
    tasks = classification()
    draws = make_draws(setting, tasks)
    space, _ = space_of(setting)
    point = space.first[0]
    assert set(point) == set(space.distributions)
    for name, value in point.items():
        assert space.distributions[name]._contains(space.distributions[name].to_internal_repr(value))
    requests = [Request(i, space.candidate(point, HORIZON)) for i in range(3)]
    results = Bench(setting, tasks, draws).run(requests, lambda *_: True)
    for on in ("query", "test"):
        own = adapt(setting.policy, setting.objective(setting.model), tasks, draws, HORIZON, on=on).loss[:, -1]
        found = [result.value if on == "query" else result.test[0] for result in results]
        assert found == pytest.approx(own.tolist(), rel=5e-5)


def test_the_first_point_is_the_policy_itself_on_padded_tasks():
    setting = make_setting(BY_ROLE, spec=PADDED)
    tasks = padded()
    draws = make_draws(setting, tasks)
    space, _ = space_of(setting)
    requests = [Request(i, space.candidate(space.first[0], HORIZON)) for i in range(4)]
    results = Bench(setting, tasks, draws).run(requests, lambda *_: True)
    filled, fitted = fit_to_width(tasks, draws, setting.model.input_layer)
    own = adapt(setting.policy, setting.objective(setting.model), filled, fitted, HORIZON).loss[:, -1]
    assert [result.test[0] for result in results] == pytest.approx(own.tolist(), rel=1e-6)


@pytest.mark.parametrize("settings", [EVERYTHING, replace(EVERYTHING, lr=fixed(0.1), l2=fixed(0.01), pull=fixed(0.1))])
def test_multipliers_multiply(settings):
    """Against the closed form of one step."""
    policy = make_setting(settings, dtype=torch.float64).policy
    chosen = {"lr": 2.0, "l2": 3.0, "pull": 5.0, "init_std": 1.5}
    factors = {name: torch.tensor(value).double() for name, value in chosen.items()}
    generator = torch.Generator().manual_seed(0)
    noise, params, grads = (
        {name: torch.randn(shape, generator=generator).double() for name, shape in policy.shapes.items()}
        for _ in range(3)
    )
    values = policy.scaled(factors)
    start, rule = policy.start(noise, values), policy.rule(noise, values)
    found, _ = rule.update(params, grads, rule.init(params), 0)
    lr, l2, pull, ratio = (policy.strength(name) for name in ("lr", "l2", "pull", "init_std"))
    for name, p in params.items():
        anchor = policy.moments[name].std * 1.5 * ratio[name] * noise[name]
        torch.testing.assert_close(start[name], anchor, rtol=1e-12, atol=1e-12)
        g = grads[name] + 3 * l2[name] * p + 5 * pull[name] * (p - anchor)
        expected = p - policy.schedule()[name][0] * 2 * lr[name] * g
        torch.testing.assert_close(found[name], expected, rtol=1e-12, atol=1e-12)


def test_multipliers_are_those_of_what_the_policy_has():
    def quantities(settings):
        return {name.removesuffix("_multiplier") for name in space_of(make_setting(settings))[0].distributions}

    strengths = set(MULTIPLIERS)
    assert quantities(EVERYTHING) & strengths == strengths - {"dropout", "input_noise"}
    assert quantities(REGULARISED) & strengths == {"lr", "dropout", "input_noise"}
    assert quantities(GLOBAL) & strengths == {"lr"}
    assert quantities(ADAPTIVE) & strengths == {"lr", "l2"}
    assert quantities(BY_ROLE) & strengths == {"lr", "l2", "init_std"}


def test_what_became_of_each_dimension_is_on_record():
    setting = make_setting(BY_ROLE, widths=(16, 16, 16), batch_size=8)
    space, mapped = space_of(setting)
    full = {"batch_size", "activation", "width", "depth"}
    assert {name for name, became in mapped.items() if became == IN_FULL} == full
    assert {name for name, became in mapped.items() if became == KEPT} == {"optimizer", "momentum", "schedule"}
    assert "from 0.25 to 4" in mapped["lr"]
    assert set(mapped) >= set(DIMENSIONS)
    assert {name for name in space.distributions if not name.endswith("_multiplier")} == full
    # A dimension that no one asked for is neither searched nor spoken of.
    space, mapped = space_of(setting, dimensions=("lr", "width"))
    assert set(space.distributions) == {"lr_multiplier", "l2_multiplier", "init_std_multiplier", "width"}
    assert "depth" not in mapped


@pytest.mark.parametrize(
    "settings", [EVERYTHING, ADAPTIVE, MAML, CURVATURE], ids=["element", "adam", "maml", "curvature"]
)
def test_policies_for_one_network_keep_it(settings):
    space, mapped = space_of(make_setting(settings, batch_size=8))
    assert {mapped[name] for name in ("activation", "width", "depth")} == {KEPT}
    assert mapped["batch_size"] == IN_FULL
    assert not {"activation", "width", "depth"} & set(space.distributions)


def test_a_policy_that_met_no_hidden_layer_keeps_its_depth():
    shallow, deep = (make_setting(BY_ROLE, widths=widths, batch_size=8) for widths in ((16,), (16, 16)))
    assert space_of(shallow)[1]["depth"] == KEPT
    assert space_of(shallow)[1]["width"] == IN_FULL
    assert space_of(deep)[1]["depth"] == IN_FULL
    assert space_of(make_setting(GLOBAL, widths=(16,)))[1]["depth"] == IN_FULL
    tasks = classification()
    for setting in (shallow, deep, make_setting(GLOBAL, widths=(16,))):
        space, _ = space_of(setting)
        depths = space.distributions["depth"].choices if "depth" in space.distributions else ()
        points = [
            space.first[0] | {"width": 32, "activation": "tanh"},
            *(space.first[0] | {"depth": d} for d in depths),
        ]
        requests = [Request(0, space.candidate(point, HORIZON)) for point in points]
        results = Bench(setting, tasks, make_draws(setting, tasks)).run(requests, lambda *_: True)
        assert len({result.value for result in results}) >= len(points) - 1


def test_a_warm_start_moves_one_strength_at_a_time_within_the_space():
    settings = PolicySettings(
        lr=learned(0.1, "element"), l2=learned(1e-3, "element"), init=InitSettings("scaled", "tensor")
    )
    space, _ = space_of(make_setting(settings))
    own, *moved = space.first
    assert [{name for name in own if point[name] != own[name]} for point in moved] == [
        {f"{name}_multiplier"} for name in ("l2", "init_std", "lr") * 2
    ]
    names = ("l2", "init_std", "lr") * 2
    up = [point[f"{name}_multiplier"] > 1 for point, name in zip(moved, names, strict=True)]
    assert up == [False, True, True, True, False, False]
    for point in space.first:
        for name, distribution in space.distributions.items():
            assert distribution._contains(distribution.to_internal_repr(point[name]))


def test_choices_that_the_policy_does_not_have_among_them_are_kept():
    """So that the first point can be the policy itself."""
    mapped = space_of(make_setting(GLOBAL, widths=(8,), batch_size=BATCH))[1]
    assert mapped["width"] == mapped["batch_size"] == KEPT
    assert mapped["activation"] == IN_FULL


def test_a_policy_with_torchs_optimizer_has_no_space_around_it():
    with pytest.raises(ConfigError, match=r"search\.warm_start.*Adagrad.*search\.warm_start=false"):
        check_multiplied(PolicySettings(lr=learned(0.1, "global"), optimizer="Adagrad"))


@pytest.mark.parametrize("schedule", DECAYS)
@pytest.mark.parametrize(("l2", "momentum"), [(None, None), (1e-3, 0.8)])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_policy_that_is_a_conventional_setting_is_mapped_to_it(kind, l2, momentum, schedule):
    settings = PolicySettings(
        lr=fixed(0.05),
        l2=fixed(l2) if l2 else learned(1e-7, "global"),
        momentum=MomentumSettings("off") if momentum is None else MomentumSettings("fixed", momentum),
        schedule="step",
        preconditioner="second_moment" if kind == "adam" else "off",
    )
    setting = make_setting(settings, away=0.0, dtype=torch.float64)
    with torch.no_grad():
        setting.policy.log_schedule["all"].copy_(decay_factors(schedule, HORIZON).log())
    found = closest_setting(setting.policy)
    expected = RuleSettings(kind, 0.05, l2 or 0.0, momentum if momentum and kind == "sgd" else 0.0, schedule)
    assert found.settings.optimizer == kind
    assert found.settings.schedule == schedule
    for name in ("lr", "l2", "momentum"):
        assert getattr(found.settings, name) == pytest.approx(getattr(expected, name), rel=1e-12)
    assert ("the decay of Adam's mean, which is not 0.9" in found.lost) == (kind == "adam")


@pytest.mark.parametrize("momentum", [MomentumSettings(), MomentumSettings("learned"), MomentumSettings("fixed", 0.9)])
def test_the_decay_of_adams_mean_is_lost_where_it_is_not_adams(momentum):
    policy = make_setting(replace(ADAPTIVE, momentum=momentum)).policy
    lost = "the decay of Adam's mean, which is not 0.9" in closest_setting(policy).lost
    assert lost == (momentum.mode != "fixed")


def test_the_scale_of_a_schedule_goes_into_the_learning_rate():
    setting = make_setting(PolicySettings(lr=fixed(0.05), schedule="step"), away=0.0, dtype=torch.float64)
    with torch.no_grad():
        setting.policy.log_schedule["all"].copy_((3 * decay_factors("cosine", HORIZON)).log())
    found = closest_setting(setting.policy).settings
    assert found.schedule == "cosine"
    assert found.lr == pytest.approx(0.15, rel=1e-12)


def test_a_mapped_setting_trains_as_the_policy_that_is_one():
    settings = PolicySettings(
        lr=learned(0.05, "global"), l2=learned(0.01, "global"), momentum=MomentumSettings("learned", 0.8)
    )
    setting = make_setting(settings, dtype=torch.float64)
    found = closest_setting(setting.policy)
    assert found.lost == ()
    generator = torch.Generator().manual_seed(0)
    params = {name: torch.randn(shape, generator=generator).double() for name, shape in setting.policy.shapes.items()}
    paths = []
    for rule in (setting.policy.rule(params), found.settings.rule(tuple(params), HORIZON)):
        now, state = params, rule.init(params)
        for step in range(HORIZON):
            now, state = rule.update(now, {name: p.sin() for name, p in now.items()}, state, step)
        paths.append(now)
    for name in params:
        torch.testing.assert_close(paths[0][name], paths[1][name], rtol=1e-6, atol=1e-6)


def test_one_number_for_many_is_their_geometric_mean_over_parameters():
    setting = make_setting(PolicySettings(lr=learned(0.1, "tensor"), l2=learned(0.01)), dtype=torch.float64)
    found = closest_setting(setting.policy)
    logs = torch.cat(
        [value.log().expand(setting.policy.shapes[n]).flatten() for n, value in setting.policy.strength("lr").items()]
    )
    assert found.settings.lr == pytest.approx(logs.mean().exp().item(), rel=1e-9)
    assert "each tensor (learning rate)" in found.lost[0]
    assert "each element (L2 strength)" in found.lost[1]


def test_what_a_setting_cannot_say_is_lost_by_name():
    assert any("pull" in words for words in closest_setting(make_setting(EVERYTHING).policy).lost)
    assert any("matrices" in words for words in closest_setting(make_setting(CURVATURE).policy).lost)
    lost = closest_setting(make_setting(REGULARISED).policy).lost
    assert lost[-3:] == ("label smoothing", "dropout", "input noise")
    scaled = make_setting(replace(GLOBAL, init=InitSettings("scaled")))
    assert closest_setting(scaled.policy).settings.optimizer == "sgd"
    assert not closest_setting(
        make_setting(replace(ADAPTIVE, lr=fixed(0.1), l2=fixed(0.1), name="a", init=InitSettings("scaled"))).policy
    ).lost


def test_multipliers_make_a_difference_on_the_bench():
    setting = make_setting(EVERYTHING)
    tasks = classification()
    draws = make_draws(setting, tasks)
    space, _ = space_of(setting, dimensions=USUAL)
    one = Bench(setting, take_tasks(tasks, slice(0, 1)), take_draws(draws, slice(0, 1)))
    low, high = (
        one.run([Request(0, space.candidate(space.first[0] | {"lr_multiplier": m}, HORIZON))], lambda *_: True)[0].value
        for m in (0.25, 4.0)
    )
    assert low != high


@pytest.mark.parametrize("options", [{}, {"folds": 3}], ids=["held out", "folds"])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_candidates_train_on_what_the_policy_makes_of_the_loss(options, batch_size):
    setting = make_setting(REGULARISED, **options)
    tasks = classification()
    space, _ = space_of(setting)
    plain = space.first[0] | ({} if batch_size is None else {"batch_size": batch_size})
    quiet = plain | {"dropout_multiplier": 1e-9, "input_noise_multiplier": 1e-9}
    requests = [Request(2, space.candidate(point, HORIZON)) for point in (plain, plain, quiet)]
    first, again, other = Bench(setting, tasks, make_draws(setting, tasks)).run(requests, lambda *_: True)
    assert first.value == again.value
    assert first.value != other.value
