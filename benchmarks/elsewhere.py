"""Policies meta-trained on one network, unchanged on networks of other depth, width and kind, and at other horizons.

    python benchmarks/elsewhere.py tasks.root=DIR
    python benchmarks/elsewhere.py tasks.root=DIR --seeds 0 --policy adaptive outer.lr=0.01 --policy role_normalised

Trained is experiment=fashion_mnist (an MLP 64-64, 50 steps) unless another is given; overrides before the first
--policy are of all meta-trainings, those after one are its own. Held against Adam at 1e-3 and against `tuned`, which is
searched for each network and horizon. All methods meet the same held-out tasks, initialisations and minibatches.

The table has a row for each network and horizon: test loss (accuracy), and for rivals the paired difference rival −
policy with its 95 % interval, over the tasks of all seeds; `sound` is the share of tasks on which training ended with
no higher a test loss than it began with. table.json has the same for each seed, and the trials behind `tuned`.
What is finished is not repeated.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from seeds import run, script

from metaopt.evaluation.statistics import paired
from metaopt.files import write_text

NETWORKS: dict[str, tuple[str, ...]] = {
    "MLP 64-64, its own": (),
    "MLP 32": ("model.widths=[32]",),
    "MLP 64-64-64-64": ("model.widths=[64,64,64,64]",),
    "MLP 256-256": ("model.widths=[256,256]",),
    "conv4, 8 channels": ("model=conv4", "model.channels=8"),
}
"""What policies are evaluated on: overrides of evaluate.py."""

TRIALS = {0.5: 30, 1: 30, 4: 20, 20: 10}
"""Trials behind `tuned` at each horizon, in units of the one that policies are trained for."""

TERMS = ("baseline_init=fresh", "search.tasks_per_trial=16", "batch_statistics=inductive")

POLICIES: dict[str, tuple[str, ...]] = {
    "adaptive": ("outer.iterations=200", "outer.lr=0.02", "inner.horizons=[25,50,100,200]"),
}
"""How to meta-train policies that need other settings than the experiment's."""


class Found(NamedTuple):
    """A method on the held-out tasks of one seed, [tasks] each.

    Attributes:
        loss: of the test set after training; of a task on which training diverged, before it.
        accuracy: likewise.
        sound: whether training ended with a finite loss that is no higher than before.
    """

    loss: np.ndarray
    accuracy: np.ndarray
    sound: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="overrides of train_meta.py, for all policies")
    parser.add_argument("--policy", nargs="+", action="append", metavar=("NAME", "FIELD=VALUE"), dest="policies")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument(
        "--factors", type=float, nargs="+", default=list(TRIALS), help="horizons, times the trained one"
    )
    parser.add_argument("--n-tasks", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("runs/elsewhere"))
    arguments = parser.parse_intermixed_args()
    policies = {" ".join(words): words for words in arguments.policies or [[name] for name in POLICIES]}
    cells: dict[tuple[str, int], dict[str, list[dict[str, Found]]]] = {}
    trials: dict[str, list[int | None]] = {}
    for seed in arguments.seeds:
        folders = {label: trained(seed, arguments.out, words, arguments.overrides) for label, words in policies.items()}
        horizon = trained_horizon(next(iter(folders.values())))
        for network in arguments.networks:
            for factor in arguments.factors:
                steps = max(1, round(factor * horizon))
                rivals: dict[str, Found] = {}
                for label, folder in folders.items():
                    baselines = [] if rivals else ["adam", *(["tuned"] if TRIALS.get(factor, 10) else [])]
                    found = evaluated(seed, folder, network, steps, factor, baselines, arguments)
                    if not rivals:  # which do not depend on the policy
                        rivals = {name: of for name, of in found.items() if name != "policy"}
                        trials.setdefault(f"{network}, {steps}", []).append(tuned_trials(folder, network, steps))
                    of_seeds = cells.setdefault((network, steps), {}).setdefault(label, [])
                    of_seeds.append({"policy": found["policy"], **rivals})
    text = table(cells)
    write_text(arguments.out / "table.md", text + "\n")
    write_text(arguments.out / "table.json", json.dumps(record(cells, arguments.seeds, trials), indent=2) + "\n")
    print(text)


def trained(seed: int, out: Path, words: list[str], overrides: list[str]) -> Path:
    """The run directory of a policy, meta-trained if need be."""
    name, *own = words
    folder = out / slug(" ".join(words)) / f"seed-{seed}"
    given = [*POLICIES.get(name, ()), *overrides, *own]
    if not any(word.startswith("experiment=") for word in given):
        given = ["experiment=fashion_mnist", *given]
    run(seed, folder, [f"policy={name}", "evaluation.n_tasks=0", *last_of_each(given)])
    return folder


def last_of_each(words: list[str]) -> list[str]:
    """Overrides of which each field is given once: as it was given last."""
    return list({word.partition("=")[0]: word for word in words}.values())


def evaluated(
    seed: int,
    run_dir: Path,
    network: str,
    steps: int,
    factor: float,
    baselines: list[str],
    arguments: argparse.Namespace,
) -> dict[str, Found]:
    """Policy and baselines on a network at a horizon; evaluated if need be."""
    folder = target(run_dir, network, steps)
    data = [word for word in arguments.overrides if word.startswith("tasks.root=")]
    words = [f"n_tasks={arguments.n_tasks}", f"baselines=[{','.join(baselines)}]", *NETWORKS[network], *data, *TERMS]
    words += [f"horizon={steps}", f"search.trials={TRIALS.get(factor, 10)}", f"seed={seed}"]
    if not (folder / "report.html").exists():  # which an evaluation writes last
        script("evaluate.py", [f"checkpoint={run_dir}", f"run_dir={folder}", *words])
    return read(folder / "tasks.csv")


def target(run_dir: Path, network: str, steps: int) -> Path:
    """Where an evaluation lies."""
    return run_dir / f"{slug(network)}-{steps}"


def slug(words: str) -> str:
    """The words as a name of a folder."""
    return re.sub(r"[^\w.=+-]+", "_", words).strip("_")


def trained_horizon(run_dir: Path) -> int:
    """The horizon that a run's policy file says."""
    from metaopt.policies.file import load_policy_file  # noqa: PLC0415 - it loads torch

    return load_policy_file(run_dir / "policy.safetensors")[1].horizon


def tuned_trials(run_dir: Path, network: str, steps: int) -> int | None:
    """Settings that the search behind `tuned` tried; never more inner steps than meta-training spent."""
    methods = json.loads((target(run_dir, network, steps) / "results.json").read_text())["methods"]
    return methods["tuned"]["trials"] if "tuned" in methods else None


def read(tasks: Path) -> dict[str, Found]:
    """The methods of a tasks.csv."""
    rows = list(csv.DictReader(tasks.read_text().splitlines()))
    found = {}
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        loss, accuracy, before = (
            np.array([float(row[key]) for row in own]) for key in ("loss", "accuracy", "loss_before")
        )
        diverged = np.array([row["diverged"] == "true" for row in own])
        found[name] = Found(loss, accuracy, ~diverged & (loss <= before))
    return found


def table(cells: dict[tuple[str, int], dict[str, list[dict[str, Found]]]]) -> str:
    """Markdown: a row for each network and horizon and policy, over the tasks of all seeds."""
    rivals = list(next(iter(next(iter(cells.values())).values()))[0])[1:]
    lines = [
        f"| network | steps | policy | loss (accuracy) | sound | {' | '.join(rivals)} |",
        "| --- | --- | --- | --- | --- |" + " --- |" * len(rivals),
    ]
    for (network, steps), policies in cells.items():
        for label, of_seeds in policies.items():
            all_seeds = {name: joined([methods[name] for methods in of_seeds]) for name in of_seeds[0]}
            policy = all_seeds["policy"]
            words = [network, str(steps), label, scores(policy), f"{100 * policy.sound.mean():.1f} %"]
            words += [f"{scores(all_seeds[name])}, {against(all_seeds[name], policy)}" for name in rivals]
            lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines)


def joined(of_seeds: list[Found]) -> Found:
    """The tasks of several seeds side by side."""
    return Found(*(np.concatenate(each) for each in zip(*of_seeds, strict=True)))


def scores(found: Found) -> str:
    return f"{found.loss.mean():.3f} ({100 * found.accuracy.mean():.1f} %)"


def against(rival: Found, policy: Found) -> str:
    difference, _ = paired(rival.loss, policy.loss)
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def record(
    cells: dict[tuple[str, int], dict[str, list[dict[str, Found]]]],
    seeds: list[int],
    trials: dict[str, list[int | None]],
) -> list[dict[str, Any]]:
    """The table's numbers seed by seed, as JSON holds them."""
    rows = []
    for (network, steps), policies in cells.items():
        for label, of_seeds in policies.items():
            for seed, methods, tried in zip(seeds, of_seeds, trials[f"{network}, {steps}"], strict=True):
                row = {"network": network, "horizon": steps, "policy": label, "seed": seed, "tuned_trials": tried}
                of_methods = {name: method_record(found, methods["policy"]) for name, found in methods.items()}
                rows.append(row | {"methods": of_methods})
    return rows


def method_record(found: Found, policy: Found) -> dict[str, Any]:
    means = {name: float(values.mean()) for name, values in found._asdict().items()}
    if found is policy:
        return means
    difference, win_rate = paired(found.loss, policy.loss)
    against = {"mean_difference": difference.mean, "ci95": [difference.low, difference.high], "win_rate": win_rate}
    return means | {"vs_policy": against}


if __name__ == "__main__":
    main()
