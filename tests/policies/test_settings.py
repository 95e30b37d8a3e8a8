import dataclasses
import json

import hypothesis
import pytest
from hypothesis import strategies as st

from metaopt.errors import ConfigError
from metaopt.policies.settings import (
    GRANULARITIES,
    INITS,
    MODES,
    OPTIMIZERS,
    PRECONDITIONERS,
    SCHEDULES,
    InitSettings,
    MomentumSettings,
    PolicySettings,
    StrengthSettings,
)

LEARNED = StrengthSettings("learned", 0.1)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"lr": StrengthSettings("on", 0.1)}, "policy.lr.mode"),
        ({"l2": StrengthSettings("learned", 0.0)}, "policy.l2.value"),
        ({"l2": StrengthSettings("off", -1.0)}, "policy.l2.value"),
        ({"pull": StrengthSettings("learned", float("nan"))}, "policy.pull.value"),
        ({"pull": StrengthSettings("learned", float("inf"))}, "policy.pull.value"),
        ({"lr": StrengthSettings("learned", True)}, "policy.lr.value"),
        ({"lr": StrengthSettings("learned", "0.1")}, "policy.lr.value"),
        ({"lr": StrengthSettings("learned", 0.1, "layer")}, "policy.lr.granularity"),
        ({"momentum": MomentumSettings("learned", 1.0)}, "policy.momentum.value"),
        ({"momentum": MomentumSettings("learned", 0.0)}, "policy.momentum.value"),
        ({"momentum": MomentumSettings("yes")}, "policy.momentum.mode"),
        ({"schedule": "cosine"}, "policy.schedule"),
        ({"init": InitSettings("zero")}, "policy.init.mode"),
        ({"init": InitSettings("scaled", "row")}, "policy.init.granularity"),
        ({"optimizer": "LBFGS"}, "policy.optimizer"),
        ({"lr": StrengthSettings("off", 0.1)}, "policy.lr.mode"),
        ({"lr": StrengthSettings("fixed", 0.1)}, "learns nothing"),
        ({"optimizer": "Adam", "lr": StrengthSettings("learned", 0.1, "element")}, "policy.lr.granularity"),
        ({"optimizer": "Adam", "l2": LEARNED}, "l2 is on"),
        ({"optimizer": "Adam", "pull": StrengthSettings("fixed", 0.1)}, "pull is on"),
        ({"optimizer": "Adam", "momentum": MomentumSettings("fixed")}, "momentum is on"),
        ({"optimizer": "Adam", "schedule": "step"}, "schedule is on"),
        ({"optimizer": "Adam", "preconditioner": "curvature"}, "preconditioner is on"),
        ({"preconditioner": "kfac"}, "policy.preconditioner"),
        ({"label_smoothing": StrengthSettings("learned", 1.0)}, "policy.label_smoothing.value"),
        ({"label_smoothing": StrengthSettings("fixed", 0.1, "role")}, "policy.label_smoothing.granularity"),
        ({"input_noise": StrengthSettings("learned", 0.1, "tensor")}, "policy.input_noise.granularity"),
        ({"dropout": StrengthSettings("learned", 0.1, "element")}, "policy.dropout.granularity"),
        ({"dropout": StrengthSettings("learned", -0.1)}, "policy.dropout.value"),
    ],
)
def test_what_makes_no_policy_is_refused_by_name(changes, field):
    with pytest.raises(ConfigError, match=field) as caught:
        PolicySettings(**({"lr": LEARNED} | changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "learned"),
    [
        ({"lr": LEARNED}, {"lr"}),
        ({"l2": LEARNED, "pull": LEARNED}, {"l2", "pull"}),
        ({"momentum": MomentumSettings("learned")}, {"momentum"}),
        ({"schedule": "step"}, {"schedule"}),
        ({"init": InitSettings("scaled")}, {"init_std"}),
        ({"init": InitSettings("learned")}, {"init"}),
        ({"preconditioner": "curvature"}, {"curvature"}),
    ],
)
def test_it_says_what_is_learned(changes, learned):
    assert PolicySettings(**({"lr": StrengthSettings("fixed", 0.1)} | changes)).learned() == learned


strengths = st.builds(StrengthSettings, st.sampled_from(MODES), st.floats(1e-9, 1e9), st.sampled_from(GRANULARITIES))


@hypothesis.settings(max_examples=100)
@hypothesis.given(
    name=st.text(),
    lr=strengths,
    l2=strengths,
    pull=strengths,
    momentum=st.builds(MomentumSettings, st.sampled_from(MODES), st.floats(0.01, 0.99)),
    schedule=st.sampled_from(SCHEDULES),
    init=st.builds(InitSettings, st.sampled_from(INITS), st.sampled_from(GRANULARITIES)),
    optimizer=st.sampled_from(OPTIMIZERS),
    preconditioner=st.sampled_from(PRECONDITIONERS),
)
def test_settings_survive_json_or_are_refused(**fields):
    try:
        settings = PolicySettings(**fields)
    except ConfigError:
        return
    assert PolicySettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def plain(**changes):
    return PolicySettings().to_json() | changes


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({**plain(), "extra": 1}, "policy must have exactly"),
        ({key: value for key, value in plain().items() if key != "pull"}, "policy must have exactly"),
        (plain(lr={"mode": "learned", "value": 0.1}), "policy.lr must have exactly"),
        (
            plain(lr={"mode": "learned", "value": 0.1, "granularity": "tensor", "rate": 1}),
            "policy.lr must have exactly",
        ),
        (plain(momentum=None), "policy.momentum must have exactly"),
        (plain(init="learned"), "policy.init must have exactly"),
        (plain(name=3), "policy.name"),
        (plain(schedule=["step"]), "policy.schedule"),
        (plain(lr={"mode": {}, "value": 0.1, "granularity": "tensor"}), "policy.lr.mode"),
        ([], "policy must have exactly"),
        (None, "policy must have exactly"),
    ],
)
def test_json_of_another_make_is_refused(data, where):
    with pytest.raises(ConfigError, match=where):
        PolicySettings.from_json(data)


def test_json_from_before_there_were_preconditioners_has_none():
    data = {key: value for key, value in plain().items() if key != "preconditioner"}
    assert PolicySettings.from_json(data) == PolicySettings()


def test_every_field_is_in_the_json():
    assert set(plain()) == {field.name for field in dataclasses.fields(PolicySettings)}


@pytest.mark.parametrize(
    "settings",
    [{"preconditioner": "off"}, {"preconditioner": "second_moment", "rule": "learned_optimizer"}],
    ids=["without second moments", "learned optimizer"],
)
def test_decoupled_is_refused_where_nothing_knows_it(settings):
    with pytest.raises(ConfigError, match=r"policy\.decoupled"):
        PolicySettings(decoupled=True, **settings)
