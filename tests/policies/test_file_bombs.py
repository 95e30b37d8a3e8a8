"""Files that were made to fill the memory, or to run code."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from file_bombs import RESET, bombs, of_json
from policy_files import with_header

from metaopt.errors import PolicyFileError
from metaopt.policies.file import SLACK, load_policy_file

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.skipif(not RESET.exists(), reason="the most memory that a process took is read from Linux's /proc")
def test_no_file_takes_more_memory_than_ten_times_its_size_and_a_little(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(HERE))), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / "file_bombs.py"), str(tmp_path)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("a control")["taken"] > 6 * SLACK
    assert found.keys() == bombs().keys() | {"a large policy"}
    for name, file in found.items():
        assert file["taken"] < 10 * file["size"] + SLACK, (name, file)
    loaded = {name for name, file in found.items() if file["outcome"] == "loaded"}
    assert "a large policy" in loaded
    # What is only long, and says nothing of what is to be made, may be read.
    assert loaded <= {name for name in [*of_json(), "a large policy"] if "too many" not in name}


class Payload:
    """What makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def as_pickle(payload, path):
    path.write_bytes(pickle.dumps(payload))


def as_pickle_in_a_header(payload, path):
    text = pickle.dumps(payload, protocol=0).decode("latin-1")
    path.write_bytes(with_header(json.dumps({"__metadata__": {"metaopt": text}})))


def as_torch_file(payload, path):
    torch.save({"policy": payload}, path)


def as_old_torch_file(payload, path):
    torch.save({"policy": payload}, path, _use_new_zipfile_serialization=False)


def as_zip(payload, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(payload))


def as_yaml(payload, path):
    path.write_text(f"_target_: pathlib.Path.touch\nself: !!python/object/apply:pathlib.Path [{payload.marker}]\n")


def as_script(payload, path):
    path.write_text(f"#!{sys.executable}\nopen({str(payload.marker)!r}, 'w')\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    "write", [as_pickle, as_pickle_in_a_header, as_torch_file, as_old_torch_file, as_zip, as_yaml, as_script]
)
def test_no_file_can_run_code(write, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "policy.safetensors"
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists(), "the payload works"
    marker.unlink()
    write(Payload(marker), path)
    with pytest.raises(PolicyFileError, match=r"is not a policy file|has damaged metadata"):
        load_policy_file(path)
    assert not marker.exists()


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")  # which opening would wait for
    (tmp_path / "nowhere").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "empty").touch()
    (tmp_path / "file").write_text("words")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "loop", tmp_path / "empty", Path("/dev/zero"), Path("\0")):
        with pytest.raises(PolicyFileError, match="is not a policy file"):
            load_policy_file(path)
    for path in (tmp_path / "nowhere", tmp_path / "nothing", tmp_path / "no" / "thing", tmp_path / "file" / "inside"):
        with pytest.raises(PolicyFileError, match=r"no policy file at|is not a policy file"):
            load_policy_file(path)


def test_a_file_that_must_not_be_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "policy.safetensors"
    path.write_text("words")

    def refuse(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # whoever runs tests as root may read everything
    with pytest.raises(PolicyFileError, match="Permission denied"):
        load_policy_file(path)
