import io
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from command_helpers import FEW, ROOT, SMALL, error_line, run_evaluate, run_train, train_small
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from metaopt.commands.command_line import as_command, as_hydra_reads, expand_homes, value_of
from metaopt.commands.faults import lasting_output
from metaopt.config.build import build_tracker
from metaopt.config.schema import TrackingConfig
from metaopt.errors import ConfigError
from metaopt.outer.ranks import patience
from metaopt.tracking.wandb_tracker import mode_of_environment

NAMES = [
    "runs/epoch=1", "runs/ünï", "runs/50%", "runs/#1", "runs/a(b)", "a=1, b", "a,b", "[x]", "{a:1}", "it's", 'say "hi"',
    "back\\slash", "end\\", "q\\'x", "\\\\'", "$HOME/x", "@x", "!x", "a*b", "a:b", " lead", "trail ", "1e3", "true",
    "007", "x/", "a b", "-dash", "C:\\x\\", "a\nb",
]  # fmt: skip


def read(word):
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_taken_as_it_is_typed_and_printed_as_it_can_be_pasted(name):
    (word,) = as_hydra_reads([f"run_dir={name}"])
    assert read(word) == name
    assert value_of([word], "run_dir") == name
    script, pasted = shlex.split(as_command("train_meta.py", resume=name))[1:]
    assert script == "train_meta.py"
    assert read(as_hydra_reads([pasted])[0]) == name


@pytest.mark.parametrize("name", ["'quoted'", '"quoted"', "~odd", "null", "a${x}b", "a\\${x}", "a\\\\${x}"])
def test_printed_commands_protect_what_would_mean_more_than_a_name(name):
    pasted = shlex.split(as_command("train_meta.py", resume=name))[-1]
    assert OmegaConf.create({"resume": read(as_hydra_reads([pasted])[0])}).resume == name


@pytest.mark.parametrize(
    "words",
    [
        ["run_dir='it is'"],
        ['run_dir="a,b"'],
        ["run_dir=${oc.env:HOME}/x"],
        ["resume=null"],
        ["outer.lr=1e-3"],
        ["seed=0"],
    ],
)
def test_what_is_quoted_already_or_is_no_path_stays_as_it_is(words):
    assert as_hydra_reads(words) == words


def test_lists_of_paths_are_swept_where_that_is_asked_for():
    assert as_hydra_reads(["-m", "tasks.root=a,b"]) == ["-m", "tasks.root='a','b'"]
    assert as_hydra_reads(["-m", "run_dir=runs/a=1,ü x/b"]) == ["-m", "run_dir='runs/a=1','ü x/b'"]
    assert as_hydra_reads(["-m", "run_dir='a,b',c"]) == ["-m", "run_dir='a,b','c'"]
    assert as_hydra_reads(["-m", "run_dir=glob(*)"]) == ["-m", "run_dir=glob(*)"]
    home = os.path.expanduser("~")
    assert as_hydra_reads(["-m", "tasks.path=~/a,~/b"]) == ["-m", f"tasks.path='{home}/a','{home}/b'"]
    assert read(as_hydra_reads(["tasks.root=a,b"])[0]) == "a,b"
    assert as_hydra_reads(["-m", "tasks.root=a=1"]) == ["-m", "tasks.root='a=1'"]


def test_flags_stand_anywhere():
    words = ["outer.lr=1", "-m", "seed=0,1", "--cfg", "job", "model=mlp"]
    assert as_hydra_reads(words) == ["-m", "--cfg", "job", "outer.lr=1", "seed=0,1", "model=mlp"]
    assert as_hydra_reads(["seed=1", "--info", "all"]) == ["--info", "all", "seed=1"]
    assert as_hydra_reads(["--info", "seed=1"]) == ["--info", "seed=1"]
    assert as_hydra_reads(["--help"]) == ["--help"]


def test_home_directories_are_found_in_every_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert as_hydra_reads(["run_dir=~/x"]) == ["run_dir='/home/me/x'"]
    raw = OmegaConf.create({"tasks": {"root": "~/data", "name": "~"}, "run_dir": "a~b", "resume": None})
    expand_homes(raw)
    assert raw == {"tasks": {"root": "/home/me/data", "name": "~"}, "run_dir": "a~b", "resume": None}


def test_a_run_in_a_folder_of_any_name_says_what_can_be_pasted(tmp_path, capsys):
    folder = tmp_path / "a=1, (b) ü's"
    assert train_small(folder, "evaluation.n_tasks=0") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("On other tasks: "))
    words = shlex.split(line.removeprefix("On other tasks: "))
    assert words[:2] == ["python", "evaluate.py"]
    few = ("n_tasks=2", "search.trials=1", "search.tasks_per_trial=2", "baselines=[sgd]")
    assert run_evaluate(*words[2:], f"run_dir={tmp_path / 'e=1'}", *few) == 0
    assert (tmp_path / "e=1" / "results.json").exists()
    assert run_train(f"resume={folder}") == 0
    assert f"{folder} is complete already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "seed=0,1", "run_dir={}/file/x"], "file/x failed: Not a directory"),
        (["-m", "seed=0,1", "run_dir={}/x", "hydra/launcher=nope"], "Could not find 'hydra/launcher/nope'"),
        (["run_dir={}/dangling"], "is a link to nowhere, which does not exist"),
        (["run_dir={}/file"], "is no folder to write to"),
    ],
)
def test_what_cannot_be_written_to_is_one_line(words, message, tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert run_train(*(word.format(tmp_path) for word in words), *SMALL, *FEW) in (2, 4)
    assert message in error_line(capsys)


def test_letters_that_an_output_lacks_are_replaced(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with lasting_output():
        print("Zürich – Nord")
    assert stream.buffer.getvalue() == b"Z?rich ? Nord\n"


@pytest.mark.parametrize(
    ("word", "mode"),
    [("disabled", "disabled"), ("DRYRUN", "offline"), ("online", "online"), ("", "offline"), ("nonsense", "offline")],
)
def test_the_switch_of_wandb_counts(word, mode, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", word)
    assert mode_of_environment("offline") == mode


def test_the_switch_of_wandb_gives_way_to_what_is_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "online")
    words = [word for word in SMALL if word != "tracking=none"]
    assert run_train(f"run_dir={tmp_path / 'run'}", *words, *FEW, "evaluation.n_tasks=0", "tracking.mode=disabled") == 0
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "run" / "wandb").exists()


def test_a_wandb_that_ends_the_process_as_it_is_imported_ends_the_tracking_only(tmp_path, monkeypatch):
    (tmp_path / "wandb.py").write_text("import sys\nsys.exit('broken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    said = []
    config = TrackingConfig("wandb")
    build_tracker(config, tmp_path, {}, said.append).log({"kind": "x"}, 1)
    (line,) = said
    assert "tracking failed and is off" in line
    assert "ends the process as it is imported (broken)" in line


@pytest.mark.nightly  # it has to wait longer than processes take to begin
def test_a_process_that_is_stopped_ends_the_others_in_one_line(tmp_path):
    environment = os.environ | {"METAOPT_PATIENCE": "25", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    port = str(29_500 + os.getpid() % 2000)
    words = [sys.executable, str(ROOT / "train_meta.py"), f"run_dir={tmp_path / 'run'}", *SMALL, "threads=1"]
    words += ["outer.iterations=100000", "evaluation.n_tasks=0", "inner.compile=false"]
    logs = [(tmp_path / str(rank)).open("w") for rank in range(2)]
    processes = [
        subprocess.Popen(
            words, env=environment | {"RANK": str(rank), "MASTER_PORT": port, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL, stderr=logs[rank],
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        processes[1].send_signal(signal.SIGSTOP)
        processes[0].wait(timeout=120)
    finally:
        for process, log in zip(processes, logs, strict=True):
            process.kill()
            process.wait()
            log.close()
    err = (tmp_path / "0").read_text()
    assert processes[0].returncode == 3, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "is gone, or has not answered for 25 s" in line
    assert "Traceback" not in err


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "1e30"])
def test_patience_must_be_a_number(text, monkeypatch):
    monkeypatch.setenv("METAOPT_PATIENCE", text)
    with pytest.raises(ConfigError, match=r"METAOPT_PATIENCE is .* give a number of seconds"):
        patience()
