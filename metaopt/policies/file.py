"""The policy file: tensors and JSON metadata in safetensors format, which cannot carry code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from metaopt.errors import ConfigError, PolicyFileError
from metaopt.files import replacing
from metaopt.models.model import Model
from metaopt.policies.policy import Policy
from metaopt.policies.settings import PolicySettings

FORMAT = 1
# One key, because safetensors writes several in an order that changes from process to process.
KEY = "metaopt"
LONGEST_HORIZON = 1_000_000
"""A damaged file must not ask for a schedule that exhausts the memory."""


@dataclass(frozen=True)
class PolicyCard:
    """What a policy file says of itself, beside its tensors.

    Attributes:
        policy: settings of the policy.
        horizon: number of inner steps that it was trained for.
        model: the model's spec.
        parameters: shape of each of the model's parameter tensors.
        tasks: name of the task family that it was trained on.
        split_hash: hash of that family's splits.
        config: the settings of model, tasks and inner loop as configured, for building the same again.
    """

    policy: PolicySettings
    horizon: int
    model: dict[str, Any]
    parameters: dict[str, tuple[int, ...]]
    tasks: str
    split_hash: str
    config: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the format version."""
        return {
            "format": FORMAT,
            "policy": self.policy.to_json(),
            "horizon": self.horizon,
            "model": self.model,
            "parameters": {name: list(shape) for name, shape in self.parameters.items()},
            "tasks": self.tasks,
            "split_hash": self.split_hash,
            "config": self.config,
        }

    @staticmethod
    def from_json(data: Any, path: Path) -> PolicyCard:
        """The inverse of `to_json`, for data of any origin.

        Raises:
            PolicyFileError: not a card, or a card of another format version.
        """
        if not isinstance(data, dict) or "format" not in data:
            raise PolicyFileError(f"{path} carries no metaopt policy; expected a policy.safetensors that metaopt wrote")
        if data["format"] != FORMAT:
            raise PolicyFileError(
                f"{path} has policy format {data['format']!r}, but this metaopt reads format {FORMAT}; "
                "use the version of metaopt that wrote it, or train the policy again"
            )
        try:
            card = PolicyCard(
                policy=PolicySettings.from_json(data["policy"]),
                horizon=_typed(data["horizon"], int),
                model=_typed(data["model"], dict),
                parameters={
                    str(name): tuple(_typed(size, int) for size in _typed(shape, list))
                    for name, shape in _typed(data["parameters"], dict).items()
                },
                tasks=_typed(data["tasks"], str),
                split_hash=_typed(data["split_hash"], str),
                config=_typed(data["config"], dict),
            )
        except (KeyError, TypeError, ConfigError) as error:
            raise PolicyFileError(f"{path} has damaged metadata ({error}); train the policy again") from error
        if not 1 <= card.horizon <= LONGEST_HORIZON:
            raise PolicyFileError(f"{path} has damaged metadata (horizon {card.horizon}); train the policy again")
        return card


def save_policy(path: Path, tensors: Mapping[str, Tensor], card: PolicyCard) -> None:
    """Writes a policy file; equal contents give equal bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(plain, metadata={KEY: json.dumps(card.to_json(), sort_keys=True)})
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def load_policy_file(path: Path) -> tuple[dict[str, Tensor], PolicyCard]:
    """Tensors and card of a policy file.

    Raises:
        PolicyFileError: missing, truncated, not a safetensors file, not a policy, or of another format version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
            card = PolicyCard.from_json(json.loads(text) if text else None, path)
            return {name: file.get_tensor(name) for name in file.keys()}, card  # noqa: SIM118
    except FileNotFoundError as error:
        raise PolicyFileError(
            f"no policy file at {path}; give checkpoint= a run directory or a policy.safetensors"
        ) from error
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise PolicyFileError(
            f"{path} is not a policy file, or is truncated ({str(error).splitlines()[0]}); "
            "expected a policy.safetensors as meta-training writes it"
        ) from error


def restore_policy(tensors: Mapping[str, Tensor], card: PolicyCard, model: Model, path: Path) -> Policy:
    """The policy of a file, for `model`.

    Raises:
        PolicyFileError: it was made for another model, or its tensors are not those that its settings ask for.
    """
    check_fit(card, model, path)
    policy = Policy(card.policy, model.shapes, model.init, card.horizon)
    expected = {name: tuple(parameter.shape) for name, parameter in policy.named_parameters()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        raise PolicyFileError(f"{path} is damaged: {_first_difference(expected, found)}; train the policy again")
    floating = all(tensor.dtype in (torch.float32, torch.float64) for tensor in tensors.values())
    if not floating or not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise PolicyFileError(f"{path} is damaged: it holds values that are no finite floats; train the policy again")
    policy.load_state_dict(dict(tensors))
    return policy


def check_fit(card: PolicyCard, model: Model, path: Path) -> None:
    """Raises PolicyFileError where the policy was made for another model, naming the first difference."""
    expected = {name: tuple(shape) for name, shape in model.shapes.items()}
    if card.parameters != expected:
        raise PolicyFileError(
            f"the policy in {path} was made for another model: {_first_difference(expected, card.parameters)}; it was "
            f"trained on {_words(card.model)} and this is {_words(model.spec)}: give the same model= and tasks= sizes"
        )


def _first_difference(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> str:
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            here = f"of shape {expected[name]}" if name in expected else "absent"
            there = f"of shape {found[name]}" if name in found else "absent"
            return f"tensor '{name}' should be {here} but is {there} in the file"
    return "the tensors agree"


def _words(spec: dict[str, Any]) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in spec.items() if key != "name")
    return f"{spec.get('name', 'a model')}({settings})"


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"expected {kind.__name__}, found {value!r}")
    return value
