"""The policies that come with metaopt, on tables that they were not learned on, against what scikit-learn's users type.

    python benchmarks/shipped.py DIR [--kind classification|regression] [--policy FILE] [--networks 1 4] [--workers 2]

DIR holds PMLB's tables. All of them take part that are no relatives of a table that the policy was learned on, also
those that meta-training could not have used: of few rows, of many columns or classes. Of each, up to `--rows` rows are
taken and split for cross-validation. All methods see the same columns (numbers, and categories as pandas has them);
rivals get them standardised and one-hot, missing values filled in. Rivals for classification: `MLPClassifier` at its
defaults, and `LogisticRegression` with C by grid search and 5-fold cross-validation; for regression: `MLPRegressor` at
its defaults, and `Ridge` with alpha likewise. A table that is done is not repeated. Intervals are over groups of tables
that belong together, of which each counts once.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import track
from rich.table import Table as Grid
from scipy.stats import rankdata
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from metaopt import MetaTunedClassifier, MetaTunedRegressor, load_policy
from metaopt.evaluation.statistics import paired
from metaopt.files import write_text
from metaopt.tasks.registry import FAMILIES
from metaopt.tasks.tables.content import by_content, same_content
from metaopt.tasks.tables.pmlb import Filter, read_pmlb
from metaopt.tasks.tables.table import Table
from metaopt.types import Kind

LEAST_ROWS, MOST_COLUMNS, MOST_ROWS = 50, 400, 100_000
STRENGTHS = np.logspace(-4, 4, 10)
"""Candidates of C and alpha: scikit-learn's own, `LogisticRegressionCV(Cs=10)`."""


def splits_of(policy: Any, root: str) -> dict[str, set[str]]:
    """The tables of a policy's families, by split."""
    settings = policy.card.config["tasks"]
    names: dict[str, set[str]] = defaultdict(set)
    for part in (settings.get("parts") or {"": settings}).values():
        own = {key: value for key, value in part.items() if key not in ("name", "weight")}
        family = FAMILIES["tabular"](**(own | {"root": root, "synthetic": 0}))
        for split, members in family.splits.items():
            names[split] |= set(members)
    return names


def unseen(splits: dict[str, set[str]], root: str, kind: Kind) -> list[Table]:
    """The tables that have nothing to do with those that a policy was learned on."""
    found, _ = read_pmlb(root, Filter(kind, min_rows=LEAST_ROWS, max_rows=MOST_ROWS), one_hot=8, download=False)
    tables = by_content([table for table in found if table.width <= MOST_COLUMNS], with_targets=False)
    copies = {copy.name for copy, _ in same_content(tables)}
    names = splits["meta_train"] | splits["meta_validation"]
    groups = {table.group for table in tables if table.name in names}
    return [table for table in tables if table.group not in groups and table.name not in copies]


def frame_of(table: Table, rows: np.ndarray) -> pd.DataFrame:
    """Rows of a table as people have them."""
    columns: dict[str, Any] = {}
    for i, column in enumerate(table.columns):
        values = table.x[rows, i]
        if column.categories:
            codes = np.where(np.isnan(values), -1, values).astype(int)
            columns[column.name] = pd.Categorical.from_codes(codes.tolist(), list(column.categories))
        else:
            columns[column.name] = values
    return pd.DataFrame(columns)


def inputs_of(frame: pd.DataFrame) -> Any:
    """What rivals need before them."""
    texts = [name for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype)]
    numbers = [name for name in frame if name not in texts]
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()), numbers),
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), texts),
        sparse_threshold=0,
    )


def methods_of(
    kind: Kind, policy: str | None, networks: Sequence[int], frame: pd.DataFrame, seed: int
) -> dict[str, Any]:
    """The estimators, by name."""
    own = MetaTunedClassifier if kind is Kind.classification else MetaTunedRegressor
    methods: dict[str, BaseEstimator] = {
        f"{own.__name__}, {n} network{'s' * (n > 1)}": own(policy, n_networks=n, random_state=seed) for n in networks
    }
    if kind is Kind.classification:
        linear = GridSearchCV(LogisticRegression(max_iter=1000), {"C": STRENGTHS}, cv=5)
        rivals = {"MLPClassifier": MLPClassifier(random_state=seed), "LogisticRegression, tuned": linear}
    else:
        rivals = {
            "MLPRegressor": MLPRegressor(random_state=seed),
            "Ridge, tuned": GridSearchCV(Ridge(), {"alpha": STRENGTHS}, cv=5),
        }
    return methods | {name: make_pipeline(inputs_of(frame), rival) for name, rival in rivals.items()}


def folds_of(table: Table, most: int, folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to train on and rows to predict."""
    rows = np.random.default_rng(seed).permutation(table.rows)[:most]
    if table.kind is Kind.regression:
        splits = KFold(folds, shuffle=True, random_state=seed).split(rows)
    else:
        counts = np.bincount(table.y[rows], minlength=len(table.classes))
        rows = rows[counts[table.y[rows]] >= folds]  # a class with fewer rows cannot be in every fold
        splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, table.y[rows])
    for train, test in splits:
        yield rows[train], rows[test]


def scored(table: Table, args: argparse.Namespace, kind: Kind) -> dict[str, Any]:
    """Each method's scores (accuracies, or R²) on the folds of a table, and its seconds of training."""
    warnings.simplefilter("ignore", ConvergenceWarning)  # MLPClassifier has not converged after 200 epochs
    warnings.simplefilter("ignore", UserWarning)  # rare classes in the inner folds of a grid search
    scores, seconds = defaultdict(list), defaultdict(float)
    for fold, (train, test) in enumerate(folds_of(table, args.rows, args.folds, args.seed)):
        x, x_test = frame_of(table, train), frame_of(table, test)
        for name, method in methods_of(kind, args.policy, args.networks, x, args.seed + fold).items():
            begin = time.perf_counter()
            fitted = method.fit(x, table.y[train])
            seconds[name] += time.perf_counter() - begin
            scores[name].append(float(fitted.score(x_test, table.y[test])))
    about = {"group": table.group, "rows": table.rows, "columns": len(table.columns), "classes": len(table.classes)}
    return about | {"scores": dict(scores), "seconds": dict(seconds)}


def summary(records: dict[str, Any], kind: Kind, which: str = "") -> Grid:
    """Means, paired differences and mean ranks, over groups."""
    groups: dict[str, list[dict[str, float]]] = defaultdict(list)
    for record in records.values():
        groups[record["group"]].append({name: float(np.mean(s)) for name, s in record["scores"].items()})
    names = sorted(next(iter(groups.values()))[0], key=lambda name: (not name.startswith("MetaTuned"), name))
    values = np.array([[np.mean([one[name] for one in members]) for name in names] for members in groups.values()])
    own = [name for name in names if name.startswith("MetaTuned")]
    scale, unit = (100, "accuracy, %") if kind is Kind.classification else (1, "R²")
    title = f"{len(records)} tables in {len(groups)} groups{which}"
    grid = Grid("", unit, "mean rank", *(f"{name} −: [95 %], wins" for name in own), "seconds", title=title)
    digits = 2 if kind is Kind.classification else 3
    for i, name in enumerate(names):
        cells = []
        for rival in own:
            if name == rival:
                cells.append("")
                continue
            (mean, low, high), wins = paired(scale * values[:, names.index(rival)], scale * values[:, i])
            cells.append(f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}], {100 * wins:.0f} %")
        among = [j for j, other in enumerate(names) if other not in own or other == (name if name in own else own[-1])]
        ranks = np.array([rankdata(-row[among].round(6)) for row in values]).mean(0)
        spent = sum(record["seconds"][name] for record in records.values())
        rank = f"{ranks[among.index(i)]:.2f} of {len(among)}"
        grid.add_row(name, f"{scale * values[:, i].mean():.{digits}f}", rank, *cells, f"{spent:.0f}")
    return grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="the folder with PMLB's tables")
    parser.add_argument("--kind", choices=["classification", "regression"], default="classification")
    parser.add_argument("--policy", help="a policy file, or the name of one that comes with metaopt; default: that one")
    parser.add_argument("--names", nargs="+", help="these tables only; default: all")
    parser.add_argument("--networks", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rows", type=int, default=3000, help="most rows of a table")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/shipped"))
    args = parser.parse_args()
    kind, console = Kind(args.kind), Console(width=None if Console().is_terminal else 160)
    splits = splits_of(load_policy(args.policy or f"tabular_{args.kind}"), args.root)
    tables = [t for t in unseen(splits, args.root, kind) if args.names is None or t.name in args.names]
    record = args.out / f"{args.kind}.json"
    done = json.loads(record.read_text()) if record.exists() else {}
    left = sorted((table for table in tables if table.name not in done), key=lambda table: -min(table.rows, args.rows))
    work = Parallel(args.workers, return_as="generator_unordered")(
        delayed(lambda table: (table.name, scored(table, args, kind)))(table) for table in left
    )
    for name, found in track(work, "tables", total=len(left), console=console):
        done[name] = found
        write_text(record, json.dumps(done, indent=1, sort_keys=True) + "\n")
    found = {table.name: done[table.name] for table in tables}
    held_out = splits["meta_test"]
    parts = {
        ", held out": {name: one for name, one in found.items() if name in held_out},
        ", no tasks of meta-training's family": {name: one for name, one in found.items() if name not in held_out},
        "": found,
    }
    for which, part in parts.items():
        if part and (len(part) < len(found) or not which):
            console.print(summary(part, kind, which))


if __name__ == "__main__":
    main()
