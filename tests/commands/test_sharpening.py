"""A mixture that is learned, and the one choice that the policy file holds."""

import json
import signal

import pytest
import torch
from command_helpers import evaluate_small, run_train, train_small

from metaopt.commands.interrupt import StopRequest
from metaopt.errors import MetaTrainingError
from metaopt.outer.metrics import read_metrics
from metaopt.outer.state import load_checkpoint
from metaopt.policies.file import load_policy_file

DIRECTIONS = ("policy=directions", "evaluation.baselines=[sgd]", "outer.lr=0.3")
FILES = ("policy.safetensors", "metrics.jsonl", "tasks.csv")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train_small(folder, *DIRECTIONS) == 0
    return folder


def test_the_file_holds_one_choice_and_the_checkpoint_the_mixture(run_dir):
    tensors, card = load_policy_file(run_dir / "policy.safetensors")
    content, mixture = load_checkpoint(run_dir / "checkpoint.pt")
    assert (card.policy.rule, mixture.policy.rule) == ("strengths", "directions")
    assert not any(name.startswith("own") for name in tensors)
    assert {"own.weights", "own.rates"} <= content["best"].keys()
    weights = card.mixed["update direction"]
    assert sum(weights.values()) == pytest.approx(1)
    assert len({round(weight, 6) for weight in weights.values()}) > 1, "nothing was learned"
    assert card.policy.name == f"directions ({max(weights, key=weights.get)})"


def test_what_it_costs_is_a_row_of_the_metrics_and_a_note_of_the_results(run_dir):
    row = read_metrics(run_dir / "metrics.jsonl")[-1]
    assert (row["kind"], row["iteration"]) == ("sharpening", 4)
    best = min(r["loss"] for r in read_metrics(run_dir / "metrics.jsonl") if r["kind"] == "meta_validation")
    assert row["loss_before"] == pytest.approx(best)
    (note,) = json.loads((run_dir / "results.json").read_text())["notes"]
    assert f"sharpened into {row['choices']['update direction']}" in note
    assert f"{row['loss_before']:.4g} with the mixture, {row['loss']:.4g} with the one choice" in note


def test_what_is_evaluated_is_what_is_saved(run_dir, tmp_path):
    assert evaluate_small(run_dir, tmp_path / "evaluation") == 0
    ours, again = (json.loads((path / "results.json").read_text()) for path in (run_dir, tmp_path / "evaluation"))
    assert ours["methods"]["policy"]["description"] == again["methods"]["policy"]["description"]
    assert again["methods"]["policy"]["loss"]["mean"] == pytest.approx(ours["methods"]["policy"]["loss"]["mean"])
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert "The update direction is" in page
    assert "chosen from a learned mixture" in page


def test_the_mixture_itself_can_be_evaluated(run_dir, tmp_path):
    assert evaluate_small(run_dir / "checkpoint.pt", tmp_path / "evaluation") == 0
    assert "The update direction is a learned mixture" in (tmp_path / "evaluation" / "report.html").read_text()


def test_a_run_that_is_resumed_goes_on_with_the_mixture(run_dir, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setattr(StopRequest, "__call__", lambda self: setattr(self, "signal", signal.SIGTERM) or True)
    assert train_small(folder, *DIRECTIONS) == 143
    assert run_train(f"resume={folder}") == 143
    monkeypatch.undo()
    assert run_train(f"resume={folder}") == 0
    for name in FILES:
        assert (folder / name).read_bytes() == (run_dir / name).read_bytes(), name


def test_a_run_that_broke_off_after_meta_training_concludes_once(run_dir, tmp_path, monkeypatch):
    folder = tmp_path / "run"

    def fail(*_, **__):
        raise MetaTrainingError("broken off")

    monkeypatch.setattr("metaopt.commands.conclude.evaluate_policy", fail)
    assert train_small(folder, *DIRECTIONS) == 3
    monkeypatch.undo()
    assert run_train(f"resume={folder}") == 0
    for name in FILES:
        assert (folder / name).read_bytes() == (run_dir / name).read_bytes(), name


def test_a_mixture_of_activations_leaves_a_network_with_one_of_them(tmp_path):
    mixture = ("policy=role", "model.activation=mixture", "evaluation.baselines=[sgd]", "outer.lr=0.3")
    assert train_small(tmp_path / "run", *mixture) == 0
    tensors, card = load_policy_file(tmp_path / "run" / "policy.safetensors")
    weights = card.mixed["activation"]
    chosen = max(weights, key=weights.get)
    assert len({round(weight, 6) for weight in weights.values()}) > 1, "nothing was learned"
    assert card.model["activation"] == card.config["model"]["activation"] == chosen
    assert "activation0.logits" not in card.parameters
    assert "choice.activation0/logits" not in tensors
    assert "choice.activation0/logits" in load_checkpoint(tmp_path / "run" / "checkpoint.pt")[0]["best"]
    assert evaluate_small(tmp_path / "run", tmp_path / "again") == 0
    ours, again = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("run", "again"))
    assert f"sharpened into {chosen}" in ours["notes"][0]
    assert again["methods"]["policy"]["loss"]["mean"] == pytest.approx(ours["methods"]["policy"]["loss"]["mean"])
    assert evaluate_small(tmp_path / "run" / "checkpoint.pt", tmp_path / "mixture") == 0


def test_a_policy_without_a_mixture_is_saved_as_it_is(tmp_path):
    assert train_small(tmp_path / "run", "evaluation.n_tasks=0") == 0
    tensors, card = load_policy_file(tmp_path / "run" / "policy.safetensors")
    content, _ = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert card.mixed == {}
    assert all(torch.equal(tensors[name], content["best"][name]) for name in tensors)
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["kind"] == "meta_validation"
