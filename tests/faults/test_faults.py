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


@pytest.mark.nightly
@pytest.mark.parametrize("number", ERRORS[1:], ids=lambda number: errno.errorcode[number])
def test_every_error_at_every_place_costs_nothing(runner, whole, folder, number):
    each(runner, whole, folder, number)


@pytest.mark.parametrize("limit", [1, 300, 2000, 5000])
def test_files_that_may_not_grow_cost_nothing(runner, whole, folder, limit):
    found = runner("train", f"run_dir={folder}", *SMALL, root=str(folder), limit=limit)
    assert_goes_on(runner, folder, found, whole[0])
