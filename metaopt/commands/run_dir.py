"""The directory of a run: what may be in it, and what lies where."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metaopt.commands.command_line import as_command
from metaopt.errors import RunDirError
from metaopt.files import remove_leftovers, write_new_text, write_text
from metaopt.inner.plan import Plan
from metaopt.policies.strict_json import LONGEST, one_line, parse

HYDRA_FILES = frozenset({"multirun.yaml"})


@dataclass(frozen=True)
class RunFiles:
    """Names of the files that a run leaves.

    Attributes:
        folder: the run directory.
    """

    folder: Path

    def of_part(self, name: str) -> RunFiles:
        """Where the results of a part of a mixture lie, in a folder of its own; with "" here."""
        return RunFiles(self.folder / name) if name else self

    @property
    def config(self) -> Path:
        """The checked configuration."""
        return self.folder / "config.yaml"

    @property
    def plan(self) -> Path:
        """How hypergradients are computed, so that a resumed run goes on in the same way."""
        return self.folder / "plan.json"

    @property
    def checkpoint(self) -> Path:
        """Everything that resuming needs."""
        return self.folder / "checkpoint.pt"

    @property
    def policy(self) -> Path:
        """The result."""
        return self.folder / "policy.safetensors"

    @property
    def metrics(self) -> Path:
        """A record per iteration and meta-validation."""
        return self.folder / "metrics.jsonl"

    @property
    def results(self) -> Path:
        """The comparison on held-out tasks."""
        return self.folder / "results.json"

    @property
    def tasks(self) -> Path:
        """The comparison, task by task."""
        return self.folder / "tasks.csv"

    @property
    def inductive_results(self) -> Path:
        """The same comparison with test sets predicted by the batch statistics of the support sets."""
        return self.folder / "results_inductive.json"

    @property
    def inductive_tasks(self) -> Path:
        """That one, task by task."""
        return self.folder / "tasks_inductive.csv"

    @property
    def trials(self) -> Path:
        """Every trial of every search on held-out tasks."""
        return self.folder / "trials.csv"

    @property
    def report(self) -> Path:
        """All that an evaluation found, to be read."""
        return self.folder / "report.html"

    @property
    def cost(self) -> Path:
        """What meta-training has spent so far."""
        return self.folder / "meta_training.json"

    @property
    def training_figure(self) -> Path:
        """The picture of meta-training, which a run writes last."""
        return self.figures / "meta_training.png"

    @property
    def figures(self) -> Path:
        """Folder of pictures."""
        return self.folder / "figures"


def check_free(folder: Path) -> None:
    """Makes sure, before any work, that a new run can have `folder`. Makes nothing.

    Raises:
        RunDirError: something is there already.
    """
    files = RunFiles(folder)
    if folder.is_symlink() and not folder.exists():
        raise RunDirError(
            f"run_dir={folder} is a link to {os.readlink(folder)}, which does not exist; give another run_dir"
        )
    try:
        present = sorted(p.name for p in folder.iterdir() if not _harmless(p.name)) if folder.exists() else []
    except OSError as error:
        raise RunDirError(
            f"run_dir={folder} is no folder to write to ({error.strerror}); give another run_dir"
        ) from error
    if any(path.exists() for path in (files.config, files.checkpoint, files.policy, files.results)):
        raise RunDirError(f"run_dir={folder} already holds a run; {_ways_out(files)}")
    if present:
        raise RunDirError(f"run_dir={folder} is not empty (it holds {present[0]}); give another run_dir")


def claim(folder: Path, config: str) -> RunFiles:
    """Makes the directory of a new run by writing its configuration; of two runs that try at once, one succeeds.

    Args:
        folder: the directory.
        config: the checked configuration as YAML.

    Raises:
        RunDirError: another run was faster, or the directory cannot be made.
    """
    check_free(folder)
    files = RunFiles(folder)
    try:
        write_new_text(files.config, config)
    except FileExistsError as error:
        raise RunDirError(f"run_dir={folder} already holds a run; give another run_dir") from error
    except OSError as error:
        if files.config.exists():  # the run has begun, and can be gone on with
            raise
        raise RunDirError(f"run_dir={folder} cannot be made ({error.strerror}); give another run_dir") from error
    tidy(folder)
    return files


def existing_run(folder: Path) -> RunFiles:
    """The directory of a run that is to be resumed.

    Raises:
        RunDirError: there is no run in it.
    """
    files = RunFiles(folder)
    if not files.config.is_file():
        raise RunDirError(
            f"resume={folder} holds no run (no config.yaml in it): a run that was killed before it wrote this file has "
            "done nothing; start it again, or give the run_dir of a run of train_meta.py"
        )
    return files


def read_plan(files: RunFiles) -> Plan | None:
    """The plan that a run began with; None where it was stopped before it wrote one, and had computed nothing.

    Raises:
        RunDirError: the file is damaged.
    """
    try:
        return Plan.from_json(_read_json(files.plan))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        words = f"{files.plan} is damaged ({one_line(error)}); start the run again in another run_dir"
        raise RunDirError(words) from error


def write_plan(files: RunFiles, plan: Plan) -> None:
    """Keeps the plan of a run."""
    write_text(files.plan, json.dumps(asdict(plan), indent=2) + "\n")


def write_seconds(files: RunFiles, seconds: float, inner_steps: int) -> None:
    """Keeps what meta-training has spent, beside the policy: the policy's own bytes do not depend on the machine."""
    record = {"seconds": round(seconds, 3), "inner_steps": inner_steps}
    write_text(files.cost, json.dumps(record, indent=2) + "\n")


def read_seconds(folder: Path) -> float | None:
    """Wall time that the meta-training in this run directory has taken; None where nothing says so."""
    try:
        seconds = _read_json(RunFiles(folder).cost)["seconds"]
        return float(seconds) if isinstance(seconds, (int, float)) and seconds >= 0 else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _read_json(path: Path) -> Any:
    """What a small file of any origin says.

    Raises:
        OSError, ValueError: it cannot be read, or is no JSON, or larger or deeper than such files are.
    """
    if not path.is_file() and path.exists():
        raise ValueError("it is no file")
    with path.open("rb") as file:
        return parse(file.read(LONGEST + 1))


def policy_path(checkpoint: Path) -> Path:
    """The file that `checkpoint=` means: a run directory stands for its policy, or else for its checkpoint."""
    if checkpoint.is_dir():
        files = RunFiles(checkpoint)
        return files.policy if files.policy.exists() or not files.checkpoint.exists() else files.checkpoint
    return checkpoint


def tidy(folder: Path) -> None:
    """Removes what killed writers left here, beside the pictures, and where the parts of a mixture lie."""
    for place in (folder, *folder.glob("*/"), *folder.glob("*/figures/")):
        if place.is_dir():
            remove_leftovers(place)


def _ways_out(files: RunFiles) -> str:
    if files.metrics.exists() or files.checkpoint.exists():
        return f"go on with: {as_command('train_meta.py', resume=files.folder)}, or give another run_dir"
    return "give another run_dir"


def _harmless(name: str) -> bool:
    return name in HYDRA_FILES or name.startswith(".")
