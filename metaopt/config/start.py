"""Meta-training that goes on from a policy, on the tasks, model and terms of a new run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from metaopt.errors import ConfigError, PolicyFileError
from metaopt.models.model import Model
from metaopt.outer.state import load_best
from metaopt.policies.file import PolicyCard
from metaopt.policies.fitting import fit_policy
from metaopt.policies.policy import Policy
from metaopt.policies.settings import STRENGTHS, PolicySettings
from metaopt.policies.strict_json import one_line
from metaopt.pretrained import policy_file, shipped
from metaopt.tasks.family import TaskFamily

LINEAGE = "began_with"
"""Where a card's configuration says which policies there were before."""


class Start(NamedTuple):
    """A policy that meta-training begins with.

    Attributes:
        path: of its file.
        tensors: of the file.
        card: of the file.
    """

    path: Path
    tensors: dict[str, Tensor]
    card: PolicyCard

    @property
    def inner_steps(self) -> int:
        """Inner steps that it took to learn it, summed over tasks."""
        steps = self.card.config.get("meta_training_inner_steps", 0)
        return steps if type(steps) is int else 0


def read_start(start: str | None, settings: PolicySettings, horizon: int) -> Start | None:
    """Reads `outer.start`; None where there is none.

    Args:
        start: a run directory, a policy.safetensors, a checkpoint.pt (of which the best policy so far), or the name of
            a policy that comes with metaopt.
        settings: of the policy that is to be meta-trained.
        horizon: number of inner steps that it is to be meta-trained for.

    Raises:
        PolicyFileError: there is none, or it is damaged.
        ConfigError: it is another kind of policy, with the settings in which it differs and what to give for them.
    """
    if start is None:
        return None
    path = policy_file(start)
    if not path.is_file():
        raise PolicyFileError(
            f"outer.start={start}: there is no policy at {path}; give the directory of a run that has ended, a "
            f"policy.safetensors, a checkpoint.pt, or one of {', '.join(shipped())}"
        )
    tensors, card = load_best(path)
    theirs, ours = _flat(card.policy), _flat(settings)
    different = [f"policy.{key}={_written(theirs[key])}" for key in theirs if theirs[key] != ours.get(key, theirs)]
    if different:
        raise ConfigError(
            f"outer.start={start} holds a policy '{card.policy.name}' with other settings than this run's; "
            f"give {' '.join(different)}, or a policy= that has them, or leave outer.start out"
        )
    if settings.schedule != "off" and settings.schedule_knots is None and card.horizon != horizon:
        raise ConfigError(
            f"outer.start={start} has a schedule with a factor for each of {card.horizon} steps, but inner.horizon is "
            f"{horizon}; give inner.horizon={card.horizon}, or leave outer.start out"
        )
    return Start(path, tensors, card)


def begin_with(start: Start, policy: Policy, model: Model) -> str:
    """Gives a new policy, in place, the numbers of one that was learned before.

    Args:
        start: what was learned.
        policy: as it is drawn; on any device.
        model: the model that it is for.

    Returns:
        What a reader must know, in a sentence: which policy it is, and how it was matched to the model.

    Raises:
        PolicyFileError: it does not fit the model, or has nothing for a role that only another part of a mixture has.
    """
    fit = fit_policy(start.tensors, start.card, model, start.path)
    found = dict(fit.policy.named_parameters())
    missing = [name for name, _ in policy.named_parameters() if name not in found]
    if missing:
        raise PolicyFileError(
            f"the policy in {start.path} has nothing for {', '.join(missing[:4])}, which another part of the mixture "
            "has; leave outer.start out"
        )
    policy.load_state_dict({name: found[name] for name, _ in policy.named_parameters()})
    how = f" ({fit.note})" if fit.note else ""
    return f"Begins with {start.card.policy.name} of {start.path}, meta-trained on {start.card.tasks}{how}."


def with_start(card: PolicyCard, start: Start | None) -> PolicyCard:
    """The card of what begins with a policy, which says on which tasks and splits that one was learned."""
    if start is None:
        return card
    own = {"tasks": start.card.tasks, "split_hash": start.card.split_hash}
    before = [known for known in _lineage(start.card) if known != own]
    return replace(card, config=card.config | {LINEAGE: [*before, own]})


def with_lineage(card: PolicyCard, other: PolicyCard) -> PolicyCard:
    """The card with what another one says of the policies before it."""
    return replace(card, config=card.config | {LINEAGE: other.config[LINEAGE]}) if LINEAGE in other.config else card


def lineage_notes(card: PolicyCard, family: TaskFamily) -> tuple[str, ...]:
    """What a reader of a result must know of the policies that a policy began with, a sentence for each."""
    notes = []
    for known in _lineage(card):
        note = f"meta-training began with a policy that had been meta-trained on {known['tasks']}"
        parts = known["tasks"].split(" + ")  # of a mixture, whose hash is none of theirs
        if family.name in parts and known["split_hash"] != family.split_hash:
            note += (
                f", whose splits may be others (hash {known['split_hash']} instead of {family.split_hash}): held-out "
                "tasks may have been trained on"
            )
        notes.append(note)
    return tuple(notes)


def _lineage(card: PolicyCard) -> list[dict[str, str]]:
    """What a card of any origin says of it."""
    found = card.config.get(LINEAGE)
    keys = ("tasks", "split_hash")
    return [
        {key: one_line(each[key], 100) for key in keys}
        for each in (found if isinstance(found, list) else [])
        if isinstance(each, dict) and all(isinstance(each.get(key), str) for key in keys)
    ]


def _flat(settings: PolicySettings) -> dict[str, Any]:
    """What has to agree, by name of the setting: neither the name nor where learning starts, nor what is off."""
    whole = settings.to_json()
    flat: dict[str, Any] = {key: whole[key] for key in whole if key != "name" and not isinstance(whole[key], dict)}
    for name in (*STRENGTHS, "momentum"):
        part: dict[str, Any] = whole[name]
        without = {"off": ("value", "granularity"), "learned": ("value",)}.get(part["mode"], ())
        flat |= {f"{name}.{key}": part[key] for key in part if key not in without}
    flat |= {"init.mode": settings.init.mode}
    if settings.init.mode == "scaled":
        flat["init.granularity"] = settings.init.granularity
    if settings.schedule == "off":
        del flat["schedule_knots"]
    return flat


def _written(value: Any) -> str:
    """As one gives it on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
