import os
import subprocess
import sys

import pytest
from command_helpers import ROOT, error_line, run_train

BAD = {
    "outer.learning_rate=0.1": ["outer.learning_rate", "outer.lr"],
    "outr.lr=0.1": ["outr.lr", "did you mean 'outer.lr'"],
    "outer.lr=fast": ["outer.lr", "fast"],
    "outer.iterations=2.5": ["outer.iterations", "2.5"],
    "inner.horizon=-3": ["inner.horizon", "-3", "at least 1"],
    "inner.horizon=0": ["inner.horizon", "at least 1"],
    "outer.meta_batch=0": ["outer.meta_batch", "at least 1"],
    "seed=-1": ["seed", "-1"],
    "tasks=letters": ["tasks", "letters", "digits"],
    "model=logistic": ["model", "logistic", "linear"],
    "model=transformer model.heads=5": ["model.width is 32", "model.heads", "5"],
    "model=transformer model.patch=3": ["model.patch is 3", "8 by 8"],
    "model=resnet tasks=sinusoid": ["model=resnet", "images", "model=mlp"],
    "experiment=typo": ["experiment", "typo", "sinusoid_5shot"],
    "tasks.n_way=40": ["tasks.n_way=40", "lower tasks.n_way"],
    "tasks.support=400": ["tasks.support=400", "lower"],
    "tasks=omniglot tasks.root=/nowhere": ["/nowhere", "tasks.download=true"],
    "policy.lr.value=-1": ["policy.lr.value", "-1"],
    "policy.schedule=often": ["policy.schedule", "often", "step_tensor"],
    "policy=torch_optimizer": ["inner.engine=higher"],
    "model=conv4 tasks=sinusoid": ["model=conv4", "images", "model=mlp"],
    "inner.engine=magic": ["inner.engine", "magic", "native"],
    "outer.lr=": ["outer.lr"],
    "evaluation.n_tasks=1": ["evaluation.n_tasks", "at least 2"],
}


@pytest.mark.parametrize("words", list(BAD))
def test_bad_input_is_one_clear_line_before_any_work(words, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run_train(f"run_dir={folder}", "tracking=none", *words.split()) == 2
    line = error_line(capsys)
    for part in BAD[words]:
        assert part in line
    assert not folder.exists()


def test_the_process_exits_with_the_code_and_prints_nothing_else(tmp_path):
    command = [sys.executable, str(ROOT / "train_meta.py"), "inner.horizon=-1", f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["error: inner.horizon is -1; it must be at least 1"]


def test_a_directory_that_holds_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    assert run_train(f"run_dir={tmp_path}", "tracking=none") == 2
    assert "thesis.tex" in error_line(capsys)


def test_a_run_directory_that_cannot_be_made_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run_train(f"run_dir={tmp_path / 'file' / 'run'}", "tracking=none") == 2
    assert "give another run_dir" in error_line(capsys)
