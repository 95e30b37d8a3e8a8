"""A policy as a torch optimizer, which steps by the very rule that the policy was learned with."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metaopt.errors import ConfigError
from metaopt.export.frozen import Frozen, frozen
from metaopt.export.groups import members_of
from metaopt.export.schedule import Beyond, factor_at
from metaopt.export.state import as_nested, by_parameter, on_meta
from metaopt.policies.policy import Policy
from metaopt.policies.rule import State, UpdateRule

SHARED: Any = "shared"
"""Where `state` keeps what belongs to no single parameter."""
LOOKING_AT_ALL = ("adaptive", "learned_optimizer")
"""Rules that look at all parameter tensors of a step at once, and at the position in the training."""


class PolicyOptimizer(torch.optim.Optimizer):
    """Trains a model's parameters by a policy's update rule; `LoadedPolicy.optimizer` makes one.

    A group's `lr` is what all the learned rates of the group are multiplied with, 1 at first. Schedulers change that.
    Parameters without a gradient are left alone.

    Args:
        policy: fitted to the model; its span is the number of steps that training will take.
        parameters: the model's, by the names that the policy knows.
        groups: parameter groups as torch's optimizers take them; None: one, of all parameters.
        beyond: how a schedule goes on beyond its last step; see `LoadedPolicy.optimizer`.

    Raises:
        ConfigError: a group holds something that is no parameter of the model.
    """

    def __init__(
        self,
        policy: Policy,
        parameters: Mapping[str, nn.Parameter],
        groups: Iterable[Mapping[str, Any]] | None = None,
        beyond: Beyond = "hold",
    ) -> None:
        self._policy = policy
        self._beyond: Beyond = beyond
        self._known = dict(parameters)
        self._frozen: Frozen | None = None
        self._made: tuple[UpdateRule, dict[str, list[float]]] | None = None
        self._template: tuple[list[str], State] | None = None
        whole = [{"params": list(parameters.values())}]
        super().__init__(whole if groups is None else [dict(group) for group in groups], {"lr": 1.0})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in `torch.optim.Optimizer`; the parameters must be those of the model that needed a gradient.

        Raises:
            ConfigError: one of them is not.
        """
        tensors, names = members_of(param_group, self._known)
        super().add_param_group({**param_group, "params": tensors})
        self.param_groups[-1]["names"] = names
        self._frozen = self._made = self._template = None
        if self._policy.settings.pull.mode != "off":
            for p in tensors:
                self.state[p]["anchor"] = p.detach().clone()

    @property
    def steps_taken(self) -> int:
        """Number of steps so far."""
        return int(self.state[SHARED].get("step", 0)) if SHARED in self.state else 0

    def multipliers(self) -> dict[str, dict[str, float]]:
        """What an adaptive policy multiplied learned strengths with in the last step.

        Returns:
            By quantity (`lr`, `l2`) and parameter tensor. Empty before the first step, for policies that do no such
            thing, and where some tensors of the model are in no group.
        """
        members = self._members()
        if self.steps_taken == 0 or list(members) != list(self._policy.moments):
            return {}
        rule, params = self._rule(members, self.steps_taken), {name: p for name, (p, _) in members.items()}
        if rule.multipliers is None:
            return {}
        found = rule.multipliers(self._memory(rule, params))
        return {quantity: {name: value.item() for name, value in of.items()} for quantity, of in found.items()}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, loss: Tensor | float | None = None) -> Any:  # type: ignore[override]
        """One step.

        Args:
            closure: clears the gradients, computes the loss, calls `backward`, and returns the loss.
            loss: of the batch that the gradients are of, where there is no closure. Only adaptive policies read it.

        Returns:
            What the closure returned.

        Raises:
            ConfigError: the policy reads the loss, but there is none; or a gradient is sparse.
        """
        returned = None
        if closure is not None:
            with torch.enable_grad():
                returned = closure()
        members = self._members()
        if any(p.grad is not None for p, _ in members.values()):
            self._update(members, returned if loss is None else loss)
        return returned

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in `torch.optim.Optimizer`.

        Raises:
            ConfigError: the state is of parameters with other names.
        """
        groups = zip(self.param_groups, state_dict["param_groups"], strict=False)
        for own, other in groups:
            if own["names"] != other.get("names"):
                raise ConfigError(
                    f"the state is of the parameters {other.get('names')}, but this optimizer has "
                    f"{own['names']}; load it into an optimizer of the same model, with the same groups"
                )
        super().load_state_dict(state_dict)
        self._made = self._template = None

    def __getstate__(self) -> dict[str, Any]:
        own = {key: vars(self)[key] for key in ("_policy", "_beyond", "_known", "_frozen", "_template")}
        return super().__getstate__() | own | {"_made": None}

    def _members(self) -> dict[str, tuple[Tensor, float]]:
        """By name, each parameter tensor and what its learned rates are multiplied with."""
        return {
            name: (p, float(group["lr"]))
            for group in self.param_groups
            for name, p in zip(group["names"], group["params"], strict=True)
        }

    def _update(self, members: Mapping[str, tuple[Tensor, float]], loss: Any) -> None:
        step = self.steps_taken
        self._warn_beyond(step)
        at_once = self._policy.settings.rule in LOOKING_AT_ALL
        params = {name: p for name, (p, _) in members.items() if at_once or p.grad is not None}
        if any(p.grad is not None and p.grad.is_sparse for p in params.values()):
            raise ConfigError("a gradient is sparse, which no policy steps along; make the embedding with sparse=False")
        grads = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in params.items()}
        rule = self._rule(members, step)
        before = self._memory(rule, params)
        # Rules that look at all tensors may write over them, too: over copies of those without a gradient.
        given = {name: p.clone() if p.grad is None else p for name, p in params.items()}
        new, after = rule.update(given, grads, before, step, self._read(rule, loss, params))
        moved = [name for name, p in params.items() if p.grad is not None and new[name] is not p]
        if moved:
            torch._foreach_copy_([params[name] for name in moved], [new[name] for name in moved])
        own, rest = by_parameter(after, list(params))
        for name, p in params.items():
            self.state[p].update(own[name])
        self.state[SHARED].update(rest, step=step + 1)

    def _rule(self, members: Mapping[str, tuple[Tensor, float]], step: int) -> UpdateRule:
        """The rule, whose schedule is one factor for each tensor, here set to that of this step."""
        if self._frozen is None:
            self._frozen = frozen(self._policy, {name: p for name, (p, _) in members.items()})
        strengths, schedule, values = self._frozen
        if self._made is None:
            pulled = strengths.pull is not None
            anchor = {name: self.state[p]["anchor"] for name, (p, _) in members.items()} if pulled else None
            factors = {name: [1.0] for name in members}
            constant = strengths._replace(schedule=factors, anchor=anchor)
            self._made = self._policy.rule_of(constant, values, in_place=True), factors
        rule, factors = self._made
        for name, (_, by) in members.items():
            factors[name][0] = by * factor_at(schedule.get(name), step, self._policy.span, self._beyond)
        return rule

    def _memory(self, rule: UpdateRule, params: dict[str, Tensor]) -> State:
        """The rule's memory before this step."""
        names, own = list(params), {name: self.state[p] for name, p in params.items()}
        if self._template is not None and self._template[0] == names:
            return as_nested(self._template[1], own, self.state[SHARED])
        fresh = rule.init({name: p.detach() for name, p in params.items()})
        self._template = (names, on_meta(fresh))
        return as_nested(fresh, own, self.state[SHARED])

    def _read(self, rule: UpdateRule, loss: Any, params: Mapping[str, Tensor]) -> Tensor | None:
        if not rule.reads_loss:
            return None
        if loss is None:
            raise ConfigError(
                f"policy '{self._policy.settings.name}' reads the loss of each step, but none came; give it: "
                "optimizer.step(loss=loss), or a closure that returns it"
            )
        like = next(iter(params.values()))
        return torch.as_tensor(loss).detach().to(like.device, like.dtype).reshape(())

    def _warn_beyond(self, step: int) -> None:
        settings, limits = self._policy.settings, []
        if settings.schedule != "off":
            limits.append((self._policy.span if self._beyond == "stretch" else self._policy.horizon, "schedule"))
        if settings.rule in LOOKING_AT_ALL:
            limits.append((self._policy.span, "position in the training"))
        for limit, what in limits:
            if step == limit:
                then = "decays as 1/step" if self._beyond == "decay" and what == "schedule" else "stays where it is"
                warnings.warn(
                    f"training goes beyond {limit} steps, where policy '{settings.name}' ends: its {what} {then} from "
                    "here on. If training is longer, say so: policy.optimizer(model, steps=...)",
                    stacklevel=5,
                )
