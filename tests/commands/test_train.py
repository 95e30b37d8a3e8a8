import json
from pathlib import Path

import pytest
import torch
import yaml
from command_helpers import FEW, SMALL, run_train, train_small

from metaopt.outer.metrics import read_metrics
from metaopt.outer.state import load_checkpoint
from metaopt.policies.file import load_policy_file

REPRODUCIBLE = ("policy.safetensors", "metrics.jsonl", "tasks.csv", "config.yaml")


def contents(folder, names=REPRODUCIBLE):
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train_small(folder) == 0
    return folder


def test_a_run_leaves_the_files_that_others_script_against(run_dir):
    assert {path.name for path in run_dir.iterdir()} == {
        "policy.safetensors", "checkpoint.pt", "config.yaml", "metrics.jsonl", "plan.json", "results.json",
        "tasks.csv", "figures", "report.html", "meta_training.json",
    }  # fmt: skip
    assert {path.name for path in (run_dir / "figures").iterdir()} == {
        "learning_curves.png", "task_differences.png", "strengths_lr.png", "strengths_l2.png", "first_layer_lr.png",
        "first_layer_l2.png", "schedule.png", "meta_training.png",
    }  # fmt: skip


def test_results_are_those_of_held_out_tasks_at_the_horizon(run_dir):
    results = json.loads((run_dir / "results.json").read_text())
    assert (results["tasks"], results["split"], results["n_tasks"], results["horizon"]) == ("digits", "meta_test", 3, 3)
    assert list(results["methods"]) == ["policy", "sgd", "adam", "tuned"]
    _, card = load_policy_file(run_dir / "policy.safetensors")
    assert results["split_hash"] == card.split_hash


def test_metrics_have_a_row_for_each_iteration_and_meta_validation(run_dir):
    rows = [(row["kind"], row["iteration"]) for row in read_metrics(run_dir / "metrics.jsonl")]
    train = [("meta_train", k) for k in range(1, 5)]
    validation = [("meta_validation", k) for k in (0, 2, 4)]
    assert sorted(rows) == sorted(train + validation)


def test_the_policy_is_the_best_on_meta_validation(run_dir):
    tensors, _ = load_policy_file(run_dir / "policy.safetensors")
    best = load_checkpoint(run_dir / "checkpoint.pt")[0]["best"]
    assert tensors.keys() == best.keys()
    assert all(torch.equal(tensors[name], best[name]) for name in best)


def test_the_configuration_is_kept_in_full(run_dir):
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert config["outer"]["iterations"] == 4
    assert config["policy"]["name"] == "per_parameter"
    assert config["tasks"]["name"] == "digits"


def test_the_same_command_leaves_the_same_bytes(run_dir, tmp_path):
    assert train_small(tmp_path / "again") == 0
    first, again = contents(run_dir), contents(tmp_path / "again")
    first["config.yaml"] = first["config.yaml"].replace(str(run_dir).encode(), b"")
    again["config.yaml"] = again["config.yaml"].replace(str(tmp_path / "again").encode(), b"")
    assert first == again


def test_another_seed_leaves_others(run_dir, tmp_path):
    assert train_small(tmp_path / "run", "seed=1") == 0
    assert contents(run_dir, ["policy.safetensors"]) != contents(tmp_path / "run", ["policy.safetensors"])


def test_without_evaluation_the_policy_is_still_shown(tmp_path):
    assert train_small(tmp_path / "run", "evaluation.n_tasks=0") == 0
    assert not (tmp_path / "run" / "results.json").exists()
    assert (tmp_path / "run" / "figures" / "strengths_lr.png").exists()


def test_the_search_may_spend_what_meta_training_spent_and_not_what_it_might_have(tmp_path, monkeypatch):
    """Meta-validation never improves here, so that patience ends meta-training after two of eight iterations."""
    monkeypatch.setattr("metaopt.outer.loop._mean", lambda values: 1.0)
    assert train_small(tmp_path / "run", "outer.patience=1", "outer.iterations=8", "search.trials=100") == 0
    _, card = load_policy_file(tmp_path / "run" / "policy.safetensors")
    assert card.config["meta_training_inner_steps"] == 2 * 2 * 3  # iterations, tasks, horizon
    tuned = json.loads((tmp_path / "run" / "results.json").read_text())["methods"]["tuned"]
    assert tuned["trials"] == 2  # two tasks and three steps each


def test_a_taken_directory_is_refused_and_left_as_it_is(run_dir, capsys):
    before = contents(run_dir)
    assert train_small(run_dir, "seed=1") == 2
    assert f"resume={run_dir}" in capsys.readouterr().err
    assert contents(run_dir) == before


@pytest.mark.parametrize(
    "overrides",
    [
        ("policy=maml", "inner.horizon=1", "inner.batch_size=null"),
        ("policy=lslr", "inner.hypergradient=first_order"),
        ("policy=global", "policy.momentum.mode=learned", "policy.pull.mode=learned", "policy.init.mode=scaled"),
        ("policy=meta_sgd", "inner.engine=higher"),
        ("policy=meta_curvature", "evaluation.baselines=[]"),
        ("policy=torch_optimizer", "inner.engine=higher"),
        ("tasks=sinusoid", "evaluation.baseline_init=fresh"),
        ("model=conv4", "model.channels=4", "model.norm=layer"),
    ],
    ids=" ".join,
)
def test_other_choices_run_through(overrides, tmp_path):
    base = [word for word in SMALL if not (word.startswith("model.widths") and "model=conv4" in overrides)]
    assert run_train(f"run_dir={tmp_path / 'run'}", *base, *FEW, *overrides) == 0
    assert (tmp_path / "run" / "results.json").exists()


def test_multirun_gives_each_job_a_directory(tmp_path, capfd):
    code = train_small(tmp_path / "sweep", "seed=0,1", "evaluation.n_tasks=0", "--multirun")
    assert code == 0
    policies = [(tmp_path / "sweep" / str(i) / "policy.safetensors").read_bytes() for i in range(2)]
    assert policies[0] != policies[1]


def test_wandb_is_offline_by_default_and_leaves_the_policy_as_it_is(run_dir, tmp_path, monkeypatch):
    for variable in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    base = [word for word in SMALL if word != "tracking=none"]
    assert run_train(f"run_dir={tmp_path / 'run'}", *base, *FEW) == 0
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert contents(run_dir, ["policy.safetensors"]) == contents(tmp_path / "run", ["policy.safetensors"])


def test_a_failing_tracker_costs_one_line_and_not_the_run(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metaopt.config.build.WandbTracker", refuse)
    base = [word for word in SMALL if word != "tracking=none"]
    assert run_train(f"run_dir={tmp_path / 'run'}", *base, *FEW) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0]
    assert Path(tmp_path / "run" / "results.json").exists()
