import numpy as np
import pytest
from policy_helpers import HORIZON, SHAPES, fixed, learned, make_policy

from metaopt.policies.reading import read_policy
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings

NAMES = list(SHAPES)


def test_quantities_are_in_natural_units_at_their_granularity():
    policy = make_policy(
        PolicySettings(
            lr=learned(0.1, "element"),
            l2=learned(0.1, "global"),
            pull=fixed(0.25),
            momentum=MomentumSettings("learned", 0.8),
            schedule="step_tensor",
            init=InitSettings("scaled", "tensor"),
        )
    )
    reading = read_policy(policy, (3,))
    assert reading.input_shape == (3,)
    assert reading.learned == {"lr", "l2", "momentum", "schedule", "init_std"}
    assert list(reading.strengths) == ["lr", "l2", "pull", "init_std"]
    own = {name: p.detach().numpy() for name, p in policy.named_parameters()}
    for name, shape in SHAPES.items():
        key = name.replace(".", "/")
        assert reading.strengths["lr"][name].shape == tuple(shape)
        np.testing.assert_allclose(reading.strengths["lr"][name], np.exp(own[f"log_strengths.lr.{key}"]))
        np.testing.assert_allclose(reading.strengths["l2"][name], np.exp(own["log_strengths.l2.all"]))
        assert reading.strengths["pull"][name] == 0.25
        assert reading.schedule[name].shape == (HORIZON,)
        np.testing.assert_allclose(reading.schedule[name], np.exp(own[f"log_schedule.{key}"]))
    # What starts at a constant has no deviation to scale.
    assert list(reading.strengths["init_std"]) == NAMES[:2]
    assert reading.momentum == pytest.approx(1 / (1 + np.exp(-own["momentum_logit"])))


def test_what_is_off_is_absent():
    reading = read_policy(make_policy(PolicySettings(lr=learned(0.1, "global"))), (1, 28, 28))
    assert list(reading.strengths) == ["lr"]
    assert reading.matrices == {}
    assert reading.schedule == {}
    assert reading.momentum is None
    assert {values.shape for values in reading.strengths["lr"].values()} == {()}


def test_one_schedule_for_all_has_a_nameless_entry():
    reading = read_policy(make_policy(PolicySettings(lr=fixed(0.1), schedule="step")), (3,))
    assert list(reading.schedule) == [""]
    assert reading.schedule[""].shape == (HORIZON,)


def test_matrices_for_the_gradients_are_read_by_tensor_and_mode():
    policy = make_policy(PolicySettings(lr=fixed(0.1), preconditioner="curvature"))
    reading = read_policy(policy, (3,))
    assert [*reading.matrices] == NAMES
    assert [[m.shape for m in own] for own in reading.matrices.values()] == [[(4, 4), (3, 3)], [(4, 4)], [(4, 4)]]
    own = policy.curvature["hidden/weight/1"].detach().numpy()
    np.testing.assert_array_equal(reading.matrices["hidden.weight"][1], own)
    assert [*reading.strengths] == ["lr"]


def test_a_reading_does_not_follow_the_policy():
    policy = make_policy(PolicySettings(lr=learned()))
    reading = read_policy(policy, (3,))
    before = reading.strengths["lr"]["hidden.bias"].copy()
    for p in policy.parameters():
        p.data += 1
    np.testing.assert_array_equal(reading.strengths["lr"]["hidden.bias"], before)
