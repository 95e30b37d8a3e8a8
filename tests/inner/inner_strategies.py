"""Hypothesis draws problems from all that can be configured."""

from hypothesis import strategies as st
from inner_problems import EVERY_GRANULARITY, IMAGE, make_problem, tiny_conv4, tiny_mlp

from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings, StrengthSettings
from metaopt.types import Kind


def strengths(*modes):
    return st.builds(StrengthSettings, st.sampled_from(modes), st.floats(0.05, 0.5), st.sampled_from(EVERY_GRANULARITY))


def loss_strengths(*granularities):
    modes = st.sampled_from(["off", "off", "fixed", "learned"])
    return st.builds(StrengthSettings, modes, st.floats(0.05, 0.5), st.sampled_from(granularities))


@st.composite
def problems(draw):
    """Any policy on any model."""
    kind = draw(st.sampled_from(list(Kind)))
    on_mlp = kind is Kind.regression or draw(st.booleans())
    settings = PolicySettings(
        lr=draw(strengths("learned")),
        l2=draw(strengths("off", "fixed", "learned")),
        pull=draw(strengths("off", "fixed", "learned")),
        momentum=draw(st.builds(MomentumSettings, st.sampled_from(["off", "fixed", "learned"]), st.floats(0.1, 0.9))),
        schedule=draw(st.sampled_from(["off", "step", "step_role", "step_tensor"])),
        init=draw(
            st.builds(InitSettings, st.sampled_from(["fresh", "scaled", "learned"]), st.sampled_from(EVERY_GRANULARITY))
        ),
        preconditioner=draw(st.sampled_from(["off", "curvature", "second_moment"])),
        schedule_knots=draw(st.sampled_from([None, 2, 3])),
        label_smoothing=draw(loss_strengths("global")) if kind is Kind.classification else StrengthSettings(value=0.1),
        dropout=draw(loss_strengths("global", "role", "tensor")),
        input_noise=draw(loss_strengths("global")),
    )
    options = {
        "horizon": draw(st.integers(1, 4)),
        "batch_size": draw(st.sampled_from([None, 3, 5])),
        "n_tasks": draw(st.integers(1, 3)),
        "seed": draw(st.integers(0, 1000)),
    }
    if on_mlp:
        activation = draw(st.sampled_from(["relu", "tanh", "gelu", "silu", "elu"]))
        return make_problem(settings, tiny_mlp(kind, activation), kind, **options)
    norm, downsample = draw(st.sampled_from(["batch", "layer", "none"])), draw(st.sampled_from(["pool", "stride"]))
    return make_problem(settings, tiny_conv4(norm, downsample), input_shape=IMAGE, **options)


def wrong_on_whatever_was_drawn(found, expected, limit=1e-8):
    """Names of hypergradients that differ; here one may be zero by nature: momentum has no part in a single step."""
    assert found.keys() == expected.keys()
    size = max(float(grads.abs().max()) for grads in expected.values())
    return [
        name
        for name, grads in expected.items()
        if not (found[name] - grads).abs().max() <= limit * grads.abs().max() + 1e-13 * size
    ]
