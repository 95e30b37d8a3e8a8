"""Torch's own optimizers as update rules, through the `higher` package, with differentiable learning rates."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import higher.optim
import torch
from torch import Tensor

from metaopt.policies.rule import State, Strength, UpdateRule
from metaopt.types import Params


def torch_optimizer_rule(optimizer: str, lr: Strength) -> UpdateRule:
    """The update of `torch.optim.<optimizer>` at its default settings, differentiable in the learning rates.

    higher (Grefenstette et al., "Generalized Inner Loop Meta-Learning", 2019) keeps the optimizer's memory in an
    object; the rule copies that object before each step, so that it stays pure. higher puts hooks on tensors that need
    a gradient, which `vmap` cannot carry: training works anywhere, hypergradients only with the engine that loops.

    Args:
        optimizer: class name in `torch.optim`; one that higher supports.
        lr: learning rates by parameter tensor, one number each. Each tensor is a parameter group of its own.
    """

    def init(params: Params) -> State:
        # These only stand for the parameters, one group each.
        leaves = [torch.zeros((), device=p.device) for p in params.values()]
        plain = getattr(torch.optim, optimizer)([{"params": [leaf]} for leaf in leaves], lr=1.0)
        return higher.optim.get_diff_optim(plain, leaves, override={"lr": [lr[name] for name in params]})

    def update(
        params: Params, grads: Params, state: State, step: int | Tensor, loss: Tensor | None = None
    ) -> tuple[Params, State]:
        del step, loss  # higher's optimizers count their own steps.
        successor = _copied(state)
        for group, p in zip(successor.param_groups, params.values(), strict=True):
            group["params"] = [p]
        if optimizer == "Adam":
            _add_epsilon_as_torch_does(successor)
        successor._update([[g] for g in grads.values()])
        return {n: group["params"][0] for n, group in zip(params, successor.param_groups, strict=True)}, successor

    return UpdateRule(init, update)


def _add_epsilon_as_torch_does(adam: Any) -> None:
    """Torch adds ε to √(v / (1 - β₂ᵗ)), higher to √v; ε · √(1 - β₂ᵗ) makes the two steps equal."""
    for group, memory in zip(adam.param_groups, adam.state, strict=True):
        epsilon = group.setdefault("epsilon", group["eps"])
        taken = memory[0].get("step", 0)
        group["eps"] = epsilon * math.sqrt(1 - group["betas"][1] ** (taken + 1))


def _copied(optimizer: Any) -> Any:
    successor = object.__new__(type(optimizer))
    successor.__dict__.update(optimizer.__dict__)
    successor.state = [defaultdict(dict, {k: dict(memory) for k, memory in group.items()}) for group in optimizer.state]
    successor.param_groups = [dict(group) for group in optimizer.param_groups]
    return successor
