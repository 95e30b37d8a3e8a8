"""The policy file: tensors and JSON metadata in safetensors format, which cannot carry code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from metaopt.errors import ConfigError, PolicyFileError
from metaopt.files import replacing
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
        roles: role of each of them; empty in files that were written before there were any.
        mixed: what the policy was sharpened from; see `Policy`. Empty: from nothing.
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
    roles: dict[str, str] = field(default_factory=dict)
    mixed: dict[str, dict[str, float]] = field(default_factory=dict)

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
            "roles": self.roles,
            "mixed": self.mixed,
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
                roles={str(name): _typed(role, str) for name, role in _typed(data.get("roles", {}), dict).items()},
                mixed={
                    str(what): {str(name): _typed(weight, float) for name, weight in _typed(weights, dict).items()}
                    for what, weights in _typed(data.get("mixed", {}), dict).items()
                },
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


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"expected {kind.__name__}, found {value!r}")
    return value
