import errno
import os
import sys

import pytest
from omegaconf import OmegaConf

from metaopt.commands.faults import in_words, lasting_output


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "free space"), (errno.EROFS, "writable"), (errno.EMFILE, "ulimit -n")]
)
def test_a_fault_is_told_with_its_remedy_and_the_way_on(number, remedy, tmp_path):
    raw = OmegaConf.create({"resume": None, "run_dir": str(tmp_path / "run of mine")})
    error = OSError(number, os.strerror(number), "checkpoint.pt")
    told = str(in_words(error, "train", raw))
    assert "checkpoint.pt" in told
    assert remedy in told
    assert told.endswith("then start it again")
    (tmp_path / "run of mine").mkdir()
    (tmp_path / "run of mine" / "config.yaml").touch()
    assert str(in_words(error, "train", raw)).endswith(f"train_meta.py 'resume={tmp_path}/run of mine'")
    assert "another run_dir" in str(in_words(error, "evaluate", raw))


def test_too_little_memory_is_told_as_well():
    assert "memory" in str(in_words(MemoryError(), "train"))


class Broken:
    def __init__(self, error):
        self.error = error
        self.calls = 0

    def write(self, _):
        self.calls += 1
        raise self.error

    def flush(self):
        pass

    def fileno(self):
        raise OSError("no file")


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "Broken pipe"), ValueError("closed file")])
def test_what_cannot_be_printed_is_lost_after_one_warning(error, monkeypatch, capsys):
    broken = Broken(error)
    monkeypatch.setattr("sys.stdout", broken)
    with lasting_output():
        for _ in range(3):
            print("a result")
    assert sys.stdout is broken
    assert broken.calls == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("warning: standard output")


def test_a_command_without_any_output_goes_on(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    with lasting_output():
        print("to nobody")
