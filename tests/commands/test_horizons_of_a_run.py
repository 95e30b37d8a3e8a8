import signal

import pytest
from command_helpers import error_line, evaluate_small, run_train, train_small

from metaopt.commands.evaluate import load_source
from metaopt.commands.interrupt import StopRequest
from metaopt.outer.metrics import read_metrics
from metaopt.policies.file import load_policy_file

HORIZONS = ("policy=adaptive", "inner.horizons=[2,3,5]", "evaluation.n_tasks=0", "inner.hypergradient=mixed")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run at several horizons that nobody interrupted."""
    folder = tmp_path_factory.mktemp("several") / "run"
    assert train_small(folder, *HORIZONS) == 0
    return folder


def drawn(folder):
    return [row["horizon"] for row in read_metrics(folder / "metrics.jsonl") if row["kind"] == "meta_train"]


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setattr(StopRequest, "__call__", lambda self: setattr(self, "signal", signal.SIGTERM) or True)
    assert train_small(folder, *HORIZONS) == 143
    for _ in range(2):
        assert run_train(f"resume={folder}") == 143
    monkeypatch.undo()
    assert run_train(f"resume={folder}") == 0
    for name in ("policy.safetensors", "metrics.jsonl"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_the_file_says_its_horizon_and_what_was_spent(whole):
    _, card = load_policy_file(whole / "policy.safetensors")
    assert card.horizon == 3
    assert card.config["inner"]["horizons"] == [2, 3, 5]
    assert load_source(whole).budget == 2 * sum(drawn(whole))
    assert load_source(whole / "checkpoint.pt").budget == 2 * sum(drawn(whole))


def test_evaluation_says_which_horizons_the_policy_knows(whole, tmp_path, capsys):
    assert evaluate_small(whole, tmp_path / "known", "horizon=5", "baselines=[sgd]") == 0
    assert "warning" not in capsys.readouterr().err
    assert evaluate_small(whole, tmp_path / "unknown", "horizon=4", "baselines=[sgd]") == 0
    assert "meta-trained for horizons 2, 3, 5 and is evaluated at 4" in " ".join(capsys.readouterr().err.split())


def test_a_schedule_is_of_one_horizon(tmp_path, capsys):
    assert train_small(tmp_path / "run", "policy=role", "inner.horizons=[2,3]") == 2
    line = error_line(capsys)
    assert "inner.horizons is [2, 3], but policy.schedule is step_role" in line
    assert "policy.schedule=off" in line
    assert train_small(tmp_path / "run", "policy=role", "policy.schedule=off", *HORIZONS[1:]) == 0


def test_no_horizon_may_be_longer_than_what_reverse_mode_compiles(tmp_path, capsys):
    words = ("inner.hypergradient=reverse", "inner.compile=true", "inner.horizons=[2,50]")
    assert train_small(tmp_path / "run", "policy=adaptive", *words) == 2
    assert "inner.horizons has 50" in error_line(capsys)
