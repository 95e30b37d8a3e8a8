"""Time of an exported policy's step, against that of torch's optimizer with the same terms, on a million parameters.

    python benchmarks/optimizer_step.py [--policies global role per_parameter …] [--repeats 60] [--out DIR]

Only `optimizer.step()` is timed, not what makes the gradients. All optimizers are in one process and take turns, each
on a network of its own, so that none finds its numbers in the caches; compare the ratios. The counterparts have what
the policy has: SGD with L2 and momentum where it has these, Adam where it divides by second moments.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from statistics import median
from typing import Any

import torch
from engines import warn_if_busy
from machine import machine
from rich.console import Console
from rich.progress import track
from rich.table import Table
from step_cost import CONF, settings_of
from torch import nn

from metaopt import load_policy
from metaopt.files import write_text
from metaopt.models.mlp import mlp
from metaopt.policies.file import PolicyCard, save_policy
from metaopt.policies.policy import Policy
from metaopt.types import Kind, TaskSpec

POLICIES = ("global", "meta_sgd", "role", "per_parameter", "role_normalised", "per_parameter_normalised")
POLICIES += ("directions", "adaptive", "adaptive_normalised", "learned_optimizer")
MODEL = mlp(TaskSpec(Kind.classification, (784,), 10), [1000, 200])
"""A million parameters, 987,210 to be exact."""


def with_gradients() -> nn.Module:
    module = deepcopy(MODEL.module)
    for p in module.parameters():
        p.grad = torch.randn_like(p)
    return module


def policy_step(name: str, folder: Path) -> Callable[[], Any]:
    settings, path = settings_of(name), folder / f"{name}.safetensors"
    policy = Policy(settings, MODEL.shapes, MODEL.init, 50, roles=MODEL.roles)
    shapes = {key: tuple(shape) for key, shape in MODEL.shapes.items()}
    card = PolicyCard(settings, 50, MODEL.spec, shapes, "none", "0", {}, MODEL.roles)
    save_policy(path, dict(policy.named_parameters()), card)
    optimizer: Any = load_policy(path).optimizer(with_gradients(), steps=1_000_000)
    return lambda: optimizer.step(loss=1.0)


def torch_step(kind: str, **options: float) -> Callable[[], Any]:
    return getattr(torch.optim, kind)(with_gradients().parameters(), lr=1e-3, **options).step


def counterpart(name: str) -> str:
    """Which of torch's optimizers has the terms of a policy."""
    settings = settings_of(name)
    if settings.preconditioner == "second_moment" or settings.rule == "directions":
        return "adam"
    return (
        "sgd"
        + (" + l2" if settings.l2.mode != "off" else "")
        + (" + momentum" if settings.momentum.mode != "off" else "")
    )


def timed(steps: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in track(range(repeats), "rounds"):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begin)
    return {name: 1e3 * median(found[repeats // 6 :]) for name, found in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", default=POLICIES, choices=sorted(p.stem for p in CONF.glob("*.yaml")))
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("runs/optimizer_step"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    here, console = machine(), Console()
    warn_if_busy(console, here["load"], here["cores"])
    warnings.simplefilter("ignore", UserWarning)  # training goes beyond the horizon
    steps = {
        "sgd": torch_step("SGD"),
        "sgd + l2": torch_step("SGD", weight_decay=1e-4),
        "sgd + momentum": torch_step("SGD", momentum=0.9),
        "sgd + l2 + momentum": torch_step("SGD", weight_decay=1e-4, momentum=0.9),
        "adam": torch_step("Adam", weight_decay=1e-4),
    }
    with tempfile.TemporaryDirectory() as folder:
        steps |= {name: policy_step(name, Path(folder)) for name in args.policies}
        found = timed(steps, args.repeats)
    table = Table("policy", "ms", "torch", "ms", "ratio", title="optimizer.step(), 987,210 parameters, 1 thread")
    for name in args.policies:
        rival = counterpart(name)
        table.add_row(name, f"{found[name]:.2f}", rival, f"{found[rival]:.2f}", f"{found[name] / found[rival]:.2f}")
    console.print(table)
    record = {
        "machine": here,
        "milliseconds": found,
        "rivals": {name: counterpart(name) for name in args.policies},
    }
    write_text(args.out / "results.json", json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
