"""Several seeds of one experiment, side by side in one table: the figures that the README quotes.

    python benchmarks/seeds.py [FIELD=VALUE ...]
    python benchmarks/seeds.py experiment=sinusoid_5shot --seeds 0 1 2 --out runs/sinusoid

A run that is already in the output folder is not repeated, and one that was interrupted is gone on with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OF_THE_MACHINE = ("device", "threads", "tasks.root", "tasks.download")
"""Overrides that say where and with what, and make no other result."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="overrides of train_meta.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    arguments = parser.parse_intermixed_args()
    results = {seed: run(seed, arguments.out / f"seed-{seed}", arguments.overrides) for seed in arguments.seeds}
    print(table(results))


def run(seed: int, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """The results of one seed, trained if need be."""
    check_same(folder, overrides)
    if not (folder / "figures" / "meta_training.png").exists():  # which a run writes last
        device = [word for word in overrides if word.startswith("device=")]  # all that may be given with resume=
        begun = (folder / "config.yaml").exists()
        fresh = [f"run_dir={folder}", f"seed={seed}", "tracking=none", *overrides]
        script("train_meta.py", [f"resume={folder}", *device] if begun else fresh)
    results = folder / "results.json"
    return json.loads(results.read_text()) if results.exists() else {}  # none without an evaluation


def script(name: str, words: list[str]) -> None:
    """Runs one of the command lines. Ctrl-C reaches it too, and it has the time to leave a checkpoint."""
    process = subprocess.Popen([sys.executable, str(ROOT / name), *words])
    try:
        code = process.wait()
    except KeyboardInterrupt:
        code = process.wait() or 1
    if code:
        raise SystemExit(code)


def check_same(folder: Path, overrides: list[str]) -> None:
    """Refuses a folder whose run has other settings; without this its old results would pass for those of the new."""
    note = folder.with_name(f"{folder.name}.overrides.json")
    words = sorted(word for word in overrides if word.partition("=")[0] not in OF_THE_MACHINE)
    if note.exists() and (found := json.loads(note.read_text())) != words:
        raise SystemExit(f"{folder} was made with {' '.join(found)} and not with {' '.join(words)}; give another --out")
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(words))


def table(results: dict[int, dict[str, Any]], written: Callable[[dict[str, Any]], str] | None = None) -> str:
    """Markdown: a row for each method, a column for each seed, and the mean over the seeds.

    Each cell is what is `written` of a method; as it is, the test loss (and accuracy), and for baselines the paired
    difference with its 95 % interval.
    """
    written = written or cell
    seeds = list(results)
    lines = [
        "| method | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean of seeds |",
        "| --- |" + " --- |" * (len(seeds) + 1),
    ]
    for name in results[seeds[0]]["methods"]:
        methods = [results[seed]["methods"][name] for seed in seeds]
        mean = sum(method["loss"]["mean"] for method in methods) / len(methods)
        lines.append(f"| {name} | " + " | ".join(map(written, methods)) + f" | {mean:.3f} |")
    return "\n".join(lines)


def cell(method: dict[str, Any]) -> str:
    text = f"{method['loss']['mean']:.3f}"
    if method["accuracy"] is not None:
        text += f" ({100 * method['accuracy']['mean']:.1f} %)"
    if method["vs_policy"] is not None:
        low, high = method["vs_policy"]["ci95"]
        text += f", {method['vs_policy']['mean_difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
    return text


if __name__ == "__main__":
    main()
