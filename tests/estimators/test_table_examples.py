import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from metaopt.pretrained import shipped

ROOT = Path(__file__).parent.parent.parent


def printed(script, *words, cwd):
    """What an example prints, in a folder in which it must leave nothing."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / script, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert list(cwd.iterdir()) == []
    return done.stdout


def accuracies(text):
    return {name: float(mean) for name, mean in re.findall(r"(\w+(?:Classifier|Regression)) +│ ([\d.]+) ±", text)}


def test_breast_cancer_with_a_policy(adaptive, tmp_path):
    found = accuracies(printed("breast_cancer.py", adaptive, cwd=tmp_path))
    assert set(found) == {"MetaTunedClassifier", "MLPClassifier", "LogisticRegression"}
    assert min(found.values()) > 93


@pytest.mark.skipif("tabular_classification" not in shipped(), reason="the policy for tables is not in this checkout")
def test_breast_cancer_with_the_shipped_policy(tmp_path):
    assert accuracies(printed("breast_cancer.py", cwd=tmp_path))["MetaTunedClassifier"] > 95


def test_a_family_of_ones_own_is_meta_trained_and_used(tmp_path):
    text = printed("own_family.py", "outer.iterations=2", "inner.horizon=5", cwd=tmp_path)
    assert "2 iterations of 16 tasks, horizon 5" in text
    errors = dict(re.findall(r"^(the policy|MLPRegressor|LinearRegression)\S* +([\d.]+) ", text, re.MULTILINE))
    assert len(errors) == 3
    assert 0.3 < float(errors["LinearRegression"]) < 0.6
