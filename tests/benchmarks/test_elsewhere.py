import csv
import json
import sys
from types import SimpleNamespace

import elsewhere
import numpy as np
import pytest
import seeds
from hydra import compose, initialize_config_dir

from metaopt.commands.launch import config_folder
from metaopt.config.build import check_engine
from metaopt.config.load import evaluate_config, train_config

NETWORK = "MLP 32"


def write_tasks(path, **methods):
    """A tasks.csv of (losses, losses before, whether they diverged) by method."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["task", "method", "loss", "accuracy", "diverged", "loss_before"])
        for name, (losses, before, diverged) in methods.items():
            for task, cells in enumerate(zip(losses, before, diverged, strict=True)):
                rows.writerow([task, name, cells[0], 0.5, "true" if cells[2] else "false", cells[1]])


def test_a_task_is_sound_if_it_did_not_diverge_and_ended_no_higher_than_it_began(tmp_path):
    """One that has diverged has the loss before training, by which alone it would be sound."""
    write_tasks(tmp_path / "tasks.csv", policy=([0.5, 1.0, 1.1, 1.0], [1.0] * 4, [False, False, False, True]))
    assert elsewhere.read(tmp_path / "tasks.csv")["policy"].sound.tolist() == [True, True, False, False]


@pytest.mark.parametrize("network", elsewhere.NETWORKS)
def test_networks_are_such_as_evaluation_takes(network):
    words = ["checkpoint=x", *elsewhere.NETWORKS[network].words, *elsewhere.TERMS]
    with initialize_config_dir(str(config_folder()), version_base=None):
        evaluate_config(compose("evaluate", overrides=words))


@pytest.mark.parametrize("name", elsewhere.POLICIES)
def test_policies_are_such_as_meta_training_takes(name):
    words = ["experiment=fashion_mnist", f"policy={name}", *elsewhere.POLICIES[name]]
    with initialize_config_dir(str(config_folder()), version_base=None):
        config = train_config(compose("train", overrides=words))
    check_engine(config.policy.settings(), config.inner)


@pytest.fixture
def commands(monkeypatch):
    """What would be run, instead of running it: policies with losses of their own, rivals with the same for all."""
    called = []

    def script(name, words):
        called.append((name, words))
        given = dict(word.partition("=")[::2] for word in words)
        folder = elsewhere.Path(given["run_dir"])
        if name == "train_meta.py":
            (folder / "figures").mkdir(parents=True)
            (folder / "figures" / "meta_training.png").touch()
            return
        seed, sound = float(given["seed"]), [False] * 2
        methods = {"policy": ([0.1 + seed, 0.3 + seed], [2.0, 2.0], sound)}
        for rival in filter(None, given["baselines"].strip("[]").split(",")):
            methods[rival] = ([0.4 + seed, 0.8 + seed], [2.0, 2.0], sound)
        write_tasks(folder / "tasks.csv", **methods)
        (folder / "results.json").write_text(json.dumps({"methods": {name: {"trials": 7} for name in methods}}))
        (folder / "report.html").touch()

    monkeypatch.setattr(seeds, "script", script)
    monkeypatch.setattr(elsewhere, "script", script)
    monkeypatch.setattr(elsewhere, "load_policy_file", lambda path: ({}, SimpleNamespace(horizon=50)))
    return called


def go(monkeypatch, out, *words):
    monkeypatch.setattr(sys, "argv", ["elsewhere.py", "tasks.root=DIR", "--out", str(out), *words])
    elsewhere.main()


SMALL = ("--networks", NETWORK, "--factors", "0.5", "20", "--seeds", "0", "1")


def test_policies_meet_the_same_rivals_which_are_searched_once(commands, monkeypatch, tmp_path):
    go(monkeypatch, tmp_path, *SMALL, "--policy", "adaptive", "--policy", "role_normalised", "outer.lr=0.5")
    trained = [words for name, words in commands if name == "train_meta.py"]
    assert [[w for w in words if w.startswith(("policy=", "outer.lr="))] for words in trained] == [
        ["policy=adaptive", "outer.lr=0.02"],
        ["policy=role_normalised", "outer.lr=0.5"],
    ] * 2
    evaluations = [words for name, words in commands if name == "evaluate.py"]
    searched = [w for words in evaluations for w in words if w.startswith("baselines=")]
    assert searched == ["baselines=[adam,tuned]", "baselines=[]"] * 4
    assert {w for words in evaluations for w in words if w.startswith("horizon=")} == {"horizon=25", "horizon=1000"}
    assert all("tasks.root=DIR" in words for _, words in commands)


def test_where_there_is_no_search_the_table_leaves_its_column_empty(commands, monkeypatch, tmp_path):
    monkeypatch.setitem(elsewhere.NETWORKS, NETWORK, elsewhere.NETWORKS[NETWORK]._replace(trials=(3, 3, 3, 0)))
    go(monkeypatch, tmp_path, *SMALL, "--policy", "adaptive")
    rows = (tmp_path / "table.md").read_text().splitlines()[2:]
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert [(of_row[1], of_row[5][:5], of_row[6][:5]) for of_row in cells] == [
        ("25", "1.100", "1.100"),
        ("1000", "1.100", ""),
    ]
    found = json.loads((tmp_path / "table.json").read_text())
    assert ["tuned" in row["methods"] for row in found] == [True, True, False, False]


def test_the_table_is_over_the_tasks_of_all_seeds(commands, monkeypatch, tmp_path):
    go(monkeypatch, tmp_path, *SMALL, "--policy", "adaptive", "--policy", "role_normalised")
    rows = (tmp_path / "table.md").read_text().splitlines()[2:]
    assert len(rows) == 2 * 2
    for row, label in zip(rows, ["adaptive", "role_normalised"] * 2, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[0] == NETWORK
        assert cells[2:5] == [label, "0.700 (50.0 %)", "100.0 %"]
        low, high = (0.4 + side * 3.182 * np.std([0.3, 0.5] * 2, ddof=1) / 2 for side in (-1, 1))
        assert cells[5] == cells[6] == f"1.100 (50.0 %), +0.400 [{low:+.3f}, {high:+.3f}]"
    found = json.loads((tmp_path / "table.json").read_text())
    assert [(row["horizon"], row["policy"], row["seed"]) for row in found] == [
        (steps, label, seed) for steps in (25, 1000) for label in ("adaptive", "role_normalised") for seed in (0, 1)
    ]
    assert found[1]["methods"]["policy"]["loss"] == pytest.approx(1.2)
    assert found[1]["methods"]["tuned"]["vs_policy"]["mean_difference"] == pytest.approx(0.4)
    assert {row["tuned_trials"] for row in found} == {7}


def test_what_is_finished_is_not_repeated(commands, monkeypatch, tmp_path):
    go(monkeypatch, tmp_path, *SMALL)
    first = (tmp_path / "table.md").read_text()
    calls = len(commands)
    go(monkeypatch, tmp_path, *SMALL)
    assert len(commands) == calls
    assert (tmp_path / "table.md").read_text() == first
