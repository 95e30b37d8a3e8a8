"""A policy meta-trained on one family and model, evaluated unchanged on others: data, depths and widths.

    python benchmarks/transfer.py tasks.root=DIR
    python benchmarks/transfer.py tasks.root=DIR --seeds 0 --out runs/transfer policy=per_parameter

Trained is experiment=fashion_mnist unless another is given. Evaluations that are finished are not repeated.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from seeds import cell, run, script

from metaopt.files import write_text

SAME = ("tasks.n_way=3", "tasks.support=20", "tasks.query=30", "tasks.test=100", "tasks.size=14")
TARGETS: dict[str, tuple[str, ...]] = {
    "MNIST": ("tasks=mnist", *SAME),
    "digits, 8 × 8 stretched to 14 × 14": ("tasks=digits", *SAME, "tasks.noise=0"),
    "its own data, network 64-64-64-64": ("model.widths=[64,64,64,64]",),
    "its own data, network 256-256": ("model.widths=[256,256]",),
    "MNIST, network 32-32-32": ("tasks=mnist", *SAME, "model.widths=[32,32,32]"),
}
"""What the policy is evaluated on: overrides of evaluate.py."""

TERMS = ("n_tasks=100", "search.trials=30", "baseline_init=fresh")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="overrides of train_meta.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    arguments = parser.parse_intermixed_args()
    words = arguments.overrides
    if not any(word.startswith("experiment=") for word in words):
        words = ["experiment=fashion_mnist", *words]
    data = [word for word in words if word.startswith("tasks.root=")]
    records: dict[str, list[dict[str, Any]]] = {}
    for seed in arguments.seeds:
        folder = arguments.out / f"seed-{seed}"
        records.setdefault("held-out tasks of its own", []).append(run(seed, folder, words)["methods"])
        for i, (name, target) in enumerate(TARGETS.items()):
            root = data if "tasks=digits" not in target else []
            records.setdefault(name, []).append(evaluated(seed, folder, folder / f"target-{i}", [*target, *root]))
    text = table(records, arguments.seeds)
    write_text(arguments.out / "table.md", text + "\n")
    print(text)


def evaluated(seed: int, run_dir: Path, folder: Path, words: list[str]) -> dict[str, Any]:
    """The methods' records of one evaluation, made if need be."""
    if not (folder / "results.json").exists():
        script("evaluate.py", [f"checkpoint={run_dir}", f"run_dir={folder}", f"seed={seed}", *TERMS, *words])
    return json.loads((folder / "results.json").read_text())["methods"]


def table(records: dict[str, list[dict[str, Any]]], seeds: list[int]) -> str:
    """Markdown: for each target a row for each method, with loss, accuracy and paired difference for each seed."""
    lines = [
        "| evaluated on | method | " + " | ".join(f"seed {seed}" for seed in seeds) + " |",
        "| --- | --- |" + " --- |" * len(seeds),
    ]
    for target, of_seeds in records.items():
        for name in of_seeds[0]:
            cells = " | ".join(cell(methods[name]) for methods in of_seeds)
            lines.append(f"| {target if name == 'policy' else ''} | {name} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
