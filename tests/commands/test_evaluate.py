import json
from dataclasses import replace

import pytest
import torch
from command_helpers import error_line, evaluate_small, run_evaluate, train_small
from safetensors.torch import load_file, save_file

from metaopt.policies.file import load_policy_file, save_policy


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train_small(folder) == 0
    return folder


@pytest.fixture
def policy(run_dir):
    return run_dir / "policy.safetensors"


def results_in(folder):
    return json.loads((folder / "results.json").read_text())


def losses(folder):
    return {name: method["loss"] for name, method in results_in(folder)["methods"].items()}


def test_an_evaluation_repeats_the_one_that_ended_training(run_dir, tmp_path):
    assert evaluate_small(run_dir, tmp_path / "out") == 0
    assert losses(tmp_path / "out") == losses(run_dir)
    assert (tmp_path / "out" / "tasks.csv").read_bytes() == (run_dir / "tasks.csv").read_bytes()
    assert (tmp_path / "out" / "figures" / "learning_curves.png").exists()


def test_the_policy_file_alone_is_enough_and_a_checkpoint_will_do(run_dir, policy, tmp_path):
    alone = tmp_path / "elsewhere" / "mine.safetensors"
    alone.parent.mkdir()
    alone.write_bytes(policy.read_bytes())
    for name, checkpoint in (("a", alone), ("b", run_dir / "checkpoint.pt")):
        assert evaluate_small(checkpoint, tmp_path / name) == 0
        assert losses(tmp_path / name) == losses(run_dir)


def test_another_seed_or_split_gives_other_tasks(run_dir, tmp_path):
    assert evaluate_small(run_dir, tmp_path / "seed", "seed=1") == 0
    assert evaluate_small(run_dir, tmp_path / "split", "split=meta_train") == 0
    assert losses(tmp_path / "seed") != losses(run_dir)
    assert losses(tmp_path / "split") != losses(run_dir)
    assert results_in(tmp_path / "split")["split"] == "meta_train"


def test_fields_of_the_family_are_overridden_one_by_one(run_dir, tmp_path):
    assert evaluate_small(run_dir, tmp_path / "out", "tasks.noise=0.1", "baselines=[sgd]") == 0
    assert list(losses(tmp_path / "out")) == ["policy", "sgd"]
    assert losses(tmp_path / "out")["sgd"]["mean"] != losses(run_dir)["sgd"]["mean"]


def test_another_horizon_is_used_recorded_and_warned_of(run_dir, tmp_path, capsys):
    assert evaluate_small(run_dir, tmp_path / "out", "horizon=7") == 0
    assert results_in(tmp_path / "out")["horizon"] == 7
    assert "horizon 3 and is evaluated at 7" in capsys.readouterr().err
    assert any("horizon 3" in note for note in results_in(tmp_path / "out")["notes"])


def test_other_splits_of_the_family_are_warned_of(run_dir, tmp_path, capsys):
    assert evaluate_small(run_dir, tmp_path / "out", "tasks.split_seed=1") == 0
    assert "may have been trained on" in capsys.readouterr().err


def test_another_family_is_used_and_warned_of(tmp_path, capsys):
    """Digits of one pixel would be needed to fit a policy for sine waves; the other way is a policy for both."""
    assert train_small(tmp_path / "run", "tasks=sinusoid", "tasks.support=7") == 0
    policy = tmp_path / "run" / "policy.safetensors"
    tensors, card = load_policy_file(policy)
    save_policy(tmp_path / "foreign.safetensors", tensors, replace(card, tasks="cosines"))
    capsys.readouterr()
    assert evaluate_small(tmp_path / "foreign.safetensors", tmp_path / "out") == 0
    assert "meta-trained on cosines and is evaluated on sinusoid" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "words"),
    [("model.widths=[5]", "mlp(activation=relu, widths=[5])"), ("tasks.n_way=4", "output.weight, output.bias")],
)
def test_a_policy_on_another_model_is_matched_by_role_and_says_so(run_dir, tmp_path, capsys, override, words):
    assert evaluate_small(run_dir, tmp_path / "out", override) == 0
    assert words in capsys.readouterr().err
    assert words in results_in(tmp_path / "out")["notes"][0]
    assert "by role" in results_in(tmp_path / "out")["notes"][0]


def test_a_policy_without_such_layers_is_refused(run_dir, tmp_path, capsys):
    assert evaluate_small(run_dir, tmp_path / "out", "model.widths=[6,6]") == 2
    assert "has nothing for 'hidden1.weight' (role hidden.weight), 'hidden1.bias' (role hidden.bias);" in error_line(
        capsys
    )
    assert not (tmp_path / "out").exists()


def _metadata(path):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.metadata()["metaopt"]


def _truncated(policy, path):
    path.write_bytes(policy.read_bytes()[:500])


def _text(policy, path):
    path.write_text("no checkpoint")


def _pickle(policy, path):
    torch.save({"weight": torch.zeros(1)}, path)


def _newer(policy, path):
    text = json.loads(_metadata(policy)) | {"format": 99}
    save_file(load_file(policy), path, metadata={"metaopt": json.dumps(text)})


def _configured(policy, path, change):
    """The same policy with another configuration in its card."""
    tensors, card = load_policy_file(policy)
    change(card.config)
    save_policy(path, tensors, card)


def _without_inner(policy, path):
    _configured(policy, path, lambda config: config.pop("inner"))


def _class_path(policy, path):
    _configured(policy, path, lambda config: config.update(model={"_target_": "os.system", "name": "mlp"}))


@pytest.mark.parametrize("name", ["policy.safetensors", "checkpoint.pt"])
@pytest.mark.parametrize(
    ("make", "words"),
    [(_truncated, "truncated"), (_text, "not a"), (_pickle, "metaopt|not a policy file")],
)
def test_what_is_no_checkpoint_is_refused(make, words, name, policy, tmp_path, capsys):
    make(policy, tmp_path / name)
    assert evaluate_small(tmp_path / name, tmp_path / "out") == 2
    line = error_line(capsys)
    assert any(word in line for word in words.split("|"))
    assert name in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("make", "words"), [(_newer, "format 99"), (_without_inner, "inner"), (_class_path, "model._target_")]
)
def test_foreign_metadata_is_refused(make, words, policy, tmp_path, capsys):
    make(policy, tmp_path / "policy.safetensors")
    assert evaluate_small(tmp_path / "policy.safetensors", tmp_path / "out") == 2
    assert words in error_line(capsys)


def test_a_missing_checkpoint_is_refused(tmp_path, capsys):
    assert evaluate_small(tmp_path / "nothing", tmp_path / "out") == 2
    assert "no policy file" in error_line(capsys)
    assert run_evaluate() == 2
    assert "checkpoint is missing" in error_line(capsys)


def test_a_directory_with_results_is_refused(run_dir, tmp_path, capsys):
    assert evaluate_small(run_dir, run_dir) == 2
    assert "already holds a run" in error_line(capsys)


def test_a_file_from_elsewhere_downloads_nothing(policy, tmp_path, capsys):
    tasks = {"name": "omniglot", "root": str(tmp_path / "none"), "download": True}
    _configured(policy, tmp_path / "policy.safetensors", lambda config: config.update(tasks=tasks))
    assert evaluate_small(tmp_path / "policy.safetensors", tmp_path / "out") == 2
    assert "tasks.download=true" in error_line(capsys)
