from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaopt.inner.adapt import adapt
from metaopt.inner.draws import Draws, cast_draws, draw
from metaopt.inner.mixed import Mixed
from metaopt.inner.padding import fit_to_width
from metaopt.models.linear import linear
from metaopt.models.mlp import mlp
from metaopt.models.objective import objective
from metaopt.models.transformer import transformer
from metaopt.policies.baselines import RuleSettings, fixed_learner
from metaopt.policies.policy import Policy
from metaopt.policies.rule import LossNoise
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings, StrengthSettings
from metaopt.types import Batch, Kind, TaskBatch, TaskSpec

HORIZON, ROWS = 4, 9
LEARNED = {name: StrengthSettings("learned", 0.1, "tensor") for name in ("lr", "l2", "pull")}
SETTINGS = PolicySettings(
    **LEARNED, momentum=MomentumSettings("learned", 0.5), schedule="step_tensor", init=InitSettings("scaled", "tensor")
)
IN_LOSS = {name: StrengthSettings("learned", 0.3) for name in ("label_smoothing", "input_noise")}
WITHOUT_LAYERS = replace(SETTINGS, **IN_LOSS)
REGULARISED = replace(WITHOUT_LAYERS, dropout=StrengthSettings("learned", 0.3, "tensor"))


class Case:
    """One task in its own size, and the same beside other columns and classes that it does not have."""

    def __init__(self, kind, columns, classes, more_columns, more_classes, build, outer="loss"):
        outer = outer if kind is Kind.classification else "loss"
        outputs = classes if kind is Kind.classification else 1
        wide_outputs = classes + more_classes if kind is Kind.classification else 1
        self.narrow = build(TaskSpec(kind, (columns,), outputs))
        self.wide = build(TaskSpec(kind, (columns + more_columns,), wide_outputs, padded=True))
        generator = torch.Generator().manual_seed(0)
        self.objectives = (objective(self.narrow, kind, outer=outer), objective(self.wide, kind, True, outer))
        sets = [self._batches(kind, generator, columns, classes, more_columns, more_classes) for _ in range(3)]
        self.tasks = TaskBatch(*(pair[0] for pair in sets))
        padded = TaskBatch(*(pair[1] for pair in sets))
        draws = cast_draws(draw(self.wide.shapes, 1, HORIZON, 4, ROWS, generator, loss_noise=True), torch.float64)
        cut = {name: noise[tuple(map(slice, (1, *shape)))] for (name, shape), noise in self._of(draws)}
        self.draws = draws._replace(noise=cut)
        self.padded, self.padded_draws = padded, draws
        if not self.wide.masks:
            self.padded, self.padded_draws = fit_to_width(padded, draws, self.wide.input_layer)

    def _of(self, draws):
        return zip(self.narrow.shapes.items(), draws.noise.values(), strict=True)

    @staticmethod
    def _batches(kind, generator, columns, classes, more_columns, more_classes):
        x = torch.randn(1, ROWS, columns, generator=generator, dtype=torch.float64)
        absent = torch.full((1, ROWS, more_columns), torch.nan, dtype=torch.float64)
        wide = torch.cat([x, absent], -1)
        if kind is Kind.regression:
            y = torch.randn(1, ROWS, 1, generator=generator, dtype=torch.float64)
            return Batch(x, y), Batch(wide, y)
        labels = torch.randint(classes, (1, ROWS), generator=generator)
        told = torch.nn.functional.one_hot(labels, classes)
        return Batch(x, labels), Batch(wide, torch.nn.functional.pad(told, (0, more_classes), value=-1))


cases = st.builds(
    Case,
    st.sampled_from(list(Kind)),
    st.integers(1, 4),
    st.integers(2, 4),
    st.integers(0, 5),
    st.integers(0, 3),
    st.sampled_from(
        [linear, partial(mlp, widths=[5]), partial(mlp, widths=[3, 4]), partial(transformer, width=4, heads=2, depth=1)]
    ),
    st.sampled_from(["loss", "error_surrogate"]),
)


@settings(max_examples=30, deadline=None)
@given(cases, st.booleans())
def test_padding_changes_no_hypergradient_and_no_score(case, with_loss):
    chosen = SETTINGS if not with_loss else REGULARISED if len(case.narrow.shapes) > 2 else WITHOUT_LAYERS
    found = []
    for model, aim, tasks, draws in (
        (case.narrow, case.objectives[0], case.tasks, case.draws),
        (case.wide, case.objectives[1], case.padded, case.padded_draws),
    ):
        # Learned values have moved away from where they start, so that none is neutral.
        policy = Policy(chosen, model.shapes, model.init, HORIZON, roles=model.roles).double()
        with torch.no_grad():
            for i, p in enumerate(policy.parameters()):
                p.add_(0.1 * (i % 5) - 0.2)
        found.append(Mixed()(policy, aim, tasks, draws, HORIZON))
    torch.testing.assert_close(found[1].grads, found[0].grads, rtol=1e-9, atol=1e-11)
    for i in (2, 3, 4):
        torch.testing.assert_close(found[1][i], found[0][i], equal_nan=True)


@settings(max_examples=15, deadline=None)
@given(cases, st.sampled_from(["sgd", "adam"]))
def test_padding_changes_nothing_that_a_baseline_finds(case, optimizer):
    rule = RuleSettings(optimizer, 0.05, 0.01)
    scores = [
        adapt(
            fixed_learner(Policy(SETTINGS, m.shapes, m.init, HORIZON).double().start, rule), aim, tasks, draws, HORIZON
        )
        for m, aim, tasks, draws in (
            (case.narrow, case.objectives[0], case.tasks, case.draws),
            (case.wide, case.objectives[1], case.padded, case.padded_draws),
        )
    ]
    torch.testing.assert_close(scores[1], scores[0], equal_nan=True)


def test_the_arguments_stay_as_they_are():
    x = torch.tensor([[[1.0, torch.nan]]])
    tasks = TaskBatch(*[Batch(x, torch.zeros(1, 1, 1))] * 3)
    noise = {"output.weight": torch.ones(1, 1, 2), "output.bias": torch.ones(1, 1)}
    filled, draws = fit_to_width(tasks, Draws(noise, None), ("output.weight", "output.bias"))
    assert x.isnan().sum() == 1
    assert all((n == 1).all() for n in noise.values())
    assert filled.query.x.tolist() == [[[1.0, 0.0]]]
    assert draws.noise["output.weight"].tolist() == [[[pytest.approx(2**0.5), 0.0]]]
    assert draws.noise["output.bias"].tolist() == [[pytest.approx(2**0.5)]]


def test_noise_in_the_loss_is_told_which_columns_there_are():
    x = torch.tensor([[[1.0, torch.nan]], [[1.0, 2.0]]])
    tasks = TaskBatch(*[Batch(x, torch.zeros(2, 1, 1))] * 3)
    noise = {"output.weight": torch.ones(2, 1, 2), "output.bias": torch.ones(2, 1)}
    layer = ("output.weight", "output.bias")
    _, draws = fit_to_width(tasks, Draws(noise, None, LossNoise(torch.ones(2, 5))), layer)
    assert draws.loss.present is not None
    assert draws.loss.present.tolist() == [[1, 0], [1, 1]]
    assert fit_to_width(tasks, Draws(noise, None), layer)[1].loss == LossNoise()
