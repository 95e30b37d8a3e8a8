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
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from seeds import run, script

from metaopt.evaluation.statistics import paired
from metaopt.files import write_text
from metaopt.policies.file import load_policy_file

RIVALS = ("adam", "tuned")
TERMS = ("baseline_init=fresh", "batch_statistics=inductive")
FACTORS = (0.5, 1, 4, 20)
"""Horizons, in units of the one that policies are meta-trained for."""


class Network(NamedTuple):
    """What policies are evaluated on.

    Attributes:
        words: overrides of evaluate.py.
        trials: behind `tuned`, on `FACTORS`; 0: without it. Long trainings are searched less, and never with more inner
            steps than meta-training spent.
        n_tasks: held-out tasks.
        per_trial: meta-train tasks of each trial.
    """

    words: tuple[str, ...]
    trials: tuple[int, ...] = (30, 30, 20, 10)
    n_tasks: int = 50
    per_trial: int = 16


NETWORKS = {
    "MLP 64-64, its own": Network(()),
    "MLP 32": Network(("model.widths=[32]",)),
    "MLP 64-64-64-64": Network(("model.widths=[64,64,64,64]",)),
    "MLP 256-256": Network(("model.widths=[256,256]",)),
    # Whose training takes ten times as long.
    "conv4, 8 channels": Network(("model=conv4", "model.channels=8"), (15, 15, 8, 0), 20, 8),
}

SEVERAL = ("outer.lr=0.02", "inner.horizons=[25,50,100,200]")
"""Of policies that are told how long training is."""
POLICIES: dict[str, tuple[str, ...]] = {
    "adaptive": ("outer.iterations=75", *SEVERAL),
    "adaptive_normalised": ("outer.iterations=75", *SEVERAL),
    "learned_optimizer": ("outer.iterations=100", *SEVERAL, "inner.hypergradient=truncated", "inner.window=10"),
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


Cells: TypeAlias = "dict[tuple[str, int], dict[str, list[dict[str, Found]]]]"
"""By network and number of steps, by policy, for each seed: the methods."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="overrides of train_meta.py, for all policies")
    parser.add_argument("--policy", nargs="+", action="append", metavar=("NAME", "FIELD=VALUE"), dest="policies")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--factors", type=float, nargs="+", default=list(FACTORS), choices=FACTORS)
    parser.add_argument("--out", type=Path, default=Path("runs/elsewhere"))
    arguments = parser.parse_intermixed_args()
    policies = {" ".join(words): words for words in arguments.policies or [[name] for name in POLICIES]}
    data = [word for word in arguments.overrides if word.startswith("tasks.root=")]
    cells: Cells = {}
    trials: dict[tuple[str, int], list[int | None]] = {}
    for seed in arguments.seeds:
        runs = {label: trained(seed, arguments.out, words, arguments.overrides) for label, words in policies.items()}
        horizon = load_policy_file(next(iter(runs.values())) / "policy.safetensors")[1].horizon
        for network in arguments.networks:
            for factor in arguments.factors:
                steps = max(1, round(factor * horizon))
                cell = cells.setdefault((network, steps), {})
                rivals: dict[str, Found] = {}
                for i, (label, run_dir) in enumerate(runs.items()):
                    found = evaluated(seed, run_dir, network, steps, factor, data, with_rivals=i == 0)
                    if i == 0:  # rivals do not depend on the policy
                        rivals = {name: found[name] for name in RIVALS if name in found}
                        trials.setdefault((network, steps), []).append(tuned_trials(run_dir, network, steps))
                    cell.setdefault(label, []).append({"policy": found["policy"], **rivals})
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
    seed: int, run_dir: Path, network: str, steps: int, factor: float, data: list[str], with_rivals: bool
) -> dict[str, Found]:
    """A policy, and rivals if wanted, on a network at a horizon; evaluated if need be."""
    folder, on = target(run_dir, network, steps), NETWORKS[network]
    n_trials = on.trials[FACTORS.index(factor)]
    rivals = [name for name in RIVALS if with_rivals and (name != "tuned" or n_trials)]
    words = [f"horizon={steps}", f"n_tasks={on.n_tasks}", f"seed={seed}", f"baselines=[{','.join(rivals)}]"]
    words += [f"search.trials={max(1, n_trials)}", f"search.tasks_per_trial={on.per_trial}", *TERMS, *on.words, *data]
    if not (folder / "report.html").exists():  # which an evaluation writes last
        script("evaluate.py", [f"checkpoint={run_dir}", f"run_dir={folder}", *words])
    return read(folder / "tasks.csv")


def target(run_dir: Path, network: str, steps: int) -> Path:
    """Where an evaluation lies."""
    return run_dir / f"{slug(network)}-{steps}"


def slug(words: str) -> str:
    """The words as a name of a folder."""
    return re.sub(r"[^\w.+-]+", "_", words).strip("_")  # no "=", which overrides would take for theirs


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


def table(cells: Cells) -> str:
    """Markdown: a row for each network and horizon and policy, over the tasks of all seeds."""
    lines = [
        f"| network | steps | policy | loss (accuracy) | sound | {' | '.join(RIVALS)} |",
        "| --- | --- | --- | --- | --- |" + " --- |" * len(RIVALS),
    ]
    for (network, steps), policies in cells.items():
        for label, of_seeds in policies.items():
            all_seeds = {name: joined([methods[name] for methods in of_seeds]) for name in of_seeds[0]}
            policy = all_seeds["policy"]
            words = [network, str(steps), label, scores(policy), f"{100 * policy.sound.mean():.1f} %"]
            words += [against(all_seeds[name], policy) if name in all_seeds else "" for name in RIVALS]
            lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines)


def joined(of_seeds: list[Found]) -> Found:
    """The tasks of several seeds side by side."""
    return Found(*(np.concatenate(each) for each in zip(*of_seeds, strict=True)))


def scores(found: Found) -> str:
    return f"{found.loss.mean():.3f} ({100 * found.accuracy.mean():.1f} %)"


def against(rival: Found, policy: Found) -> str:
    difference, _ = paired(rival.loss, policy.loss)
    return f"{scores(rival)}, {difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def record(cells: Cells, seeds: list[int], trials: dict[tuple[str, int], list[int | None]]) -> list[dict[str, Any]]:
    """The table's numbers seed by seed, as JSON holds them."""
    rows = []
    for (network, steps), policies in cells.items():
        for label, of_seeds in policies.items():
            for seed, methods, tried in zip(seeds, of_seeds, trials[network, steps], strict=True):
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
