"""Everything that changes during meta-training, and its checkpoint."""

from __future__ import annotations

import io
import json
import math
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaopt.errors import PolicyFileError
from metaopt.files import write_bytes
from metaopt.outer.flat import flatten
from metaopt.outer.metrics import NOTHING, Kept
from metaopt.outer.problem import OuterSettings
from metaopt.outer.torch_file import content_digest, read_torch_file
from metaopt.policies.file import PolicyCard, load_policy_file
from metaopt.policies.policy import Policy
from metaopt.policies.strict_json import one_line, parse
from metaopt.trees import cloned
from metaopt.types import Params

FORMAT = 3
"""2 had no digest, so that damage went unseen."""
KIND = "metaopt-checkpoint"
DIGEST = "digest"


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
        metrics_digest: SHA-256 of so much of it.
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
    metrics_digest: str = NOTHING.digest
    finished: bool = False
    inner_steps: int = 0

    @property
    def metrics(self) -> Kept:
        """How far the metrics file had come at this point."""
        return Kept(self.metrics_bytes, self.metrics_digest)

    @metrics.setter
    def metrics(self, kept: Kept) -> None:
        self.metrics_bytes, self.metrics_digest = kept


_PLAIN: dict[str, type] = {
    "iteration": int,
    "best_loss": float,
    "best_iteration": int,
    "stale": int,
    "dropped": int,
    "dropped_in_a_row": int,
    "metrics_bytes": int,
    "metrics_digest": str,
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


def save_state(path: Path, state: MetaState, card: PolicyCard, config: Mapping[str, Any] | None = None) -> None:
    """Writes a checkpoint: tensors, on the CPU, and plain values only, so that it loads with `weights_only=True`.

    Args:
        path: of the file.
        state: what it is to hold.
        card: of the policy.
        config: what the run was configured with, for whoever resumes it; plain values. None: nothing is known of it.
    """
    optimizer = state.optimizer.state_dict()
    for group in optimizer["param_groups"]:
        group["lr"] = group["full_lr"]  # each step sets its own: that of the last one is no state
    content = {
        "format": FORMAT,
        "kind": KIND,
        "card": json.dumps(card.to_json(), sort_keys=True),
        "config": json.dumps(config or {}, sort_keys=True),
        "policy": dict(state.policy.named_parameters()),
        "best": state.best,
        "optimizer": optimizer,
        "generator": state.generator.get_state(),
        **{name: getattr(state, name) for name in _PLAIN},
    }
    content = _standalone(content)
    content[DIGEST] = content_digest(content)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path) -> tuple[dict[str, Any], PolicyCard]:
    """The contents of a checkpoint, as they were written, and the card of its policy.

    Nothing of a file is run, and reading takes memory of a few times its size, whatever it asks for. What its tensors
    are for is not looked at here, see `restore_state`.

    Raises:
        PolicyFileError: missing, truncated, damaged, not a checkpoint of metaopt, or of another format version; nothing
            else is raised.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is no file")
        content = read_torch_file(path.read_bytes())
    except FileNotFoundError as error:
        raise PolicyFileError(
            f"no checkpoint at {path}; give a run directory, policy.safetensors or checkpoint.pt"
        ) from error
    except (ValueError, OSError, MemoryError) as error:
        raise PolicyFileError(
            f"{path} is not a checkpoint, or is truncated ({one_line(error, 100)}); "
            "expected a checkpoint.pt as meta-training writes it"
        ) from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise PolicyFileError(
            f"{path} is no checkpoint of metaopt; expected a checkpoint.pt as meta-training writes it"
        )
    if type(content.get("format")) is not int or content["format"] != FORMAT:
        raise PolicyFileError(
            f"{path} has checkpoint format {one_line(repr(content.get('format')), 40)}, but this metaopt reads format "
            f"{FORMAT}; use the version of metaopt that wrote it, or start again"
        )
    try:
        if content.pop(DIGEST, None) != content_digest(content):
            raise ValueError("its content does not match its digest")
        _check_kinds(content)
        card = PolicyCard.from_json(parse(content["card"].encode()), path)
    except (ValueError, RecursionError) as error:
        raise PolicyFileError(
            f"{path} is damaged: {one_line(error)}; restore it, or start the run again in another run_dir"
        ) from error
    return content, card


def load_best(path: Path) -> tuple[dict[str, Tensor], PolicyCard]:
    """The best policy so far of a checkpoint, or that of a policy file, and its card.

    Raises:
        PolicyFileError: see `load_checkpoint` and `load_policy_file`.
    """
    if path.suffix != ".pt":
        return load_policy_file(path)
    content, card = load_checkpoint(path)
    return content["best"], card


def restore_state(state: MetaState, content: dict[str, Any], path: Path, settings: OuterSettings) -> None:
    """Puts a checkpoint's contents into a new state of the same run, in place, on whatever device that is.

    All of it is held against what such a run has before any of it is used: a moment of another shape than its
    parameter's, say, would make torch's fused Adam write where it must not.

    Raises:
        PolicyFileError: the contents are not of such a run.
    """
    try:
        _check_kinds(content)
        _check_numbers(content, settings)
        for key in ("policy", "best"):
            _check_like(content[key], _standalone(dict(state.policy.named_parameters())), key)
        _check_optimizer(content, state.optimizer)
        _check_like(content["generator"], state.generator.get_state(), "generator")
        state.generator.set_state(content["generator"])
    except (ValueError, RuntimeError) as error:  # torch's of a generator's state
        raise PolicyFileError(
            f"{path} is not from this run's configuration ({one_line(error)}); resume the run it belongs to"
        ) from error
    state.policy.load_state_dict(content["best"])
    state.best = cloned(dict(state.policy.named_parameters()))
    state.policy.load_state_dict(content["policy"])
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": content["optimizer"]["state"]})
    for name in _PLAIN:
        setattr(state, name, content[name])


def _standalone(tree: Any) -> Any:
    """The same values with nothing in common: each tensor on the CPU with memory of its own, each container once.

    Equal texts are one object, so that equal contents are pickled to equal bytes, wherever they come from.
    """
    if isinstance(tree, Tensor):
        return tree.detach().cpu().clone(memory_format=torch.contiguous_format)
    if isinstance(tree, str):
        return sys.intern(tree)
    if isinstance(tree, dict):
        return {_standalone(key): _standalone(below) for key, below in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)([_standalone(below) for below in tree])
    return tree


def _check_kinds(content: dict[str, Any]) -> None:
    """Raises ValueError where a checkpoint does not have just the entries that one has, each of its type."""
    kinds = {"format": int, "kind": str, "card": str, "config": str, "policy": dict, "best": dict, "optimizer": dict}
    kinds |= {"generator": Tensor, **_PLAIN}
    if set(content) != set(kinds):
        raise ValueError(f"it has the entries {', '.join(sorted(map(str, set(content) ^ set(kinds))))} too many or few")
    for name, kind in kinds.items():
        if not (isinstance(content[name], Tensor) if kind is Tensor else type(content[name]) is kind):
            raise ValueError(f"{name} is a {type(content[name]).__name__}, where a {kind.__name__} is expected")
    for key in ("policy", "best"):
        for name, tensor in content[key].items():
            if type(name) is not str or not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                raise ValueError(f"{key} has an entry {one_line(repr(name), 40)} that is no tensor of numbers")
            if not tensor.isfinite().all():
                raise ValueError(f"{key}.{one_line(name, 40)} has values that are not finite")


def _check_numbers(content: dict[str, Any], settings: OuterSettings) -> None:
    """Raises ValueError for counts that no run with these settings comes to."""
    done = content["iteration"]
    limits = {
        "iteration": settings.iterations,
        "best_iteration": done,
        "dropped_in_a_row": done,
        "dropped": done * settings.meta_batch,
        "stale": done + 1,
        "inner_steps": math.inf,
        "metrics_bytes": math.inf,
    }
    for name, most in limits.items():
        if not 0 <= content[name] <= most:
            raise ValueError(f"{name} is {content[name]}, where 0 to {most} is possible")
    if math.isnan(content["best_loss"]):
        raise ValueError("best_loss is nan")


def _check_like(found: Any, expected: Any, where: str) -> None:
    """Raises ValueError where there are other entries, or tensors of another shape or type, than expected."""
    if isinstance(expected, dict):
        if not isinstance(found, dict) or list(found) != list(expected):
            raise ValueError(f"{where} has other entries than this run's")
        for key, below in expected.items():
            _check_like(found[key], below, f"{where}.{key}")
    elif not isinstance(found, Tensor) or (found.shape, found.dtype) != (expected.shape, expected.dtype):
        came = f"{list(found.shape)} {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"{where} is {came}, where {list(expected.shape)} {expected.dtype} is expected")


def _check_optimizer(content: dict[str, Any], optimizer: torch.optim.Adam) -> None:
    """Raises ValueError where Adam's state is not that of this run after so many iterations."""
    found, fresh = content["optimizer"], optimizer.state_dict()
    groups = found.get("param_groups")
    if set(found) != set(fresh) or type(groups) is not list or not all(type(group) is dict for group in groups):
        raise ValueError("optimizer has other entries than Adam's")
    # A group's rate is set anew before each step; what another version of torch calls a group's settings is no matter.
    names = ("params", "part", "full_lr", "betas", "eps", "weight_decay", "amsgrad", "maximize")
    groups = [
        [{name: group.get(name) for name in names} for group in state["param_groups"]] for state in (found, fresh)
    ]
    if content_digest(groups[0]) != content_digest(groups[1]):
        raise ValueError("optimizer.param_groups are other than this run's, in number, size or rates")
    steps = content["iteration"] - content["dropped_in_a_row"]
    vectors = [group["params"][0] for group in optimizer.param_groups]
    # The first step makes the state, and each iteration but those of which no task was left takes one.
    expected = {
        index: {"step": torch.zeros(()), "exp_avg": vector, "exp_avg_sq": vector}
        for index, vector in enumerate(vectors)
        if steps
    }
    _check_like(found["state"], expected, "optimizer.state")
    for index, moments in found["state"].items():
        taken = float(moments["step"])
        if not (1 <= taken <= steps and taken == int(taken)):
            raise ValueError(f"optimizer.state.{index}.step is {taken}, where 1 to {steps} is possible")
        if not (moments["exp_avg"].isfinite().all() and moments["exp_avg_sq"].isfinite().all()):
            raise ValueError(f"optimizer.state.{index} has moments that are not finite")
        if (moments["exp_avg_sq"] < 0).any():
            raise ValueError(f"optimizer.state.{index}.exp_avg_sq has negative values")
