"""What a policy is worth against search on every held-out task, over several seeds: the figures that the README quotes.

    python benchmarks/search.py experiment=fashion_from_scratch tasks.root=DIR
    python benchmarks/search.py --evaluate 'search.methods=[tpe]' search.warm_start=both n_tasks=50 --out runs/warm

What stands before --evaluate goes to train_meta.py, what comes after it to evaluate.py. What is in the output folder
already is not repeated, and meta-training that was interrupted is gone on with.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from seeds import cell, check_same, run, script

SEARCH = ["n_tasks=100", "baseline_init=fresh", "search.methods=[tpe,gp]"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="overrides of train_meta.py")
    parser.add_argument("--evaluate", nargs="+", default=SEARCH, help="overrides of evaluate.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/search"))
    arguments = parser.parse_intermixed_args()
    results = {}
    for seed in arguments.seeds:
        folder = arguments.out / f"seed-{seed}"
        run(seed, folder, [*arguments.overrides, "evaluation.n_tasks=0"])
        results[seed] = searched(seed, folder, arguments.evaluate)
    print(table(results))


def searched(seed: int, policy: Path, words: list[str]) -> dict[str, Any]:
    """The results of searching beside one policy."""
    folder = policy.with_name(f"{policy.name}-searched")
    check_same(folder, words)
    if not (folder / "report.html").exists():  # which an evaluation writes last
        script("evaluate.py", [f"checkpoint={policy}", f"run_dir={folder}", f"seed={seed}", *words])
    return json.loads((folder / "results.json").read_text())


def table(results: dict[int, dict[str, Any]]) -> str:
    """Markdown: a row for each method, a column for each seed, and after how many trials searches match the policy.

    A cell holds the test loss (and accuracy), the paired difference to the policy with its 95 % interval, and the share
    of the tasks that the policy wins.
    """
    seeds = list(results)
    lines = [
        "| method | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean | trials to match, by seed |",
        "| --- |" + " --- |" * (len(seeds) + 2),
    ]
    for name in results[seeds[0]]["methods"]:
        methods = [results[seed]["methods"][name] for seed in seeds]
        mean = sum(method["loss"]["mean"] for method in methods) / len(methods)
        cells = " | ".join(won(method) for method in methods)
        lines.append(f"| {name} | {cells} | {mean:.3f} | {', '.join(matched(results[s], name) for s in seeds)} |")
    return "\n".join(lines)


def won(method: dict[str, Any]) -> str:
    """The usual cell, with the share of the tasks that the policy wins."""
    wins = "" if method["vs_policy"] is None else f", wins {100 * method['vs_policy']['win_rate']:.0f} %"
    return cell(method) + wins


def matched(result: dict[str, Any], name: str) -> str:
    """The fewest trials after which the mean test loss is no higher than the policy's."""
    account = result["search"].get("methods", {}).get(name)
    return "–" if account is None else str(account["trials_to_match"]["on_mean"] or "never")


if __name__ == "__main__":
    main()
