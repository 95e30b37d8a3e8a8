import errno
import os
import time

import pytest

from metaopt.files import remove_leftovers, replacing, to_disk, write_new_text, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "results.json"
    write_text(path, "old")

    def write_half():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "figures" / "curve.png"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_never_replaces_one(tmp_path, links, monkeypatch):
    def refuse(*_):
        raise PermissionError("no links here")

    if not links:
        monkeypatch.setattr("os.link", refuse)
    path = tmp_path / "run" / "config.yaml"
    write_new_text(path, "first")
    with pytest.raises(FileExistsError):
        write_new_text(path, "second")
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_text_is_written_as_it_is(tmp_path):
    path = tmp_path / "tasks.csv"
    write_text(path, "σ\nθ₀\r\n")
    assert path.read_bytes() == "σ\nθ₀\r\n".encode()


def test_an_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space") as raised:
        write_text(tmp_path / "results.json", "new")
    assert raised.value.filename == str(tmp_path / "results.json")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_syncs_no_folders_is_taken_as_it_is(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("os.fsync", refuse)
    to_disk(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Invalid"):
        to_disk(tmp_path / "file")


def test_only_what_killed_writers_left_is_removed(tmp_path):
    left, living = tmp_path / ".config-0123456789ab.yaml", tmp_path / ".wandb_id-ba9876543210"
    for path in (left, living, tmp_path / "config.yaml", tmp_path / ".config-of-mine.yaml"):
        path.touch()
    os.utime(left, (time.time() - 7200,) * 2)
    remove_leftovers(tmp_path, seconds=3600)
    assert not left.exists()
    assert living.exists()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".config-of-mine.yaml", "config.yaml"]
