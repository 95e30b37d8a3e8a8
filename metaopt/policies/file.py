"""The policy file: tensors and JSON metadata in safetensors format, which cannot carry code, with a digest of both.

The digest tells damage and edits that were left half done. It is no signature: who means to can make a new one, as he
can make a new policy. What such a file can ask for is bounded besides, see `load_policy_file`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from metaopt.errors import ConfigError, PolicyFileError
from metaopt.files import write_bytes
from metaopt.policies.header import KEY, card_data, check_types, read_header
from metaopt.policies.settings import OPTIMIZERS, PRECONDITIONERS, RULES, PolicySettings
from metaopt.policies.strict_json import one_line

FORMAT = 2
READ = (1, FORMAT)
"""Format 1 has no digest."""
DIGEST = "digest"
SLACK = 16 * 2**20
"""Bytes that loading may take besides ten times the file's size."""
LONGEST_HORIZON = 1_000_000
"""A damaged file must not ask for a schedule that exhausts the memory."""


PARTS = {"rule": RULES, "preconditioner": PRECONDITIONERS, "optimizer": OPTIMIZERS}
"""What a policy may be made of, by the setting that says so: a file may need a part that is not here."""


class MissingPartError(PolicyFileError):
    """A policy file is sound, as far as its card goes, but needs something that this metaopt does not have.

    Args:
        path: of the file.
        setting: that asks for the part.
        name: of the part.
        data: the card.
    """

    def __init__(self, path: Path, setting: str, name: str, data: dict[str, Any]) -> None:
        super().__init__(
            f"{path} needs {setting} '{one_line(name, 60)}', which this metaopt does not have (it has "
            f"{', '.join(PARTS[setting])}); use the version, or the extension, of metaopt that it was learned with"
        )
        self.data = data


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

    def __post_init__(self) -> None:
        """Raises ConfigError for a setting that the file cannot hold, before anything is trained with it."""
        _check_finite(self.config, "")

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
        """The inverse of `to_json`, for data of any origin; of either format.

        Raises:
            MissingPartError: it asks for a rule, say, that is not here.
            PolicyFileError: not a card, or a card of another format version.
        """
        if not isinstance(data, dict) or "format" not in data:
            raise PolicyFileError(f"{path} carries no metaopt policy; expected a policy.safetensors that metaopt wrote")
        if type(data["format"]) is not int or data["format"] not in READ:
            raise PolicyFileError(
                f"{path} has policy format {one_line(repr(data['format']))}, but this metaopt reads formats "
                f"{' and '.join(map(str, READ))}; use the version of metaopt that wrote it, or train the policy again"
            )
        settings = data.get("policy")
        for setting, known in PARTS.items():
            name = settings.get(setting, known[0]) if isinstance(settings, dict) else known[0]
            if isinstance(name, str) and name not in known:
                raise MissingPartError(path, setting, name, data)
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
            raise PolicyFileError(f"{path} has damaged metadata ({one_line(error)}); train the policy again") from error
        if not 1 <= card.horizon <= LONGEST_HORIZON:
            raise PolicyFileError(f"{path} has damaged metadata (horizon {card.horizon}); train the policy again")
        return card


def save_policy(path: Path, tensors: Mapping[str, Tensor], card: PolicyCard) -> None:
    """Writes a policy file; equal contents give equal bytes.

    Raises:
        PolicyFileError: more tensors or metadata than `load_policy_file` reads; nothing is written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = json.loads(json.dumps(card.to_json()))
    content[DIGEST] = _digest(content, plain)
    data = save(plain, metadata={KEY: json.dumps(content, sort_keys=True)})
    try:
        card_data(read_header(io.BytesIO(data), len(data))[1])
    except ValueError as error:
        raise PolicyFileError(
            f"{path} is not written, because it could not be read again ({one_line(error)}); learn the policy at a "
            "coarser granularity"
        ) from error
    write_bytes(path, data)


def load_policy_file(path: Path) -> tuple[dict[str, Tensor], PolicyCard]:
    """Tensors and card of a policy file: all of both, and as they were written, or an error. A file of format 1 has no
    digest, so that values which were changed in it go unseen.

    Nothing of a file is run. Loading takes memory of at most ten times the file's size and `SLACK`, and so does
    `fit_policy`, besides what it makes for a model's own tensors where it matches by role. What decides on that stands
    at the beginning of the file and is looked at first, see `read_header` and `strict_json.parse`.

    Raises:
        PolicyFileError: whatever is wrong with the file, and nothing else is raised: missing, unreadable, truncated,
            damaged, not a policy, larger than policies are, of another format version, or in need of a rule that is not
            here (MissingPartError).
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is no file")
        with path.open("rb") as file:
            begin, header = read_header(file, path.stat().st_size)
            try:
                data, card = _card(header, path)
            except MissingPartError as error:  # unless the file turns out to be damaged
                data, card = error.data, error
            tensors = load(begin + file.read())
    except FileNotFoundError as error:
        raise PolicyFileError(
            f"no policy file at {path}; give checkpoint= a run directory or a policy.safetensors"
        ) from error
    except (SafetensorError, ValueError, OSError, MemoryError) as error:
        raise PolicyFileError(
            f"{path} is not a policy file, or is truncated ({one_line(error)}); "
            "expected a policy.safetensors as meta-training writes it"
        ) from error
    if (DIGEST in data) if data["format"] == 1 else data.pop(DIGEST, None) != _digest(data, tensors):
        raise PolicyFileError(
            f"{path} is damaged: its content does not match its digest; copy it again from where it was written, or "
            "train the policy again"
        )
    if isinstance(card, MissingPartError):
        raise card
    return tensors, card


def _card(header: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], PolicyCard]:
    """The card as the file has it, with the digest, and as read.

    Raises:
        PolicyFileError: there is none, or the tensors are of other types than a policy's.
    """
    try:
        data = card_data(header)
        card = PolicyCard.from_json(data, path)
        check_types(header)
    except ValueError as error:
        raise PolicyFileError(f"{path} has damaged metadata ({one_line(error)}); train the policy again") from error
    return data, card


def _digest(card: Any, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a policy file's content: the card as JSON with sorted keys; then for each tensor, by name, its name,
    type and shape as JSON, and its bytes, little endian."""
    found = hashlib.sha256(json.dumps(card, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _check_finite(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} is {value}, which a policy file cannot hold; give a finite number")
    if isinstance(value, dict):
        for key, entry in value.items():
            _check_finite(entry, f"{where}.{key}" if where else str(key))
    if isinstance(value, (list, tuple)):
        for entry in value:
            _check_finite(entry, where)


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"expected {kind.__name__}, found {value!r}")
    return value
