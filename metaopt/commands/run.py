"""A run of meta-training: what it was asked for, what it is made of, and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass, replace

from metaopt.commands.lock import DirectoryLock
from metaopt.commands.run_dir import RunFiles
from metaopt.config.build import Job
from metaopt.config.schema import TrainConfig
from metaopt.policies.file import PolicyCard


@dataclass(frozen=True)
class Run:
    """A checked run that has its directory and stands where its last checkpoint left it.

    Attributes:
        config: what it was asked for.
        job: what it is made of.
        files: where they lie.
        lock: on the directory; None: another process of the same run holds it.
    """

    config: TrainConfig
    job: Job
    files: RunFiles
    lock: DirectoryLock | None = None

    @property
    def spent(self) -> int:
        """Inner steps of meta-training so far; early stopping spends fewer than were configured."""
        return self.job.state.inner_steps

    @property
    def card(self) -> PolicyCard:
        """What a policy file says of itself now."""
        return replace(self.job.card, config=self.job.card.config | {"meta_training_inner_steps": self.spent})
