"""Every thing that a small run does to its files fails once, and kills it once; then the run goes on."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fault_layer import content_of

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "tasks=sinusoid",
    "policy=maml",
    "tracking=none",
    "threads=1",
    "inner.horizon=2",
    "inner.compile=false",
    "outer.iterations=2",
    "outer.meta_batch=2",
    "outer.validate_every=2",
    "outer.validation_tasks=2",
    "outer.checkpoint_every=1",
    "model.widths=[4]",
    "evaluation.n_tasks=0",
)
EVALUATION = ("n_tasks=2", "baselines=[sgd]", "tracking=none", "threads=1")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EMFILE)


class Runner:
    """A process that runs commands in children of its own."""

    def __init__(self, folder):
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fault_runner.py")), str(folder), *SMALL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __call__(self, command, *overrides, **fault):
        request = {"command": command, "overrides": overrides, **fault}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.communicate()


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    started = Runner(tmp_path_factory.mktemp("runner"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("faults") / "run"


@pytest.fixture
def folder(place):
    """The same for all runs, so that their files may be, too; empty."""
    shutil.rmtree(place, ignore_errors=True)
    return place


@pytest.fixture(scope="module")
def whole(runner, place):
    """What an undisturbed run leaves, and all that it did to its files."""
    folder = place
    shutil.rmtree(folder, ignore_errors=True)  # another test may have been here first
    found = runner("train", f"run_dir={folder}", *SMALL, root=str(folder))
    assert found["code"] == 0, found["printed"]
    return content_of(folder), found["seen"]


def same_state(folder):
    """What tells a folder from those that were gone on from already: not the names of temporary files, nor times."""
    content = content_of(folder) if folder.exists() else {}
    return frozenset(
        (re.sub(r"-[0-9a-f]{12}", "", name), b"" if name == "meta_training.json" else data)
        for name, data in content.items()
    )


def assert_goes_on(runner, folder, found, whole, known=None):
    """Goes on as the error says, to the same bytes and nothing beside them."""
    begun = (folder / "config.yaml").exists()
    if begun and found["code"] >= 0:
        assert f"resume={folder}" in found["printed"]
    state = same_state(folder)
    if known is not None and state in known:
        return
    again = runner("train", *([f"resume={folder}"] if begun else [f"run_dir={folder}", *SMALL]), root=str(folder))
    assert again["code"] == 0, again["printed"]
    content = content_of(folder)
    assert content.keys() == whole.keys()
    for name in whole.keys() - {"meta_training.json"}:
        assert content[name] == whole[name], name
    if known is not None:
        known.add(state)


def assert_one_line(found, *codes):
    lines = [line for line in found["printed"].splitlines() if "error" in line.lower() or "Traceback" in line]
    assert found["code"] in codes, found
    assert len(lines) == 1, found["printed"]
    assert lines[0].startswith("error: ")
    return lines[0]


def each(runner, whole, folder, fault):
    content, seen = whole
    known = set()
    for at, what in enumerate(seen):
        if fault == "kill" and what.startswith("open"):  # leaves what a kill one thing earlier leaves
            continue
        if fault == errno.EACCES and what.startswith("fsync ") and not Path(what.split()[1]).suffix:
            continue  # a folder that may not be read can be written to, and is not synced
        found = runner("train", f"run_dir={folder}", *SMALL, root=str(folder), at=at, fault=fault)
        try:
            if fault == "kill":
                assert found["code"] == -9, found
            else:
                named = assert_one_line(found, 2, 4)
                assert str(folder) in named
                assert "/." not in named, "names a temporary file"
            assert_goes_on(runner, folder, found, content, known)
        except AssertionError as error:
            raise AssertionError(f"at {at}, {what}: {error}") from error
        if folder.exists():
            shutil.rmtree(folder)


def test_a_full_disk_at_every_place_costs_nothing(runner, whole, folder):
    each(runner, whole, folder, errno.ENOSPC)


def test_a_kill_at_every_place_costs_nothing(runner, whole, folder):
    each(runner, whole, folder, "kill")


def test_what_counts_as_written_is_on_the_disk(whole):
    """A file before its name, its name before anything that comes later, and the metrics before what counts on them."""
    _, seen = whole
    renames = [(at, *what.split()) for at, what in enumerate(seen) if what.startswith(("replace", "link"))]
    assert len(renames) >= 9
    for at, _, name in renames:
        before, after = seen[at - 1].split(), seen[at + 1].split()
        stem = Path(name).stem
        assert before[0] == "fsync"
        assert Path(before[1]).name.startswith(f".{stem}-")
        assert after == ["fsync", str(Path(name).parent)]
        if name == "checkpoint.pt":
            done = [what for what in seen[:at] if what.endswith("metrics.jsonl")]
            assert done[-1] == "fsync metrics.jsonl"


@pytest.fixture(scope="module")
def policy(runner, tmp_path_factory):
    """A run of which the policy is evaluated."""
    folder = tmp_path_factory.mktemp("policy") / "run"
    assert runner("train", f"run_dir={folder}", *SMALL, root=str(folder))["code"] == 0
    return folder


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.nightly)])
def test_a_full_disk_ends_an_evaluation_in_one_line(runner, policy, folder, every):
    given = (f"checkpoint={policy}", f"run_dir={folder}", *EVALUATION)
    found = runner("evaluate", *given, root=str(folder))
    assert found["code"] == 0, found["printed"]
    for at in range(0, len(found["seen"]), every):
        shutil.rmtree(folder)
        broken = runner("evaluate", *given, root=str(folder), at=at, fault=errno.ENOSPC)
        line = assert_one_line(broken, 2, 4)
        assert str(folder) in line
        assert "again" in line or "give another run_dir" in line
        folder.mkdir(exist_ok=True)


@pytest.mark.nightly
@pytest.mark.parametrize("number", ERRORS[1:], ids=lambda number: errno.errorcode[number])
def test_every_error_at_every_place_costs_nothing(runner, whole, folder, number):
    each(runner, whole, folder, number)


@pytest.mark.parametrize("limit", [1, 300, 2000, 5000])
def test_files_that_may_not_grow_cost_nothing(runner, whole, folder, limit):
    found = runner("train", f"run_dir={folder}", *SMALL, root=str(folder), limit=limit)
    assert_goes_on(runner, folder, found, whole[0])
