"""A policy on tables that it has never seen, against baselines and against a random search on each table of its own.

    python benchmarks/tables.py tasks.root=DIR
    python benchmarks/tables.py experiment=tabular_regression tasks.root=DIR --out runs/regression --trials 5 25

Each seed draws its own split of the tables. `random N` tries N settings on every single table, from torch's own
initialisation, and keeps the best by the query rows, which the policy never looks at: by their loss for the loss,
and by their accuracy for the accuracy. Means and intervals are over tables. A run that is finished is not repeated.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from rich.progress import track
from seeds import run
from torch import Tensor

from metaopt.commands.evaluate import load_source
from metaopt.config.build import build_problem, generator
from metaopt.config.load import model_config, read_config, tasks_config
from metaopt.evaluation.divergence import score_untrained
from metaopt.evaluation.records import Comparison, MethodOutcome
from metaopt.evaluation.results import results_record
from metaopt.evaluation.statistics import mean_interval
from metaopt.files import write_text
from metaopt.inner.adapt import adapt
from metaopt.outer.loop import sample
from metaopt.policies.baselines import fixed_learner
from metaopt.policies.fitting import fit_policy
from metaopt.policies.policy import Policy
from metaopt.policies.settings import PolicySettings
from metaopt.search.tuned_space import suggest
from metaopt.types import Batch, Kind, Params

EXPERIMENT = "experiment=tabular_classification"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="overrides of train_meta.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, nargs="+", default=[5, 25, 100])
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    arguments = parser.parse_intermixed_args()
    words = arguments.overrides
    if not any(word.startswith("experiment=") for word in words):
        words = [EXPERIMENT, *words]
    records = {}
    for seed in arguments.seeds:
        folder = arguments.out / f"seed-{seed}"
        trained = run(seed, folder, [f"tasks.split_seed={seed}", *words])
        records[seed] = trained["methods"] | searched(folder, seed, arguments.trials)
    folders = {seed: arguments.out / f"seed-{seed}" for seed in records}
    text = table(records, {seed: units(folder) for seed, folder in folders.items()})
    text += "\n\n" + pooled(list(folders.values()))
    write_text(arguments.out / "table.md", text + "\n")
    print(text)


def searched(folder: Path, seed: int, trials: list[int]) -> dict[str, Any]:
    """The records of a random search on each of a run's held-out tasks, after each of the numbers of trials."""
    path = folder / f"random-{'-'.join(map(str, trials))}.json"
    if not path.exists():
        record = search(folder, seed, trials)
        write_text(path, json.dumps(record, indent=2))
    return json.loads(path.read_text())


def search(folder: Path, seed: int, trials: list[int]) -> dict[str, Any]:
    source = load_source(folder)
    config = read_config(folder / "config.yaml")
    torch.set_num_threads(config.threads or torch.get_num_threads())
    card = source.card.config
    problem = build_problem(tasks_config(card["tasks"]), model_config(card["model"]), source.inner, source.card.policy)
    policy = fit_policy(source.tensors, source.card, problem.model, folder).policy
    n_tasks, stream = config.evaluation.n_tasks, generator(seed, "meta_test")
    tasks, draws = sample(problem, "meta_test", n_tasks, stream)
    members = problem.family.members_of("meta_test", n_tasks, generator(seed, "meta_test"))  # type: ignore[attr-defined]

    fresh = Policy(PolicySettings(), problem.model.shapes, problem.model.init, 1).start
    n_query = tasks.query.x.shape[1]
    both = tasks._replace(test=Batch(*(torch.cat(parts, 1) for parts in zip(tasks.query, tasks.test, strict=True))))

    def of_both(params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of the query rows and of the test rows, [2] each: trained once, scored on both."""
        query, test = (
            problem.objective.scores(params, Batch(*(values[rows] for values in batch)))
            for rows in (slice(0, n_query), slice(n_query, None))
        )
        return torch.stack([query[0], test[0]]), torch.stack([query[1], test[1]])

    def scores(learner: Any) -> np.ndarray:
        """[loss and accuracy of query and test rows, tasks]."""
        aim = problem.objective._replace(scores=of_both)
        found = adapt(learner, aim, both, draws, problem.horizon, chunk=problem.chunk)
        loss, accuracy = (values.double().cpu().numpy() for values in (found.loss, found.accuracy))
        scored = [score_untrained(loss[..., i], accuracy[..., i]) for i in range(2)]
        return np.stack([of.loss[:, -1] for of in scored] + [of.accuracy[:, -1] for of in scored])

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    tried = [
        scores(fixed_learner(fresh, suggest(study.ask())))
        for _ in track(range(max(trials)), f"random search, seed {seed}")
    ]
    query_loss, loss, query_accuracy, accuracy = np.stack(tried, 1)
    own = scores(policy)[[1, 3]]
    rows, is_regression = np.arange(n_tasks), problem.family.spec.kind is Kind.regression
    methods = {"policy": outcome("policy", *own, is_regression)}
    for n in trials:
        by_loss = query_loss[:n].argmin(0)
        by_accuracy = (query_loss[:n] / 1e6 - query_accuracy[:n]).argmin(0) if not is_regression else by_loss
        found = loss[by_loss, rows], accuracy[by_accuracy, rows]
        methods[f"random {n}"] = outcome(f"random {n}", *found, is_regression)
    comparison = Comparison(
        problem.family.name, problem.family.spec.kind.value, "meta_test", problem.family.split_hash, n_tasks,
        problem.horizon, seed, np.array([problem.horizon]), methods, members=tuple(members), unit="table",
    )  # fmt: skip
    record = results_record(comparison, {})["methods"]
    return {name: method for name, method in record.items() if name != "policy"}


def outcome(name: str, loss: np.ndarray, accuracy: np.ndarray, is_regression: bool) -> MethodOutcome:
    never = np.zeros(len(loss), dtype=bool)
    return MethodOutcome(name, "", loss, None if is_regression else accuracy, loss[:, None], never, 0.0, 0)


def units(folder: Path) -> int:
    return json.loads((folder / "results.json").read_text())["n_units"]


def table(records: dict[int, dict[str, Any]], n_units: dict[int, int]) -> str:
    """Markdown: a row for each method, loss and accuracy by seed with the paired difference to the policy."""
    head = " | ".join(f"seed {seed}, {n_units[seed]} tables" for seed in records)
    lines = [f"| method | {head} | mean of seeds |", "| --- |" + " --- |" * (len(records) + 1)]
    for name in next(iter(records.values())):
        methods = [record[name] for record in records.values()]
        means = [np.mean([m[key]["mean"] for m in methods]) for key in ("loss", "accuracy") if methods[0][key]]
        mean = f"{means[0]:.3f}" + (f" ({100 * means[1]:.1f} %)" if len(means) > 1 else "")
        lines.append(f"| {name} | " + " | ".join(cell(method) for method in methods) + f" | {mean} |")
    return "\n".join(lines)


def pooled(folders: list[Path]) -> str:
    """Markdown: each baseline against the policy over all tables that a seed held out, each table counted once."""
    rows = [row for folder in folders for row in csv.DictReader((folder / "tasks.csv").read_text().splitlines())]
    found: dict[tuple[str, str], list[list[float]]] = {}
    for row in rows:
        scores = [float(row["loss"]), float(row["accuracy"] or "nan")]
        found.setdefault((row["method"], row["member"]), []).append(scores)
    means = {key: np.mean(scores, 0) for key, scores in found.items()}
    lines = ["| method − policy | tables | loss | accuracy, points |", "| --- | --- | --- | --- |"]
    for name in dict.fromkeys(method for method, _ in means if method != "policy"):
        members = [member for method, member in means if method == name]
        differences = np.stack([means[name, member] - means["policy", member] for member in members], 1)
        loss, accuracy = mean_interval(differences[0]), mean_interval(100 * differences[1])
        points = f"{accuracy.mean:+.1f} [{accuracy.low:+.1f}, {accuracy.high:+.1f}]"
        lines.append(
            f"| {name} | {len(members)} | {loss.mean:+.3f} [{loss.low:+.3f}, {loss.high:+.3f}] "
            f"| {'–' if np.isnan(accuracy.mean) else points} |"
        )
    return "\n".join(lines)


def cell(method: dict[str, Any]) -> str:
    """Loss and accuracy, and for rivals the paired differences (method − policy), with 95 % intervals."""
    text, against = f"{method['loss']['mean']:.3f}", method["vs_policy"]
    if against is not None:
        text += f", {against['mean_difference']:+.3f} [{against['ci95'][0]:+.3f}, {against['ci95'][1]:+.3f}]"
    if method["accuracy"] is not None:
        text += f"; {100 * method['accuracy']['mean']:.1f} %"
        if against is not None:
            low, high = (100 * end for end in against["accuracy"]["ci95"])
            text += f", {100 * against['accuracy']['mean_difference']:+.1f} [{low:+.1f}, {high:+.1f}]"
    return text


if __name__ == "__main__":
    main()
