"""Tables for tests: as records, as data frames, and as a folder laid out like PMLB."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from metaopt.tasks.tables.table import Column, Table

REAL = Path(os.environ.get("METAOPT_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "pmlb"


def real_pmlb():
    """The folder of the real tables; skips the test where there is none."""
    if not (REAL / "index.tsv").is_file():
        pytest.skip(f"PMLB's tables are not in {REAL}; METAOPT_DATA may say where the data are")
    return str(REAL)


def make_table(name="t", rows=60, numbers=3, categories=(), classes=3, seed=0, group=None, missing=0.0):
    """A table of random content; `classes=0` makes a regression, `categories` gives the sizes of further columns."""
    rng = np.random.default_rng(seed)
    columns = [Column(f"n{i}") for i in range(numbers)]
    columns += [Column(f"c{i}", tuple(f"k{code}" for code in range(size))) for i, size in enumerate(categories)]
    parts = [rng.normal(size=(rows, numbers))] + [rng.integers(0, size, (rows, 1)) for size in categories]
    x = np.concatenate(parts, axis=1).astype(np.float64)
    x[rng.random(x.shape) < missing] = np.nan
    y = rng.permutation(np.arange(rows) % classes) if classes else rng.normal(3.0, 2.0, rows)
    return Table(name, group or name, tuple(columns), x, y, tuple(f"class{i}" for i in range(classes)))


def draw(family, split="meta_test", n=6, seed=0):
    """Tasks, and the table of each."""
    tasks = family.sample(split, n, torch.Generator().manual_seed(seed))
    return tasks, family.members_of(split, n, torch.Generator().manual_seed(seed))


def patients(rows=40, seed=0):
    """A data frame as a user would bring it: numbers, texts, and a target of two labels."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(20, 80, rows),
            "bmi": rng.normal(25, 3, rows).round(2),
            "ward": rng.choice(["east", "north", "west"], rows),
            "smoker": rng.choice(["no", "yes"], rows),
        }
    )
    frame["target"] = np.where(np.argsort(np.argsort(frame["age"])) < rows // 2, "well", "ill")
    return frame


def write_patients(folder, n=6, rows=40):
    """A folder with `n` good files, h0.csv and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        patients(rows, seed=i).to_csv(folder / f"h{i}.csv", index=False)
    return folder


def write_pmlb(root, tables, place="datasets/{0}.tsv.gz", index="index.tsv"):
    """A folder like PMLB's of (name, kind, frame); the frame has a column "target"."""
    entries = []
    for name, kind, frame in tables:
        path = root / place.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, sep="\t", index=False, compression="gzip")
        size = (len(frame), frame.shape[1] - 1, float(frame["target"].nunique()))
        entries.append((name, kind, *size))
    (root / index).parent.mkdir(parents=True, exist_ok=True)
    columns = ["dataset", "task", "n_instances", "n_features", "n_classes"]
    pd.DataFrame(entries, columns=columns).to_csv(root / index, sep="\t", index=False)
    return root


def numbers_frame(rows=60, columns=3, classes=2, seed=0):
    """A frame of numbers as PMLB's files are; `classes=0` makes a regression."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(rows, columns)).round(6), columns=[f"f{i}" for i in range(columns)])
    frame["target"] = rng.permutation(np.arange(rows) % classes) if classes else rng.normal(size=rows)
    return frame
