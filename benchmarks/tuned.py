"""How far the baseline `tuned` depends on where it starts: the same clean digits, from two initialisations.

    python benchmarks/tuned.py [--seeds 0 1 2] [--out runs/tuned] [--json results/tuned.json]

A policy with a learned initial scale is meta-trained on digits without noise. Then `tuned` is searched and compared on
its held-out tasks twice, from the policy's initialisations and from torch's. What is in the output folder already is
not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import machine
from search import searched
from seeds import ROOT, cell, run

from metaopt.files import write_text

STARTS = ("policy", "fresh")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/tuned"))
    parser.add_argument("--json", type=Path, default=Path("results/tuned.json"))
    arguments = parser.parse_args()
    found = {start: {seed: tuned(seed, start, arguments.out) for seed in arguments.seeds} for start in STARTS}
    record = {
        "command": " ".join(["python", "benchmarks/tuned.py", *sys.argv[1:]]),
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=True
        ).stdout.strip(),
        "machine": machine(),
        "tuned": found,
    }
    write_text(arguments.json, json.dumps(record, indent=1) + "\n")
    print(table(found))


def tuned(seed: int, start: str, out: Path) -> dict[str, Any]:
    """What `results.json` says of `tuned` for a seed and a kind of initialisation."""
    policy = out / f"seed-{seed}"
    run(seed, policy, ["tasks.noise=0", "policy=role", "policy.init.mode=scaled", "evaluation.n_tasks=0"])
    words = ["n_tasks=200", "baselines=[tuned]", f"baseline_init={start}"]
    return searched(seed, policy, words, start)["methods"]["tuned"]


def table(found: dict[str, dict[int, dict[str, Any]]]) -> str:
    """Markdown: a row for each initialisation, a column for each seed."""
    seeds = list(next(iter(found.values())))
    lines = ["| `tuned` starts from | " + " | ".join(f"seed {seed}" for seed in seeds) + " |"]
    lines.append("| --- |" + " --- |" * len(seeds))
    lines += [f"| {start} | " + " | ".join(map(cell, row.values())) + " |" for start, row in found.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
