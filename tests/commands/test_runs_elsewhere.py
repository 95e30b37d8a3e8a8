"""Whole runs on a device whose tensors have no values: see `other_device`."""

import json
import signal

import pytest
import torch
from command_helpers import SMALL, error_line, evaluate_small, run_train, train_small
from other_device import ELSEWHERE, allow_fused_adam, apart

from metaopt.commands import train as command
from metaopt.commands.interrupt import StopRequest
from metaopt.config.load import read_config
from metaopt.outer.metrics import read_metrics
from metaopt.policies.file import load_policy_file
from metaopt.types import CPU

CONV4 = (*(word for word in SMALL if not word.startswith("model.")), "model=conv4", "model.channels=2")
# Torch says so of a device without values.
pytestmark = pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning")


@pytest.fixture
def elsewhere(monkeypatch):
    """`device=cuda` is the other device."""
    for name in ("train", "evaluate"):
        monkeypatch.setattr(
            f"metaopt.commands.{name}.use_device", lambda setting: ELSEWHERE if setting == "cuda" else CPU
        )
    allow_fused_adam(monkeypatch)


@pytest.fixture
def devices(monkeypatch):
    """Where meta-training found what it works on, in order."""
    seen, train = [], command.meta_train

    def meta_train(problem, outer, state, validation, *rest):
        optimizer = [part for state in state.optimizer.state.values() for part in state.values()]
        found = {tensor.device for tensor in tensors_of([list(state.policy.parameters()), validation, optimizer])}
        seen.append((problem.device, found))
        return train(problem, outer, state, validation, *rest)

    monkeypatch.setattr(command, "meta_train", meta_train)
    return seen


def tensors_of(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    below = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return [tensor for part in below for tensor in tensors_of(part)]


def read_checkpoint(folder):
    """As it lies on disk: every tensor where it was."""
    return torch.load(folder / "checkpoint.pt", weights_only=True)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("policy=meta_sgd", "inner.hypergradient=checkpointing", "inner.batch_size=null"),
        ("inner.engine=higher",),
        ("policy=torch_optimizer", "inner.engine=higher"),
        ("policy=global", "inner.hypergradient=forward", "evaluation.baseline_init=fresh"),
    ],
    ids=["default", "learned_init", "higher", "torch_optimizer", "forward"],
)
def test_a_run_is_all_on_its_device_and_its_files_are_not(elsewhere, devices, overrides, tmp_path):
    folder = tmp_path / "run"
    with apart():
        assert train_small(folder, "device=cuda", *overrides) == 0
    assert devices == [(ELSEWHERE, {ELSEWHERE})]
    content = read_checkpoint(folder)
    assert {tensor.device for tensor in tensors_of(content)} == {CPU}
    assert tensors_of(content["optimizer"])
    policy, _ = load_policy_file(folder / "policy.safetensors")
    assert policy.keys() == content["best"].keys()
    assert all((tensor == 1).all() for tensor in policy.values()), "what is read of the device is all 1"
    assert json.loads((folder / "results.json").read_text())["methods"].keys() == {"policy", "sgd", "adam", "tuned"}


def test_a_checkpoint_goes_on_on_another_device(elsewhere, devices, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, apart():
        patch.setattr(StopRequest, "__call__", lambda self: setattr(self, "signal", signal.SIGTERM) or True)
        assert train_small(folder) == 143
        for device in ("cuda", "cuda", "cpu"):
            assert run_train(f"resume={folder}", f"device={device}") == 143
    assert {tensor.device for tensor in tensors_of(read_checkpoint(folder)["optimizer"])} == {CPU}
    assert read_config(folder / "config.yaml").device == "cpu"
    assert run_train(f"resume={folder}") == 0  # the fourth iteration was the last
    assert devices == [(device, {device}) for device in (CPU, ELSEWHERE, ELSEWHERE, CPU, CPU)]
    assert [row["iteration"] for row in read_metrics(folder / "metrics.jsonl") if row["kind"] == "meta_train"] == [
        1, 2, 3, 4,
    ]  # fmt: skip


def test_an_evaluation_is_all_on_its_device(elsewhere, tmp_path):
    assert train_small(tmp_path / "run", "evaluation.n_tasks=0") == 0
    with apart():
        assert evaluate_small(tmp_path / "run", tmp_path / "evaluation", "device=cuda") == 0
    assert (tmp_path / "evaluation" / "results.json").exists()


def test_convolutions_are_measured_on_the_device(elsewhere, devices, tmp_path):
    folder = tmp_path / "run"
    with apart():
        none = ("outer.iterations=0", "evaluation.n_tasks=0")
        assert run_train(f"run_dir={folder}", "device=cuda", *CONV4, *none) == 0
    assert devices == [(ELSEWHERE, {ELSEWHERE})]
    assert "measured" in json.loads((folder / "plan.json").read_text())["why"]


def test_equal_seeds_give_equal_tasks_on_every_device(elsewhere, tmp_path, monkeypatch):
    generators = {}

    def meta_train(problem, outer, state, *rest):
        generators[problem.device] = state.generator.get_state()
        return done(problem, outer, state, *rest)

    done = command.meta_train
    monkeypatch.setattr(command, "meta_train", meta_train)
    for device in ("cuda", "cpu"):
        with apart():
            assert train_small(tmp_path / device, f"device={device}", "evaluation.n_tasks=0") == 0
    assert torch.equal(generators[CPU], generators[ELSEWHERE])
    states = [read_checkpoint(tmp_path / device)["generator"] for device in ("cuda", "cpu")]
    assert torch.equal(*states)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "gpu"])
def test_a_device_that_is_not_there_ends_a_run_before_it_begins(device, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    folder = tmp_path / "run"
    assert train_small(folder, f"device={device}") == 2
    assert f"device is '{device}'" in error_line(capsys)
    assert not folder.exists()


def test_so_it_does_with_an_evaluation_and_a_resumed_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    folder = tmp_path / "run"
    assert run_train(f"run_dir={folder}", *SMALL, "outer.iterations=0", "evaluation.n_tasks=0") == 0
    capsys.readouterr()
    assert run_train(f"resume={folder}", "device=cuda") == 2
    assert "device is 'cuda', but torch finds no GPU here; use device=cpu" in error_line(capsys)
    assert evaluate_small(folder, tmp_path / "evaluation", "device=cuda") == 2
    assert "device is 'cuda', but torch finds no GPU here; use device=cpu" in error_line(capsys)
    assert not (tmp_path / "evaluation").exists()
