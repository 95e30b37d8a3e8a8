"""Every model through the command line."""

import json

import pytest
import torch
from command_helpers import FEW, SMALL, error_line, evaluate_small, run_train
from table_makers import write_patients

from metaopt.tasks.registry import FAMILIES
from metaopt.types import SPLITS, Batch, Kind, TaskBatch, TaskSpec

BASE = (*(word for word in SMALL if not word.startswith("model.")), *FEW, "policy=role", "evaluation.baselines=[sgd]")
TINY = ("model.width=4", "model.heads=2", "model.depth=1")


class Sentences:
    """Tells apart sentences of six words, some of them shorter, by a word that is theirs."""

    name = "sentences"

    split_hash = "0123456789abcdef"

    def __init__(self, vocabulary: int = 8) -> None:
        self.spec = TaskSpec(Kind.classification, (6,), 2, vocabulary=vocabulary)
        self.splits = {split: [split] for split in SPLITS}

    def sample(self, split, n, generator):
        def examples(size):
            y = torch.randint(2, (n, size), generator=generator)
            x = torch.randint(2, 8, (n, size, 6), generator=generator).float()
            x[..., 0] = y
            x[:, ::2, 4:] = torch.nan
            return Batch(x, y)

        return TaskBatch(*(examples(20) for _ in range(3)))


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=linear",),
        ("model=linear", "tasks=sinusoid"),
        ("model=resnet", "model.channels=[2,4]", "evaluation.batch_statistics=inductive"),
        ("model=transformer", *TINY),
        ("model=transformer", "model.patch=4", *TINY),
        ("model=transformer", "tasks=sinusoid", *TINY),
    ],
    ids=" ".join,
)
def test_every_model_trains_and_is_evaluated(overrides, tmp_path):
    assert run_train(f"run_dir={tmp_path / 'run'}", *BASE, *overrides) == 0
    assert evaluate_small(tmp_path / "run", tmp_path / "out", "baselines=[sgd]") == 0
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert all(method["diverged"] == 0 for method in record["methods"].values())


@pytest.mark.parametrize("model", [("model=linear",), ("model=transformer", *TINY)], ids=["linear", "transformer"])
def test_tables_of_several_widths_are_taken(model, tmp_path):
    tables = write_patients(tmp_path / "tables", n=10)
    words = ("tasks=folder", f"tasks.path={tables}", *model)
    assert run_train(f"run_dir={tmp_path / 'run'}", *BASE, *words) == 0
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    assert all(method["diverged"] == 0 for method in record["methods"].values())


def test_the_others_refuse_them(tmp_path, capsys):
    tables = write_patients(tmp_path / "tables", n=10)
    assert run_train("tasks=folder", f"tasks.path={tables}", f"run_dir={tmp_path / 'run'}", "model=resnet") == 2
    assert "model=resnet needs images" in error_line(capsys)


def test_a_family_of_words_is_read_by_a_transformer_alone(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(FAMILIES, "sentences", Sentences)
    words = ("~tasks", "+tasks={name: sentences}")
    assert run_train(f"run_dir={tmp_path / 'run'}", *BASE, *words, "model=transformer", *TINY) == 0
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    assert record["methods"]["policy"]["diverged"] == 0
    capsys.readouterr()
    assert run_train(f"run_dir={tmp_path / 'mlp'}", *BASE, *words) == 2
    assert "ids of 8 words; use model=transformer" in error_line(capsys)
    fewer = ("~tasks", "+tasks={name: sentences, vocabulary: 7}")
    assert run_train(f"run_dir={tmp_path / 'few'}", *BASE, *fewer, "model=transformer", *TINY) == 2
    assert "from 0 to 6, but one is 7" in error_line(capsys)
