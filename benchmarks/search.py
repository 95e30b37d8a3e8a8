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

from seeds import cell, check_same, run, script, table

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
    print(table(results, won))
    print(matched(results))


def searched(seed: int, policy: Path, words: list[str], name: str = "searched") -> dict[str, Any]:
    """The results of searching beside one policy, in a folder of that name beside it."""
    folder = policy.with_name(f"{policy.name}-{name}")
    check_same(folder, words)
    if not (folder / "report.html").exists():  # which an evaluation writes last
        script("evaluate.py", [f"checkpoint={policy}", f"run_dir={folder}", f"seed={seed}", *words])
    return json.loads((folder / "results.json").read_text())


def won(method: dict[str, Any]) -> str:
    """The usual cell of a table, with the share of the tasks that the policy wins."""
    wins = "" if method["vs_policy"] is None else f", wins {100 * method['vs_policy']['win_rate']:.0f} %"
    return cell(method) + wins


def matched(results: dict[int, dict[str, Any]]) -> str:
    """A line for each search: the fewest trials after which its mean test loss is no higher than the policy's."""
    names = next(iter(results.values()))["search"]["methods"]
    counts = {
        name: [
            result["search"]["methods"][name]["trials_to_match"]["on_mean"] or "never" for result in results.values()
        ]
        for name in names
    }
    return "\n".join(f"{name} matches the policy after: {', '.join(map(str, found))}" for name, found in counts.items())


if __name__ == "__main__":
    main()
