"""Every example runs as a newcomer would run it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from metaopt.pretrained import shipped

EXAMPLES = Path(__file__).parent.parent / "examples"
# Those that meta-train or compare estimators are tested beside these.
LOOPS = {
    "plain_loop": r"policy +test loss (\d\.\d+), accuracy (\d+\.\d) %",
    "with_lightning": r"accuracy (\d+\.\d) % on 45 wines",
    "inspect_policy": r"What it multiplies learned rates",
}

pytestmark = pytest.mark.skipif("tabular_classification" not in shipped(), reason="no policy for tables is here")


@pytest.mark.parametrize("name", LOOPS)
def test_an_example_runs_and_says_what_came_of_it(name, tmp_path):
    if name == "with_lightning":
        pytest.importorskip("pytorch_lightning")
    run = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    found = re.search(LOOPS[name], run.stdout)
    assert found, run.stdout
    if found.groups():
        assert float(found.groups()[-1]) > 80
    assert list(tmp_path.iterdir()) == []


def test_there_is_a_test_of_each():
    tested = set(LOOPS) | {"breast_cancer", "own_family"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested
