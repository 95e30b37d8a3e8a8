import json

import papers
import published
import pytest
import seeds
from hydra import compose, initialize_config_dir

from metaopt.commands.launch import config_folder
from metaopt.config.build import check_engine
from metaopt.config.load import evaluate_config, train_config

ROWS = {row.name: row for row in papers.ROWS}


def settings(name, words):
    with initialize_config_dir(str(config_folder()), version_base=None):
        return compose(name, overrides=list(words))


def record(mean, measure="loss", n_tasks=600, notes=()):
    scored = {"mean": mean, "ci95": [mean - 0.05, mean + 0.05]}
    policy = {"loss": scored, "accuracy": scored if measure == "accuracy" else None}
    return {"n_tasks": n_tasks, "notes": list(notes), "methods": {"policy": policy}}


def finish(folder):
    """Makes what a run writes last, after all of its results."""
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "meta_training.png").touch()


@pytest.fixture
def commands(monkeypatch):
    """What would be run, instead of running it: each leaves a results.json with the number of runs as its loss."""
    called = []

    def script(name, words):
        called.append((name, words))
        (folder,) = (published.Path(w.partition("=")[2]) for w in words if w.startswith(("run_dir=", "resume=")))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").touch()
        finish(folder)
        (folder / "results.json").write_text(json.dumps(record(len(called))))

    monkeypatch.setattr(seeds, "script", script)
    monkeypatch.setattr(published, "script", script)
    return called


@pytest.mark.parametrize("row", papers.ROWS, ids=lambda row: row.name)
def test_the_run_of_each_row_is_of_what_the_row_says(row):
    config = train_config(settings("train", row.training.words))
    check_engine(config.policy.settings(), config.inner)
    assert config.policy.name == row.method
    assert row.table.startswith(config.tasks.name)
    assert config.evaluation.baselines == []
    assert config.evaluation.n_tasks >= 600
    shots = config.tasks.support
    if row.evaluate:
        raw = settings("evaluate", ["checkpoint=x", f"tasks={config.tasks.name}", *row.evaluate])
        scored = evaluate_config(raw)
        shots = scored.tasks.support
        assert scored.n_tasks >= 600
    assert row.table.endswith(f"_{shots}shot")
    if row.measure == "accuracy":
        assert f"_{config.tasks.n_way}way_" in row.table
        assert 50 < row.paper < 100
    else:
        assert config.inner.horizon == 1
        assert (config.tasks.distribution == "meta_sgd") == ("frequency" in row.table)


def test_rows_have_names_of_their_own():
    assert len(ROWS) == len(papers.ROWS)


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["sinusoid_5shot/maml"], ["sinusoid_5shot/maml"]),
        (["sinusoid_frequency_5shot"], ["sinusoid_frequency_5shot/meta_sgd"]),
        (
            ["*/layer_lr", "sinusoid_5shot/maml"],
            ["sinusoid_5shot/maml", "sinusoid_5shot/layer_lr", "sinusoid_10shot/layer_lr"],
        ),
    ],
)
def test_rows_are_chosen_by_name_table_and_pattern(patterns, names):
    assert [row.name for row in published.chosen(patterns)] == names


def test_a_row_that_there_is_not_is_named():
    with pytest.raises(SystemExit, match="--rows sinusoid_6shot: there is no such row"):
        published.chosen(["sinusoid_5shot/maml", "sinusoid_6shot"])


def test_what_is_finished_is_read_and_what_was_interrupted_is_gone_on_with(commands, tmp_path):
    row = ROWS["sinusoid_5shot/maml"]
    interrupted = tmp_path / row.name / "seed-1"
    interrupted.mkdir(parents=True)
    (interrupted / "config.yaml").touch()
    measured = published.measure(row, [0, 1], tmp_path, ["threads=1"])
    first, second = commands
    assert first[1][:3] == [f"run_dir={tmp_path / row.name / 'seed-0'}", "seed=0", "tracking=none"]
    assert first[1][3:] == [*row.training.words, "threads=1"]
    assert second[1] == [f"resume={interrupted}"]
    again = published.measure(row, [0, 1], tmp_path, ["threads=2"])
    assert len(commands) == 2
    assert again == measured
    assert [(each.mean.mean, each.n_tasks) for each in measured] == [(1.5, 600)]


def test_results_of_other_settings_are_not_taken_for_these(commands, tmp_path):
    row = ROWS["sinusoid_5shot/maml"]
    published.measure(row, [0], tmp_path, [])
    with pytest.raises(SystemExit, match=r"was made with .* and not with .*outer.lr=0.1.*--out"):
        published.measure(row, [0], tmp_path, ["outer.lr=0.1"])


def test_one_training_serves_the_rows_that_only_evaluate(commands, tmp_path):
    for shots in (5, 10, 20):
        published.measure(ROWS[f"sinusoid_frequency_{shots}shot/meta_sgd"], [3], tmp_path, [])
    assert [name for name, _ in commands] == ["train_meta.py", "evaluate.py", "evaluate.py"]
    trained = tmp_path / "sinusoid_frequency_5shot" / "meta_sgd" / "seed-3"
    for shots, (_, words) in zip((10, 20), commands[1:], strict=True):
        assert words[0] == f"checkpoint={trained}"
        assert {"seed=3", f"tasks.support={shots}"} <= set(words)
        assert f"run_dir={tmp_path}/sinusoid_frequency_{shots}shot/meta_sgd/seed-3" in words


def test_a_run_that_begins_with_another_ones_policy_comes_after_it(commands, tmp_path):
    for shots in (1, 5):
        published.meta_train(ROWS[f"omniglot_5way_{shots}shot/meta_sgd"].training, 3, tmp_path, ["tasks.root=x"])
    names = ("omniglot_5way_5shot/meta_sgd_16x16", "omniglot_5way_5shot/meta_sgd", "omniglot_5way_1shot/meta_sgd")
    folders = [tmp_path / name / "seed-3" for name in names]
    assert [words[0] for _, words in commands] == [f"run_dir={folder}" for folder in folders]
    begun = [[word for word in words if word.startswith("outer.start=")] for _, words in commands]
    assert begun == [[], [f"outer.start={folders[0]}"], [f"outer.start={folders[1]}"]]
    assert all({"seed=3", "tasks.root=x"} <= set(words) for _, words in commands)


def test_what_is_to_be_typed_for_a_row_names_all_of_its_runs():
    lines = published.command(ROWS["omniglot_5way_1shot/meta_sgd"]).split(" && ")
    names = [[word for word in line.split() if "RUN" in word] for line in lines]
    assert names == [["run_dir=RUN_1"], ["outer.start=RUN_1", "run_dir=RUN_2"], ["outer.start=RUN_2"]]
    assert [line.split()[2] for line in lines] == [f"experiment=omniglot_5way_{n}shot" for n in (5, 5, 1)]
    lines = published.command(ROWS["sinusoid_frequency_10shot/meta_sgd"]).split(" && ")
    names = [[word for word in line.split() if "RUN" in word] for line in lines]
    assert names == [["run_dir=RUN_1"], ["checkpoint=RUN_1"]]


@pytest.mark.parametrize("row", papers.ROWS, ids=lambda row: row.name)
def test_a_policy_that_another_run_begins_with_is_of_the_same_kind(row):
    training = row.training
    while training.start:
        own, before = (train_config(settings("train", each.words)) for each in (training, training.start))
        assert (own.policy.settings(), own.model) == (before.policy.settings(), before.model)
        training = training.start


def test_tables_show_ours_beside_the_papers():
    loss, accuracy = ROWS["sinusoid_5shot/maml"], ROWS["omniglot_20way_1shot/lslr"]
    seen = {0: published.Interval(0.6, 0.55, 0.65), 1: published.Interval(0.7, 0.6, 0.8)}
    rows = [
        published.Measured(loss, seen, published.Interval(0.65, 0.6, 0.7), 600, ""),
        published.Measured(accuracy, seen, published.Interval(97.0, 96.5, 97.5), 600, "transductive"),
    ]
    lines = published.markdown(rows).splitlines()
    assert lines[0].startswith("| row | paper | ours | seed 0 | seed 1 | notes | command |")
    assert "| 0.686 | **0.650 ± 0.050** | 0.600 ± 0.050 | 0.700 ± 0.100 |" in lines[2]
    assert "policy=maml 'evaluation.baselines=[]'" in lines[2], "brackets mean something to a shell"
    assert "| 97.65 % | 97.00 ± 0.50 % |" in lines[3]
    assert "| transductive, of MAML++" in lines[3]
    assert published.table(rows).row_count == 2


def test_both_kinds_of_batch_statistics_have_a_line(commands, tmp_path):
    row = ROWS["omniglot_5way_1shot/maml"]
    for seed, (first, second) in enumerate([(0.99, 0.97), (0.97, 0.95)]):
        folder = tmp_path / row.name / f"seed-{seed}"
        finish(folder)
        for name, mean, way in [("", first, "transductive"), ("_inductive", second, "inductive")]:
            text = json.dumps(record(mean, "accuracy") | {"batch_statistics": way})
            (folder / f"results{name}.json").write_text(text)
    measured = published.measure(row, [0, 1], tmp_path, [])
    assert not commands
    assert [(each.statistics, round(each.mean.mean, 6)) for each in measured] == [
        ("transductive", 98.0),
        ("inductive", 96.0),
    ]
    assert published.table(measured).row_count == 2


def test_the_record_says_where_the_test_sets_statistics_were_used():
    assert published.statistics(record(0.9) | {"batch_statistics": "inductive"}) == "inductive"
    assert published.statistics(record(0.9) | {"batch_statistics": None}) == ""
    note = "batch normalisation by the batch's own statistics: a prediction sees the whole test set's inputs"
    assert published.statistics(record(0.9, "accuracy", notes=[note])) == "transductive"
    assert published.statistics(record(0.9)) == ""
