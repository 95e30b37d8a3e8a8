import json
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from command_helpers import FEW, ROOT, SMALL, error_line, run_evaluate, run_train, train_small

from metaopt.commands.interrupt import StopRequest
from metaopt.commands.together import check_devices, check_shares, first_alone, together
from metaopt.errors import ConfigError, DataError, MetaoptError
from metaopt.outer.metrics import read_metrics
from metaopt.outer.state import load_checkpoint
from metaopt.policies.file import load_policy_file

DIVIDED = ("outer.meta_batch=3", "outer.validation_tasks=3")
LONG = (*SMALL, *DIVIDED, "outer.iterations=80", "outer.validate_every=20", "evaluation.n_tasks=0")


def start(rank, port, overrides):
    """One of two processes, as torchrun starts it."""
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, str(ROOT / "train_meta.py"), *overrides]
    environment = os.environ | place | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_two(*overrides):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(rank, port, overrides) for rank in range(2)]


def end(processes):
    """Exit codes, all that was written to standard output, and the lines on standard error that are not torch's log."""
    try:
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    out, err = ("".join(texts) for texts in zip(*outputs, strict=True))
    return [process.returncode for process in processes], out, [line for line in err.splitlines() if line[:2] != "[W"]


def assert_policies_close(folder, other):
    policies = [load_policy_file(path / "policy.safetensors")[0] for path in (folder, other)]
    for name, values in policies[1].items():
        torch.testing.assert_close(policies[0][name], values, rtol=1e-3, atol=1e-4)


def test_torchrun_leaves_one_run(tmp_path):
    overrides = [*SMALL, *FEW, *DIVIDED, "evaluation.n_tasks=2", "evaluation.baselines=[sgd]"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, str(ROOT / "train_meta.py"), *overrides],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    for line in ("Meta-training per_parameter", "in 2 processes", "Policy: "):
        assert done.stdout.count(line) == 1, done.stdout
    rows = [(row["kind"], row["iteration"]) for row in read_metrics(folder / "metrics.jsonl")]
    expected = [("meta_train", k) for k in range(1, 5)] + [("meta_validation", k) for k in (0, 2, 4)]
    assert sorted(rows) == expected
    for name in ("results.json", "tasks.csv", "figures/meta_training.png"):
        assert (folder / name).exists(), name


def test_a_run_goes_on_in_two_processes_which_stop_together_and_then_in_one(tmp_path, monkeypatch):
    folder, whole = tmp_path / "run", tmp_path / "whole"
    assert run_train(f"run_dir={whole}", *LONG) == 0
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__call__", lambda self: setattr(self, "signal", signal.SIGTERM) or True)
        assert run_train(f"run_dir={folder}", *LONG) == 143
    checkpoint = folder / "checkpoint.pt"
    first = checkpoint.stat().st_mtime_ns
    processes = start_two(f"resume={folder}")
    deadline = time.monotonic() + 120
    while checkpoint.stat().st_mtime_ns == first and processes[0].poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    processes[1].send_signal(signal.SIGTERM)  # to one, and both must stop
    codes, out, err = end(processes)
    assert (codes, err) == ([143, 143], [])
    content, _ = load_checkpoint(checkpoint)
    assert 1 < content["iteration"] < 80
    assert f"stopped after iteration {content['iteration']}; go on with" in out
    assert run_train(f"resume={folder}") == 0
    rows = [row["iteration"] for row in read_metrics(folder / "metrics.jsonl") if row["kind"] == "meta_train"]
    assert rows == list(range(1, 81))
    assert_policies_close(folder, whole)


def test_several_horizons_are_those_of_one_process(tmp_path):
    folder, whole = tmp_path / "run", tmp_path / "whole"
    overrides = [*SMALL, *FEW, *DIVIDED, "policy=adaptive", "inner.horizons=[2,3,5]", "evaluation.n_tasks=0"]
    assert run_train(f"run_dir={whole}", *overrides) == 0
    codes, _, err = end(start_two(f"run_dir={folder}", *overrides))
    assert (codes, err) == ([0, 0], [])
    found, expected = (read_metrics(path / "metrics.jsonl") for path in (folder, whole))
    assert [row.get("horizon") for row in found] == [row.get("horizon") for row in expected]
    assert_policies_close(folder, whole)


def test_bad_input_that_only_the_first_process_sees_is_one_line_and_ends_both(tmp_path):
    (tmp_path / "thesis.tex").touch()
    codes, out, err = end(start_two(f"run_dir={tmp_path}", *SMALL))
    assert (codes, out) == ([2, 2], "")
    (line,) = err
    assert line.startswith("error: ")
    assert "thesis.tex" in line


@pytest.fixture(params=["0", "1"])
def rank(request, monkeypatch):
    """This process seems to be one of two; nothing that is tested with it may talk to the other."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", request.param)
    return request.param


@pytest.mark.parametrize(
    ("command", "overrides", "words"),
    [
        (train_small, ["seed=0,1", "--multirun"], "--multirun does not go with torchrun"),
        (train_small, ["outer.learning_rate=1"], "outer.learning_rate"),
        (run_evaluate, ["checkpoint=nowhere"], "without torchrun"),
    ],
    ids=["multirun", "typo", "evaluate"],
)
def test_what_every_process_refuses_is_said_once(rank, command, overrides, words, tmp_path, capsys):
    folder = tmp_path / "run"
    first = folder if command is train_small else f"run_dir={folder}"
    assert command(first, *overrides) == 2
    if rank == "0":
        assert words in error_line(capsys)
    else:
        assert capsys.readouterr().err == ""
    assert not folder.exists()


def test_each_process_needs_a_task():
    check_shares(2, SimpleNamespace(count=2))
    with pytest.raises(ConfigError, match=r"outer\.meta_batch=2 cannot be divided among 3 processes"):
        check_shares(2, SimpleNamespace(count=3))


def test_all_processes_must_compute_on_devices_of_one_kind():
    check_devices("cuda", Second("cuda"))
    for kind in ("cuda", "cpu"):
        with pytest.raises(ConfigError, match="device=auto means cpu and cuda on different machines; give device=cpu"):
            check_devices(kind, Second("cpu" if kind == "cuda" else "cuda"))


class Second:
    """The second of two processes; what the first one says is fixed."""

    rank, count = 1, 2

    def __init__(self, *said):
        self.said = list(said)
        self.heard = []

    def texts(self, own):
        self.heard.append(own)
        return [self.said.pop(0), own]

    def close(self):
        pass


def fail():
    raise DataError("no disk")


def test_what_fails_in_one_process_fails_in_all():
    assert together(Second(""), lambda: 7) == 7
    with pytest.raises(MetaoptError, match="no room"):
        together(Second("no room"), lambda: 7)
    ranks = Second("")
    with pytest.raises(DataError, match="no disk"):
        together(ranks, fail)
    assert ranks.heard == ["no disk"], "the first must hear of it"


def test_the_others_begin_when_the_first_is_done_and_follow_what_it_tells():
    ranks, heard_before = Second("", "its plan", ""), []
    assert first_alone(ranks, lambda told: heard_before.append(len(ranks.heard)) or told) == "its plan"
    assert heard_before == [2]
    with pytest.raises(MetaoptError, match="no room"):
        first_alone(Second("no room"), lambda _: pytest.fail("nothing is left to do"))


def test_all_processes_follow_the_plan_of_the_first_and_write_nothing(tmp_path, monkeypatch):
    """A plan depends on measured times. No measurement would come to this one."""
    plan = {"hypergradient": "checkpointing", "task_chunk": 7, "adapt_chunk": 5, "compile": False, "why": "told"}
    ranks, seen = Second("", json.dumps(plan), "", str(tmp_path / "run"), "", "cpu"), []
    monkeypatch.setattr("metaopt.commands.train.from_environment", lambda: ranks)
    monkeypatch.setattr("metaopt.commands.train.meta_train", lambda problem, *_: seen.append(problem) or True)
    assert train_small(tmp_path / "other") == 0
    (problem,) = seen
    assert (type(problem.hypergradient).__name__, problem.chunk) == ("Checkpointing", 5)
    assert not list(tmp_path.iterdir())
