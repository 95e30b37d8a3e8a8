import json
import os
import socket
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from metaopt.errors import ConfigError
from metaopt.report.figures import save_figure
from metaopt.report.style import new_figure
from metaopt.tracking import wandb_tracker
from metaopt.tracking.guarded import Guarded
from metaopt.tracking.wandb_tracker import WandbTracker

BLOCK = 32768


@pytest.fixture(autouse=True)
def nobody(tmp_path, monkeypatch):
    """A user without a login, with an empty home."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    monkeypatch.setenv("WANDB_API_KEY", "")


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def start(run_dir):
    """The function that starts a tracker, which is closed even if the test fails."""
    with ExitStack() as stack:
        yield lambda mode="offline", **more: stack.enter_context(
            closing(WandbTracker(run_dir, {"outer": {"lr": 0.01}}, mode, **more))
        )


def stored(run_dir):
    """The records of an offline run: W&B's own messages, out of its file of blocks."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")
    data = file.read_bytes()
    records, parts, at = [], b"", 7  # behind the file's header
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:  # too short for another header
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several parts
            records.append(Record.FromString(parts))
            parts = b""
    return records


def history(run_dir):
    """What was logged: for each step its metrics."""
    rows = {}
    for record in stored(run_dir):
        if record.HasField("history"):
            row = rows.setdefault(record.history.step.num, {})
            for item in record.history.item:
                name, *field = item.nested_key or [item.key]
                value = json.loads(item.value_json)
                if field:
                    row.setdefault(name, {})[field[0]] = value
                elif not name.startswith("_"):
                    row[name] = value
    return rows


def test_records_and_histograms_are_kept_at_their_steps(run_dir, start):
    tracker = start()
    tracker.log({"kind": "meta_train", "iteration": 10, "loss": 0.5, "accuracy": None}, 10)
    values = {
        "lr/a": np.linspace(0, 1, 12).reshape(3, 4),
        "lr/b": np.array(0.25),
        "lr/c": np.array([np.nan]),
        "lr/d": np.array([np.inf, 1.0, 2.0]),
    }
    tracker.histograms(values, 10)
    tracker.log({"kind": "meta_validation", "iteration": 20, "loss": 0.25}, 20)
    tracker.close()
    rows = history(run_dir)
    assert set(rows) == {10, 20}
    assert rows[20] == {"meta_validation/loss": 0.25}
    assert set(rows[10]) == {"meta_train/loss", "lr/a", "lr/b", "lr/d"}
    assert rows[10]["meta_train/loss"] == 0.5
    assert rows[10]["lr/b"] == 0.25
    assert sum(rows[10]["lr/a"]["values"]) == 12
    assert sum(rows[10]["lr/d"]["values"]) == 2


def test_the_end_of_a_run_leaves_table_figures_and_policy(run_dir, start, tmp_path):
    policy = run_dir / "policy.safetensors"
    policy.write_bytes(b"the policy")
    figure = save_figure(new_figure(1, 1), tmp_path / "schedule.png")
    table = [{"method": "policy", "loss": 0.1, "trials": None}, {"method": "tuned", "loss": 1, "trials": 3}]
    tracker = start()
    tracker.log({"loss": 0.5}, 600)
    report = run_dir / "report.html"
    report.write_text("<html><body>what was found</body></html>")
    tracker.finish({"comparison": table, "search": []}, [figure], policy, report)
    policy.write_bytes(b"replaced before the upload")
    tracker.close()
    rows = history(run_dir)
    assert set(rows) == {600}
    assert (rows[600]["comparison"]["ncols"], rows[600]["comparison"]["nrows"]) == (3, 2)
    assert "search" not in rows[600]
    assert rows[600]["figures/schedule"]["_type"] == "image-file"
    assert rows[600]["report"]["_type"] == "html-file"
    (page,) = run_dir.rglob("media/html/*.html")
    assert "what was found" in page.read_text()
    (kept,) = [json.loads(path.read_text()) for path in run_dir.rglob("comparison*.table.json")]
    assert kept["data"] == [["policy", 0.1, None], ["tuned", 1, 3]]
    assert len(list(run_dir.rglob("media/images/**/*.png"))) == 1
    logged = [record.artifact for record in stored(run_dir) if record.HasField("artifact")]
    (artifact,) = [artifact for artifact in logged if artifact.type == "policy"]  # W&B makes one of the table, too
    (entry,) = artifact.manifest.contents
    assert entry.path == policy.name
    assert run_dir in Path(entry.local_path).parents
    assert Path(entry.local_path).read_bytes() == b"the policy"


def test_the_configuration_is_on_record_and_neither_code_nor_git_state(run_dir, start):
    start(project="mine", name="a name").close()
    (run,) = [record.run for record in stored(run_dir) if record.HasField("run")][:1]
    assert (run.project, run.display_name) == ("mine", "a name")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["outer"] == {"lr": 0.01}
    assert not run.HasField("git")
    assert list(run_dir.rglob("*.py")) == []


def test_it_says_nothing(start, capfd, tmp_path):
    tracker = start()
    tracker.log({"loss": 0.5}, 1)
    tracker.finish(
        {"comparison": [{"method": "policy", "loss": 0.1}]}, [save_figure(new_figure(1, 1), tmp_path / "a.png")], None
    )
    tracker.close()
    assert capfd.readouterr() == ("", "")


def test_offline_calls_no_server(start, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        tracker = start()
        tracker.log({"loss": 0.5}, 1)
        tracker.close()
        with pytest.raises(BlockingIOError):  # nobody has knocked
            server.accept()


def test_a_resumed_run_keeps_its_id(run_dir, start):
    for _ in range(2):
        start().close()
    names = {path.stem for path in run_dir.glob("wandb/offline-run-*/*.wandb")}
    assert names == {f"run-{(run_dir / 'wandb_id').read_text().strip()}"}


def test_an_id_that_is_given_wins(run_dir, start):
    start(resume_id="chosen").close()
    assert (run_dir / "wandb_id").read_text() == "chosen\n"
    assert list(run_dir.glob("wandb/offline-run-*/run-chosen.wandb"))


def test_online_without_a_login_is_an_error_that_names_the_remedy(start, capfd):
    with pytest.raises(ConfigError, match=r"tracking\.mode=online.*wandb login"):
        start("online")
    assert capfd.readouterr() == ("", "")


def test_a_server_that_does_not_answer_ends_the_tracking_and_not_the_run(run_dir, monkeypatch):
    monkeypatch.setattr(wandb_tracker, "INIT_SECONDS", 1.0)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    warnings = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        tracker = Guarded(lambda: WandbTracker(run_dir, {}, "online"), warnings.append)
        tracker.log({"loss": 0.5}, 1)
        tracker.close()
    assert len(warnings) == 1


def test_the_hooks_that_wandb_takes_are_given_back(start):
    before = sys.exit, sys.excepthook
    tracker = start()
    tracker.close()
    assert (sys.exit, sys.excepthook) == before
    with pytest.raises(ConfigError):
        start("online")
    assert (sys.exit, sys.excepthook) == before


def test_a_closed_tracker_takes_no_more_and_does_not_mind(run_dir, start):
    tracker = start()
    tracker.close()
    tracker.log({"loss": 0.5}, 1)
    tracker.finish({"comparison": [{"method": "policy"}]}, [], None)
    tracker.close()
    assert history(run_dir) == {}


def test_a_folder_that_cannot_be_written_to_is_an_error_with_its_name(run_dir, start, monkeypatch):
    # W&B itself would go to the system's temporary folder without a word.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=str(run_dir / "wandb")):
        start()


def test_a_file_in_the_folders_place_is_an_error(run_dir, start):
    (run_dir / "wandb").write_text("a file")
    with pytest.raises(FileExistsError):
        start()
