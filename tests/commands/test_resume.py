import json
import random
import signal
import time

import pytest
import torch
from command_helpers import SMALL, error_line, run_train, start_train, train_small

from metaopt.commands import conclude as command
from metaopt.commands.interrupt import StopRequest
from metaopt.policies.file import load_policy_file

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
    assert "not from this run's configuration" in error_line(capsys)


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run that was stopped after its first iteration."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__call__", lambda self: setattr(self, "signal", signal.SIGTERM) or True)
        assert train_small(folder, "evaluation.n_tasks=0") == 143
    return folder


def test_a_resumed_run_goes_on_by_its_own_plan(stopped, capsys):
    plan = json.loads((stopped / "plan.json").read_text())
    assert plan["hypergradient"] == "reverse"
    other = plan | {"hypergradient": "checkpointing", "task_chunk": 1, "adapt_chunk": 3, "why": "by hand"}
    (stopped / "plan.json").write_text(json.dumps(other))
    capsys.readouterr()
    assert run_train(f"resume={stopped}") == 0
    assert "checkpointing, one task at a time, not compiled (by hand)" in capsys.readouterr().out
    assert json.loads((stopped / "plan.json").read_text()) == other
    _, card = load_policy_file(stopped / "policy.safetensors")
    inner = card.config["inner"]
    assert (inner["hypergradient"], inner["task_chunk"]) == ("checkpointing", 3)


def test_a_run_that_was_killed_before_it_had_a_plan_makes_one(stopped):
    (stopped / "plan.json").unlink()
    assert run_train(f"resume={stopped}") == 0
    assert json.loads((stopped / "plan.json").read_text())["hypergradient"] == "reverse"


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
