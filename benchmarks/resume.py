"""Kills a run at random moments, resumes it, and compares the bytes with those of a run that nobody killed.

    python benchmarks/resume.py [--kills 10] [--seed 0] [FIELD=VALUE ...]

Exits with 1 where policy.safetensors or metrics.jsonl differ.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.progress import track

ROOT = Path(__file__).resolve().parent.parent
COMPARED = ("policy.safetensors", "metrics.jsonl", "tasks.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="overrides of train_meta.py")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_intermixed_args()
    overrides = ["tracking=none", "search.trials=20", *arguments.overrides]
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        seconds = finish(f"run_dir={whole}", *overrides)
        print(f"uninterrupted: {seconds:.0f} s")
        kill_and_resume(killed, overrides, arguments.kills, seconds, random.Random(arguments.seed))
        finish(f"resume={killed}")
        different = [name for name in COMPARED if (whole / name).read_bytes() != (killed / name).read_bytes()]
    print(f"after {arguments.kills} kills: {', '.join(different) + ' differ' if different else 'the same bytes'}")
    sys.exit(1 if different else 0)


def start(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(ROOT / "train_meta.py"), *words], stdout=subprocess.DEVNULL)


def finish(*words: str) -> float:
    began = time.monotonic()
    if start(*words).wait() != 0:
        sys.exit(f"train_meta.py {' '.join(words)} failed")
    return time.monotonic() - began


def kill_and_resume(folder: Path, overrides: list[str], kills: int, seconds: float, moments: random.Random) -> None:
    """Kills at moments spread over twice the share of a whole run that each attempt has, from the very start on."""
    for _ in track(range(kills), "killing"):
        begun = (folder / "config.yaml").exists()
        process = start(*([f"resume={folder}"] if begun else [f"run_dir={folder}", *overrides]))
        wait = moments.uniform(0, 2 * seconds / kills)
        time.sleep(wait)
        process.kill()
        process.wait()
        metrics = folder / "metrics.jsonl"
        iterations = metrics.read_bytes().count(b"meta_train") if metrics.exists() else 0
        print(f"killed after {wait:.1f} s, {iterations} iterations on disk")


if __name__ == "__main__":
    main()
