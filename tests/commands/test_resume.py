import json
import random
import shutil
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch
from command_helpers import SMALL, error_line, run_train, start_train, train_small

from metaopt.commands import conclude as command
from metaopt.commands.interrupt import StopRequest
from metaopt.commands.lock import DirectoryLock
from metaopt.config import build

LONG = (*SMALL, "outer.iterations=150", "evaluation.n_tasks=0", "threads=1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run_train(f"run_dir={folder}", *LONG) == 0
    return folder


def assert_equal_runs(found, whole):
    assert (found / "policy.safetensors").read_bytes() == (whole / "policy.safetensors").read_bytes()
    assert (found / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def wait_for(condition, process):
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


def test_a_run_killed_again_and_again_ends_with_the_same_bytes(whole, tmp_path):
    moments = random.Random(0)
    folder = tmp_path / "run"
    overrides = [f"run_dir={folder}", *LONG]
    for kill in range(3):
        process = start_train(*overrides)
        wait_for((folder / ("config.yaml" if kill == 0 else "checkpoint.pt")).exists, process)
        time.sleep(moments.uniform(0.0, 0.5) + (0 if kill == 0 else 3.0))
        process.kill()
        process.communicate()
        assert folder.exists()
        overrides = [f"resume={folder}"]
    assert run_train(f"resume={folder}") == 0
    assert_equal_runs(folder, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(number, whole, tmp_path):
    folder = tmp_path / "run"
    process = start_train(f"run_dir={folder}", *LONG)
    wait_for((folder / "checkpoint.pt").exists, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number, err
    assert f"resume={folder}" in out
    assert "Traceback" not in err
    assert not (folder / "policy.safetensors").exists()
    assert run_train(f"resume={folder}") == 0
    assert_equal_runs(folder, whole)


def test_a_stop_at_every_iteration_changes_nothing(tmp_path, monkeypatch):
    """Stops in this process, so that each iteration can be the one after which the run is resumed."""
    assert train_small(tmp_path / "whole", "outer.patience=3") == 0
    folder = tmp_path / "run"
    monkeypatch.setattr(StopRequest, "__call__", lambda self: setattr(self, "signal", signal.SIGTERM) or True)
    assert train_small(folder, "outer.patience=3") == 143
    for _ in range(3):
        assert run_train(f"resume={folder}") == 143
    monkeypatch.undo()
    assert run_train(f"resume={folder}") == 0
    assert_equal_runs(folder, tmp_path / "whole")
    results = [json.loads((path / "results.json").read_text()) for path in (folder, tmp_path / "whole")]
    assert results[0]["methods"]["policy"]["loss"] == results[1]["methods"]["policy"]["loss"]


def test_a_run_killed_during_the_evaluation_is_evaluated_again(tmp_path, monkeypatch):
    folder = tmp_path / "run"

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "evaluate_policy", killed)
    assert train_small(folder) == 130
    policy = (folder / "policy.safetensors").read_bytes()
    assert not (folder / "results.json").exists()
    monkeypatch.undo()
    assert run_train(f"resume={folder}") == 0
    assert (folder / "results.json").exists()
    assert (folder / "policy.safetensors").read_bytes() == policy


def test_a_complete_run_stays_as_it_is(whole, capsys):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert run_train(f"resume={whole}") == 0
    assert "complete already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_other_settings_beside_resume_are_refused(whole, capsys):
    assert run_train(f"resume={whole}", "outer.lr=0.1") == 2
    assert "outer.lr=0.1" in error_line(capsys)


def test_there_must_be_a_run_to_resume(tmp_path, capsys):
    assert run_train(f"resume={tmp_path}") == 2
    assert "no config.yaml" in error_line(capsys)


def test_a_truncated_checkpoint_is_refused(tmp_path, capsys):
    folder = tmp_path / "run"
    assert train_small(folder) == 0
    (folder / "figures" / "meta_training.png").unlink()
    checkpoint = folder / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    capsys.readouterr()
    assert run_train(f"resume={folder}") == 2
    assert "truncated" in error_line(capsys)


def test_a_checkpoint_of_another_run_is_refused(tmp_path, capsys):
    folder, other = tmp_path / "run", tmp_path / "other"
    assert train_small(folder) == 0
    assert train_small(other, "model.widths=[7]") == 0
    (folder / "figures" / "meta_training.png").unlink()
    (folder / "checkpoint.pt").write_bytes((other / "checkpoint.pt").read_bytes())
    capsys.readouterr()
    assert run_train(f"resume={folder}") == 2
    assert "is of a run with other settings: model.widths is [6] in config.yaml, and was [7]" in error_line(capsys)


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    """A run that was stopped after its first iteration."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopRequest, "__call__", lambda self: setattr(self, "signal", signal.SIGTERM) or True)
        assert train_small(folder, "evaluation.n_tasks=0") == 143
    return folder


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """Such a run, to be changed."""
    return Path(shutil.copytree(stopped_once, tmp_path / "run"))


def test_a_resumed_run_goes_on_by_the_plan_that_it_began_with(stopped, capsys, monkeypatch):
    plan = (stopped / "plan.json").read_text()
    monkeypatch.setattr(build, "plan_for", lambda *_: pytest.fail("the run is planned anew"))
    (stopped / "plan.json").write_text(json.dumps(json.loads(plan) | {"hypergradient": "checkpointing"}))
    capsys.readouterr()
    assert run_train(f"resume={stopped}") == 2
    assert "not the plan that the checkpoint was made with; delete it" in error_line(capsys)
    (stopped / "plan.json").unlink()
    assert run_train(f"resume={stopped}") == 0
    assert (stopped / "plan.json").read_text() == plan


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        ("seed: 0", "seed: 1", "seed is 1 in config.yaml, and was 0"),
        ("meta_batch: 2", "meta_batch: 3", "outer.meta_batch is 3 in config.yaml, and was 2"),
        ("noise: ", "noise: 1", "tasks.noise is 1"),
        ("iterations: 4", "iterations: 400", "outer.iterations is 400"),
        ("dtype: float32", "dtype: float64", "inner.dtype is float64"),
        ("n_tasks: 0", "n_tasks: 5", "evaluation.n_tasks is 5"),
    ],
)
def test_a_run_whose_configuration_was_edited_is_refused(was, now, words, stopped, capsys):
    config = stopped / "config.yaml"
    assert was in config.read_text()
    config.write_text(config.read_text().replace(was, now, 1))
    left = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run_train(f"resume={stopped}") == 2
    assert words in error_line(capsys)
    assert left == {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}


def test_where_a_run_computes_and_lies_may_change(stopped, tmp_path):
    config = stopped / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("threads: 1", "threads: 2").replace("log_every: 10", "log_every: 7"))
    assert config.read_text() != text
    stopped.rename(tmp_path / "elsewhere")
    assert run_train(f"resume={tmp_path / 'elsewhere'}") == 0


@pytest.mark.parametrize("damage", [None, b"", b'{"kind": "meta_validation"}\n'])
def test_metrics_that_are_not_the_runs_are_found_before_training(damage, stopped, capsys):
    metrics = stopped / "metrics.jsonl"
    metrics.unlink() if damage is None else metrics.write_bytes(damage)
    checkpoint = (stopped / "checkpoint.pt").read_bytes()
    capsys.readouterr()
    assert run_train(f"resume={stopped}") == 2
    assert "metrics.jsonl" in error_line(capsys)
    assert (stopped / "checkpoint.pt").read_bytes() == checkpoint


def test_tasks_that_have_changed_since_are_refused(stopped, capsys, monkeypatch):
    monkeypatch.setattr(build, "joint_hash", lambda _: "another")
    capsys.readouterr()
    assert run_train(f"resume={stopped}") == 2
    assert "their data have changed" in error_line(capsys)


def test_a_run_that_is_running_is_not_resumed(stopped, capsys):
    with closing(DirectoryLock(stopped, pytest.fail)):
        (stopped / ".checkpoint-0123456789ab.pt").touch()
        capsys.readouterr()
        assert run_train(f"resume={stopped}") == 2
        assert "another process is at work on the run" in error_line(capsys)
        assert (stopped / ".checkpoint-0123456789ab.pt").exists(), "what the other one writes is left alone"
    assert run_train(f"resume={stopped}") == 0
    assert not (stopped / ".checkpoint-0123456789ab.pt").exists()


@pytest.mark.parametrize("what", ["deleted", "replaced"])
def test_a_directory_that_is_gone_ends_the_run_and_is_not_made_again(what, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"

    def gone(_):
        if folder.exists() and (folder / "checkpoint.pt").exists():
            shutil.rmtree(folder)
            if what == "replaced":
                folder.mkdir()
        return False

    monkeypatch.setattr(StopRequest, "__call__", gone)
    assert train_small(folder, "evaluation.n_tasks=0", "outer.iterations=8") == 2
    assert "was deleted or moved while the run was at work" in error_line(capsys)
    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"hypergradient": "mixed"}', None],
    ids=["empty", "cut off", "list", "binary", "incomplete", "no method"],
)
def test_a_damaged_plan_is_refused(content, stopped, capsys):
    file = stopped / "plan.json"
    if content is None:
        content = json.dumps(json.loads(file.read_text()) | {"hypergradient": "magic"}).encode()
    file.write_bytes(content)
    capsys.readouterr()
    assert run_train(f"resume={stopped}") == 2
    assert "plan.json is damaged" in error_line(capsys)
    assert file.read_bytes() == content
    assert not (stopped / "policy.safetensors").exists()


def test_threads_are_those_of_the_configuration(tmp_path):
    before = torch.get_num_threads()
    try:
        assert train_small(tmp_path / "run", "threads=2", "evaluation.n_tasks=0") == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_run_that_began_with_a_policy_goes_on_without_its_file(tmp_path, monkeypatch):
    roles = ("policy=role", "policy.schedule=off")
    assert train_small(tmp_path / "first", *roles, "tasks.split_seed=2", "evaluation.n_tasks=0") == 0
    begins = (*roles, f"outer.start={tmp_path / 'first'}", "evaluation.baselines=[]")
    assert train_small(tmp_path / "whole", *begins) == 0
    monkeypatch.setattr(StopRequest, "__call__", lambda self: setattr(self, "signal", signal.SIGTERM) or True)
    folder = tmp_path / "run"
    assert train_small(folder, *begins) == 143
    monkeypatch.undo()
    (tmp_path / "first").rename(tmp_path / "gone")
    assert run_train(f"resume={folder}") == 0
    assert_equal_runs(folder, tmp_path / "whole")
    notes = json.loads((folder / "results.json").read_text())["notes"]
    assert any("held-out tasks may have been trained on" in note for note in notes)
