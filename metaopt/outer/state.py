"""Everything that changes during meta-training, and its checkpoint."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaopt.errors import PolicyFileError
from metaopt.files import write_bytes
from metaopt.outer.flat import flatten
from metaopt.outer.problem import OuterSettings
from metaopt.policies.file import PolicyCard, load_policy_file
from metaopt.policies.policy import Policy
from metaopt.trees import cloned, on_cpu
from metaopt.types import Params

FORMAT = 2
KIND = "metaopt-checkpoint"


@dataclass
class MetaState:
    """Where meta-training stands after `iteration` iterations.

    Attributes:
        policy: the policy at its present parameters.
        optimizer: Adam over flat vectors that hold these; each group's `part` says which numbers of the policy.
        generator: draws tasks, noise and minibatch orders.
        best: the parameters with the lowest meta-validation loss so far.
        iteration: iterations done.
        best_loss: the lowest meta-validation loss so far.
        best_iteration: where it was found.
        stale: meta-validations since then.
        dropped: tasks that have left their meta-batches so far.
        dropped_in_a_row: consecutive iterations of which no task was left.
        metrics_bytes: length of the metrics file at this point.
        finished: meta-training is over, by its last iteration or by early stopping.
        inner_steps: inner steps that meta-training has taken so far, summed over tasks.
    """

    policy: Policy
    optimizer: torch.optim.Adam
    generator: torch.Generator
    best: Params
    iteration: int = 0
    best_loss: float = float("inf")
    best_iteration: int = 0
    stale: int = 0
    dropped: int = 0
    dropped_in_a_row: int = 0
    metrics_bytes: int = 0
    finished: bool = False
    inner_steps: int = 0


_NUMBERS: dict[str, type] = {
    "iteration": int,
    "best_loss": float,
    "best_iteration": int,
    "stale": int,
    "dropped": int,
    "dropped_in_a_row": int,
    "metrics_bytes": int,
    "finished": bool,
    "inner_steps": int,
}


def new_state(policy: Policy, settings: OuterSettings, generator: torch.Generator) -> MetaState:
    """The state before the first iteration. The policy's parameters become views of what the optimizer moves."""
    init_lr = settings.lr if settings.init_lr is None else settings.init_lr
    rest, start = flatten(policy, lambda name: name.startswith("init.") and init_lr != settings.lr)
    groups = [
        {"params": group.vector, "part": (group.part.start, group.part.stop), "lr": lr, "full_lr": lr}
        for group, lr in ((rest, settings.lr), (start, init_lr))
        if group.vector.numel()
    ]
    optimizer = torch.optim.Adam(groups, fused=True)
    return MetaState(policy, optimizer, generator, cloned(dict(policy.named_parameters())))


def save_state(path: Path, state: MetaState, card: PolicyCard) -> None:
    """Writes a checkpoint: tensors, on the CPU, and plain values only, so that it loads with `weights_only=True`."""
    content = {
        "format": FORMAT,
        "kind": KIND,
        "card": json.dumps(card.to_json(), sort_keys=True),
        "policy": cloned(dict(state.policy.named_parameters())),
        "best": state.best,
        "optimizer": state.optimizer.state_dict(),
        "generator": state.generator.get_state(),
        **{name: getattr(state, name) for name in _NUMBERS},
    }
    buffer = io.BytesIO()
    torch.save(on_cpu(content), buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path) -> tuple[dict[str, Any], PolicyCard]:
    """The contents of a checkpoint and the card of its policy.

    Raises:
        PolicyFileError: missing, truncated, not a checkpoint of metaopt, or of another format version.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of foreign pickle protocols; what cannot be read raises
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise PolicyFileError(
            f"no checkpoint at {path}; give a run directory, policy.safetensors or checkpoint.pt"
        ) from error
    except Exception as error:  # broken bytes make torch's unpickler raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise PolicyFileError(
            f"{path} is not a checkpoint, or is truncated ({reason}); "
            "expected a checkpoint.pt as meta-training writes it"
        ) from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise PolicyFileError(
            f"{path} is no checkpoint of metaopt; expected a checkpoint.pt as meta-training writes it"
        )
    if content.get("format") != FORMAT:
        raise PolicyFileError(
            f"{path} has checkpoint format {content.get('format')!r}, but this metaopt reads format {FORMAT}; "
            "use the version of metaopt that wrote it, or start again"
        )
    try:
        card = PolicyCard.from_json(json.loads(content["card"]), path)
        content.setdefault("inner_steps", card.config.get("meta_training_inner_steps", 0))  # earlier ones: there only
        return content, card
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise PolicyFileError(f"{path} is damaged ({error}); start the run again in another run_dir") from error


def load_best(path: Path) -> tuple[dict[str, Tensor], PolicyCard]:
    """The best policy so far of a checkpoint, or that of a policy file, and its card.

    Raises:
        PolicyFileError: see `load_checkpoint` and `load_policy_file`.
    """
    if path.suffix != ".pt":
        return load_policy_file(path)
    content, card = load_checkpoint(path)
    tensors = content.get("best")
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise PolicyFileError(f"{path} is damaged (no tensors of a policy in it); train the policy again")
    return tensors, card


def restore_state(state: MetaState, content: dict[str, Any], path: Path) -> None:
    """Puts a checkpoint's contents into a new state of the same run, in place, on whatever device that is.

    Raises:
        PolicyFileError: the contents are not of such a run.
    """
    try:
        state.policy.load_state_dict(content["best"])
        state.best = cloned(dict(state.policy.named_parameters()))
        state.policy.load_state_dict(content["policy"])
        state.optimizer.load_state_dict(content["optimizer"])
        state.generator.set_state(content["generator"])
        for name, kind in _NUMBERS.items():
            setattr(state, name, kind(content[name]))
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise PolicyFileError(
            f"{path} is not from this run's configuration ({reason}); resume the run it belongs to"
        ) from error
