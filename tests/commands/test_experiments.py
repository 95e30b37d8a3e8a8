import json

import pytest
from command_helpers import ROOT, run_train
from image_files import write_mnist
from omniglot_files import write_omniglot, write_splits
from table_makers import numbers_frame, write_pmlb

EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
PRETRAINED = [name for name in EXPERIMENTS if name.startswith("pretrained_")]
FEW = (
    "tracking=none",
    "outer.iterations=3",
    "outer.meta_batch=2",
    "outer.validate_every=2",
    "outer.validation_tasks=2",
    "evaluation.n_tasks=3",
    "search.trials=2",
    "search.tasks_per_trial=2",
    "threads=1",
)


@pytest.fixture(scope="module")
def omniglot(tmp_path_factory):
    """Five characters in each split, with twenty drawings and all rotations."""
    folder = tmp_path_factory.mktemp("omniglot")
    root = write_omniglot(folder / "data", characters=5, drawings=20)
    train, val, test = (
        " ".join(f"{alphabet}/character{k:02d}" for k in range(1, 6)) for alphabet in ("Greek", "Latin", "Tengwar")
    )
    splits = write_splits(folder / "splits", train=train, val=val, test=test)
    # Turned, they are enough for twenty ways.
    return (f"tasks.root={root}", f"tasks.split_files={splits}", "tasks.rotations_meet=true", "model.channels=4")


@pytest.fixture(scope="module")
def clothes(tmp_path_factory):
    """Few images of each class, in the files of Fashion-MNIST."""
    root = tmp_path_factory.mktemp("clothes")
    write_mnist(root)
    return (f"tasks.root={root}", "tasks.support=2", "tasks.query=2", "tasks.test=2")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Four tables of each kind."""
    kinds = (("classification", 2), ("regression", 0))
    frames = [
        (f"{kind}_{i}", kind, numbers_frame(rows=300, classes=classes, seed=10 * classes + i))
        for kind, classes in kinds
        for i in range(4)
    ]
    root = tmp_path_factory.mktemp("tables")
    write_pmlb(root, [(name.replace("_", "abcd"[int(name[-1])]), kind, frame) for name, kind, frame in frames])
    return (f"tasks.root={root}",)


def test_there_are_the_experiments_that_the_readme_names():
    assert set(EXPERIMENTS) >= {
        "digits", "sinusoid_5shot", "sinusoid_10shot", "sinusoid_frequency_5shot",
        "fashion_mnist", "tabular_classification", "tabular_adaptive", "tabular_regression",
        "omniglot_5way_1shot", "omniglot_5way_5shot", "omniglot_20way_1shot", "omniglot_20way_5shot",
    }  # fmt: skip


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if name not in PRETRAINED])
def test_each_experiment_runs_for_a_few_iterations(experiment, omniglot, clothes, tables, tmp_path):
    family = experiment.split("_")[0]
    data = {"omniglot": omniglot, "fashion": clothes, "tabular": tables}.get(family, ())
    folder = tmp_path / "run"
    assert run_train(f"experiment={experiment}", f"run_dir={folder}", *FEW, *data) == 0
    results = json.loads((folder / "results.json").read_text())
    assert results["tasks"] == ("fashion_mnist" if family == "fashion" else family)
    assert results["methods"]["policy"]["diverged"] == 0
    assert len(list((folder / "figures").glob("*.png"))) >= 4


def test_the_digits_experiment_is_the_main_job_spelled_out(tmp_path):
    for name, words in (("plain", ()), ("experiment", ("experiment=digits",))):
        assert run_train(f"run_dir={tmp_path / name}", *FEW, *words) == 0
    plain, spelled = ((tmp_path / name / "policy.safetensors").read_bytes() for name in ("plain", "experiment"))
    assert plain == spelled


@pytest.mark.parametrize("experiment", PRETRAINED)
def test_what_made_the_policies_that_come_with_metaopt_runs_on_other_tables(experiment, tables, tmp_path):
    root = tables[0].removeprefix("tasks.root=")
    few = {"root": root, "support": 32, "query": 16, "test": 16, "meta_validation": "null", "meta_test": "null"}
    words = [f"tasks.parts.{part}.{key}={value}" for part in ("small", "medium", "large") for key, value in few.items()]
    if experiment == "pretrained_classification":
        words += [f"tasks.parts.{part}.synthetic=5" for part in ("small", "medium", "large")]
    words += ["inner.horizon=20", "inner.horizons=[12,20]", "inner.batch_size=8", "evaluation.n_tasks=0"]
    short = [word for word in FEW if not word.startswith(("evaluation", "outer.meta_batch", "outer.validation_tasks"))]
    sizes = ["outer.meta_batch=3", "outer.validation_tasks=3", "inner.compile=false"]
    assert run_train(f"experiment={experiment}", f"run_dir={tmp_path / 'run'}", *short, *words, *sizes) == 0
    assert (tmp_path / "run" / "policy.safetensors").exists()
