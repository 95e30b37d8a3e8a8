import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import metaopt

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_has_name_and_version_from_one_place(wheel):
    assert wheel.name == f"torch_metaopt-{metaopt.__version__}-py3-none-any.whl"


def test_the_wheel_carries_the_whole_configuration(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("metaopt/conf/")}
    assert packed == {f"metaopt/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}


def test_the_wheel_carries_what_the_report_is_made_from(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("metaopt/report/report.")}
    assert packed == {f"metaopt/report/report.{suffix}" for suffix in ("html.j2", "css", "js")}


def test_the_wheel_carries_the_policies_with_their_card(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.getinfo(name).file_size for name in archive.namelist() if "/pretrained/" in name}
    policies = {"tabular_classification.safetensors", "tabular_regression.safetensors"}
    assert {Path(name).name for name in packed} == {"__init__.py", "README.md", *policies}
    assert all(size < 1_000_000 for size in packed.values())


def test_an_unpacked_wheel_runs_the_same_job_elsewhere(wheel, tmp_path):
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)

    def run(module, *overrides):
        code = f"from metaopt.commands.{module} import main; main()"
        environment = os.environ | {"PYTHONPATH": str(site)}
        command = [sys.executable, "-c", code, *overrides]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    few = ("outer.iterations=1", "inner.horizon=2", "outer.meta_batch=2", "outer.validation_tasks=2")
    run("train", "run_dir=run", "tracking=none", "evaluation.n_tasks=0", *few)
    run("evaluate", "checkpoint=run", "run_dir=out", "n_tasks=2", "baselines=[sgd]")
    assert (work / "out" / "results.json").exists()
