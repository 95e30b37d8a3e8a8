from dataclasses import replace
from itertools import product

import pytest
import torch

from metaopt.config.build import STREAMS, build_job, build_tracker, generator
from metaopt.config.engine import check_loss
from metaopt.config.load import train_config
from metaopt.config.schema import TrackingConfig
from metaopt.errors import ConfigError
from metaopt.inner.through_higher import ThroughHigher
from metaopt.outer.loop import sample
from metaopt.policies.settings import PolicySettings, StrengthSettings
from metaopt.tracking.none import NoTracker
from metaopt.types import Kind, TaskSpec


@pytest.fixture
def build(tiny):
    """The function that builds the tiny job with overrides."""
    return lambda *overrides: build_job(train_config(tiny(*overrides)))


def parameters(job):
    return torch.cat([parameter.detach().flatten() for parameter in job.state.policy.parameters()])


def first_tasks(job):
    """Inputs of the first meta-batch."""
    return sample(job.problem, "meta_train", 2, job.state.generator)[0].support.x


def test_the_card_says_what_was_built(build):
    job = build()
    card = job.card
    assert (card.tasks, card.horizon, card.split_hash) == ("digits", 3, job.problem.family.split_hash)
    assert card.policy == job.state.policy.settings
    assert card.model == {"name": "mlp", "widths": [4], "activation": "relu"}
    assert card.parameters == {
        "hidden0.weight": (4, 64),
        "hidden0.bias": (4,),
        "output.weight": (2, 4),
        "output.bias": (2,),
    }
    assert card.config["tasks"]["n_way"] == 2
    assert card.config["inner"]["batch_size"] == 2
    assert card.config["meta_training_inner_steps"] == 0  # nothing is spent before it starts
    assert type(card).from_json(card.to_json(), None) == card


def test_the_problem_is_as_configured(build):
    job = build("inner.task_chunk=7")
    assert (job.problem.horizon, job.problem.batch_size, job.problem.chunk) == (3, 2, 7)
    assert (job.outer.iterations, job.outer.meta_batch) == (5, 2)
    assert job.validation.tasks.support.x.shape == (3, 6, 1, 8, 8)
    assert job.validation.draws.order.shape == (3, 3, 2)
    assert job.state.iteration == 0


def test_equal_configurations_start_equally_and_other_seeds_do_not(build):
    first, second, other = build("policy=maml"), build("policy=maml"), build("policy=maml", "seed=1")
    assert torch.equal(parameters(first), parameters(second))
    assert torch.equal(first.validation.tasks.query.x, second.validation.tasks.query.x)
    assert not torch.equal(parameters(first), parameters(other))
    assert not torch.equal(first.validation.tasks.query.x, other.validation.tasks.query.x)
    tasks = first_tasks(first)
    assert torch.equal(tasks, first_tasks(second))
    assert not torch.equal(tasks, first_tasks(other))


def test_the_length_of_one_stream_shifts_no_other(build):
    usual, more = build("policy=maml"), build("policy=maml", "outer.validation_tasks=9", "model.widths=[5]")
    assert torch.equal(first_tasks(usual), first_tasks(more))


def test_no_two_streams_of_small_seeds_coincide():
    draws = {tuple(torch.rand(2, generator=generator(s, stream)).tolist()) for s, stream in product(range(50), STREAMS)}
    assert len(draws) == 50 * len(STREAMS)


def test_the_streams_of_a_seed_are_uncorrelated():
    streams = torch.stack([torch.randn(10_000, generator=generator(0, stream)) for stream in STREAMS])
    correlation = torch.corrcoef(streams) - torch.eye(len(STREAMS))
    assert correlation.abs().max() < 0.05


def test_the_other_engine_is_as_configured(build):
    assert isinstance(build("inner.engine=higher", "inner.hypergradient=reverse").problem.hypergradient, ThroughHigher)


def test_a_torch_optimizer_needs_the_other_engine_and_one_task_at_a_time(build):
    with pytest.raises(ConfigError, match=r"inner\.engine=higher"):
        build("policy=torch_optimizer")
    assert build("policy=torch_optimizer", "inner.engine=higher").problem.chunk == 1


@pytest.mark.parametrize("config", [TrackingConfig(name="none"), TrackingConfig(name="wandb", mode="disabled")])
def test_no_tracking_leaves_no_trace(config, tmp_path):
    tracker = build_tracker(config, tmp_path, {}, pytest.fail)
    tracker.log({"loss": 0.5}, 1)
    tracker.close()
    assert isinstance(tracker, NoTracker)
    assert list(tmp_path.iterdir()) == []


def test_tracking_that_cannot_begin_is_a_warning(tmp_path):
    warnings = []
    (tmp_path / "wandb").write_text("a file where a folder should be")
    build_tracker(TrackingConfig(name="wandb"), tmp_path, {}, warnings.append).log({"loss": 0.5}, 1)
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("tasks=sinusoid", "policy.label_smoothing.mode=learned"), "policy.label_smoothing.mode is learned"),
        (("model=linear", "policy.dropout.mode=fixed"), "policy.dropout.mode is fixed"),
    ],
)
def test_what_cannot_enter_a_loss_is_refused_by_name(composed, overrides, said):
    with pytest.raises(ConfigError, match=said) as caught:
        build_job(train_config(composed(*overrides)))
    assert "\n" not in str(caught.value)


def test_noise_cannot_be_added_to_words():
    settings = PolicySettings(lr=StrengthSettings("learned", 0.1), input_noise=StrengthSettings("fixed", 0.1))
    words = TaskSpec(Kind.classification, (5,), 2, vocabulary=7)
    with pytest.raises(ConfigError, match=r"policy\.input_noise\.mode is fixed.* 7 words"):
        check_loss(settings, words)
    check_loss(settings, replace(words, vocabulary=None))


@pytest.mark.parametrize(("quantity", "noisy"), [("label_smoothing", False), ("dropout", True), ("input_noise", True)])
def test_random_numbers_are_drawn_where_the_loss_needs_them(build, quantity, noisy):
    for mode in ("off", "learned"):
        job = build(f"policy.{quantity}.mode={mode}")
        assert (job.validation.draws.loss.bank is not None) == (noisy and mode == "learned")
    assert torch.isfinite(
        job.problem.hypergradient(
            job.state.policy, job.problem.objective, job.validation.tasks, job.validation.draws, job.problem.horizon
        ).flat
    ).all()
