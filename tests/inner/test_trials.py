from dataclasses import replace

import pytest
import torch

from metaopt.inner.adapt import adapt
from metaopt.inner.draws import cast_draws, draw, take_draws
from metaopt.inner.trials import train_trials
from metaopt.models.mlp import mlp
from metaopt.models.objective import objective
from metaopt.policies.baselines import RuleSettings, fixed_learner, rule_of_numbers
from metaopt.policies.policy import Policy
from metaopt.policies.rule import Start
from metaopt.policies.settings import PolicySettings
from metaopt.trees import cast, cast_tasks, stacked, take_tasks
from metaopt.types import Batch, Kind, TaskBatch, TaskSpec

N, HORIZON, INPUTS = 12, 7, 5
FIELDS = ("query_loss", "query_accuracy", "test_loss", "test_accuracy")
SETTINGS = {
    kind: [
        replace(
            RuleSettings(optimizers[i % 2], rate * (1 + i / N), 0.01 * (i % 3)), schedule=schedule, momentum=momentum
        )
        for i, schedule, momentum in zip(
            range(N), ("constant", "cosine", "linear") * 4, (0.0, 0.9) * 6 if kind == "sgd" else (0.0,) * N, strict=True
        )
    ]
    for kind, optimizers, rate in (("sgd", ("sgd", "nesterov"), 0.1), ("adam", ("adam", "adamw"), 0.02))
}


class Bed:
    """A network and tasks, on which settings are trained."""

    def __init__(self, kind=Kind.classification, dtype=torch.float64, batch_size=6, widths=(8,), activation="tanh"):
        generator = torch.Generator().manual_seed(0)
        spec = TaskSpec(kind, (INPUTS,), 3)
        model = mlp(spec, widths, activation)

        def examples(n):
            y = torch.randint(3, (N, n), generator=generator)
            y = y if kind is Kind.classification else torch.randn(N, n, 3, generator=generator)
            return Batch(torch.randn(N, n, INPUTS, generator=generator), y)

        self.tasks = cast_tasks(TaskBatch(examples(20), examples(9), examples(11)), dtype)
        self.draws = cast_draws(draw(model.shapes, N, HORIZON, batch_size, 20, generator), dtype)
        self.start = Policy(PolicySettings(name="fresh"), model.shapes, model.init, 1).start
        self.objective, self.dtype = objective(model, kind), dtype

    def together(self, kind, rows=None, chunk=64, horizon=HORIZON):
        """Scores of the settings of a kind, each on the task of its number."""
        rows = torch.arange(N) if rows is None else torch.as_tensor(rows)
        numbers = cast(stacked([SETTINGS[kind][i].numbers(HORIZON) for i in rows]), self.dtype)

        def configured(own, noise):
            return Start(self.start(noise), rule_of_numbers(kind == "adam", own, tuple(noise)))

        tasks, draws = take_tasks(self.tasks, rows), take_draws(self.draws, rows)
        return train_trials(configured, numbers, self.objective, tasks, draws, horizon, chunk)

    def alone(self, kind, i, on):
        """Loss and accuracy of one of them by another way."""
        one, draws = take_tasks(self.tasks, slice(i, i + 1)), take_draws(self.draws, slice(i, i + 1))
        learner = fixed_learner(self.start, SETTINGS[kind][i], HORIZON)
        found = adapt(learner, self.objective, one, draws, HORIZON, on=on, chunk=1)
        return found.loss[0, -1], found.accuracy[0, -1]


@pytest.mark.parametrize("batch_size", [6, None])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_each_training_is_the_one_alone(kind, batch_size):
    bed = Bed(batch_size=batch_size)
    found = bed.together(kind)
    for i in range(N):
        expected = [*bed.alone(kind, i, "query"), *bed.alone(kind, i, "test")]
        for field, value in zip(FIELDS, expected, strict=True):
            torch.testing.assert_close(getattr(found, field)[i], value, rtol=1e-10, atol=1e-10, msg=f"{field} of {i}")


def test_regression_has_losses_and_no_accuracies():
    bed = Bed(Kind.regression)
    found = bed.together("sgd")
    for i in range(N):
        torch.testing.assert_close(found.query_loss[i], bed.alone("sgd", i, "query")[0], rtol=1e-10, atol=1e-10)
    assert found.query_accuracy.isnan().all()
    assert found.test_accuracy.isnan().all()


def test_no_step_scores_the_start():
    bed = Bed()
    found = bed.together("sgd", horizon=0)
    for i in range(N):
        params = bed.start(take_draws(bed.draws, i).noise)
        loss, accuracy = bed.objective.scores(params, take_tasks(bed.tasks, i).test)
        torch.testing.assert_close(found.test_loss[i], loss)
        torch.testing.assert_close(found.test_accuracy[i], accuracy)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize(("activation", "widths"), [("relu", (8,)), ("relu", (7, 5)), ("tanh", (32,)), ("elu", (7, 5))])
def test_what_is_beside_a_training_changes_last_bits_at_most(kind, activation, widths):
    bed = Bed(dtype=torch.float32, widths=widths, activation=activation)
    whole = bed.together(kind)
    for rows in ([3], [5, 4], [11, 0, 3, 3, 7], list(range(N))):
        for chunk in (1, 2, 64):
            found = bed.together(kind, rows, chunk)
            for field in FIELDS:
                one, other = getattr(found, field), getattr(whole, field)[rows]
                # Not to the bit: the last few numbers of a tensor are computed one by one, and round in another way.
                torch.testing.assert_close(one, other, rtol=2e-6, atol=2e-6, msg=field)


def test_a_training_that_diverges_leaves_those_beside_it_alone(monkeypatch):
    bed = Bed(activation="relu")
    sound = bed.together("sgd")
    monkeypatch.setitem(SETTINGS, "sgd", [RuleSettings("sgd", 1e300), *SETTINGS["sgd"][1:]])
    found = bed.together("sgd")
    assert not found.query_loss[0].isfinite()
    torch.testing.assert_close(found.query_loss[1:], sound.query_loss[1:], rtol=1e-12, atol=1e-12)
