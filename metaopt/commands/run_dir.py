"""The directory of a run: what may be in it, and what lies where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metaopt.errors import RunDirError

HYDRA_FILES = frozenset({"multirun.yaml"})


@dataclass(frozen=True)
class RunFiles:
    """Names of the files that a run leaves.

    Attributes:
        folder: the run directory.
    """

    folder: Path

    @property
    def config(self) -> Path:
        """The checked configuration."""
        return self.folder / "config.yaml"

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
    def figures(self) -> Path:
        """Folder of pictures."""
        return self.folder / "figures"


def new_run(folder: Path) -> RunFiles:
    """Claims a directory for a new run.

    Raises:
        RunDirError: something is there already, or it cannot be made.
    """
    files = RunFiles(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        present = sorted(path.name for path in folder.iterdir() if path.name not in HYDRA_FILES)
    except OSError as error:
        raise RunDirError(f"run_dir={folder} cannot be made ({error.strerror}); give another run_dir") from error
    if files.config.exists() or files.checkpoint.exists() or files.policy.exists() or files.results.exists():
        raise RunDirError(f"run_dir={folder} already holds a run; go on with resume={folder}, or give another run_dir")
    if present:
        raise RunDirError(f"run_dir={folder} is not empty (it holds {present[0]}); give another run_dir")
    return files


def existing_run(folder: Path) -> RunFiles:
    """The directory of a run that is to be resumed.

    Raises:
        RunDirError: there is no run in it.
    """
    files = RunFiles(folder)
    if not files.config.is_file():
        raise RunDirError(
            f"resume={folder} holds no run (no config.yaml in it); give the run directory of a run of train_meta.py"
        )
    return files


def policy_path(checkpoint: Path) -> Path:
    """The file that `checkpoint=` means: a run directory stands for its policy, or else for its checkpoint."""
    if checkpoint.is_dir():
        files = RunFiles(checkpoint)
        return files.policy if files.policy.exists() or not files.checkpoint.exists() else files.checkpoint
    return checkpoint
