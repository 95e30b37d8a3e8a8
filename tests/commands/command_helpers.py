"""Small runs through the command line, in this process or in one of its own."""

import os
import subprocess
import sys
from pathlib import Path

from metaopt.commands.evaluate import evaluate, with_groups_of_checkpoint
from metaopt.commands.launch import launch
from metaopt.commands.train import train

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "tracking=none",
    "inner.horizon=3",
    "outer.meta_batch=2",
    "outer.validate_every=2",
    "outer.validation_tasks=2",
    "outer.checkpoint_every=2",
    "search.tasks_per_trial=2",
    "model.widths=[6]",
)
FEW = ("outer.iterations=4", "evaluation.n_tasks=3", "search.trials=2")


def run_train(*overrides):
    """Exit code of `train_meta.py`."""
    return launch("train", train, list(overrides))


def train_small(run_dir, *overrides):
    """Exit code of a small run in `run_dir`."""
    return run_train(f"run_dir={run_dir}", *SMALL, *FEW, *overrides)


def run_evaluate(*overrides):
    """Exit code of `evaluate.py`."""
    return launch("evaluate", evaluate, list(overrides), prepare=with_groups_of_checkpoint)


def evaluate_small(checkpoint, run_dir, *overrides):
    """Exit code of a small evaluation with results in `run_dir`."""
    sizes = ("n_tasks=3", "search.trials=2", "search.tasks_per_trial=2")
    return run_evaluate(f"checkpoint={checkpoint}", f"run_dir={run_dir}", *sizes, *overrides)


def start_train(*overrides):
    """`train_meta.py` in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "train_meta.py"), *overrides]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def error_line(capsys):
    """What was printed as an error: one line, and no traceback."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]
