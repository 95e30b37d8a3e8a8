"""A policy as a torch optimizer, which steps by the very rule that the policy was learned with."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from metaopt.errors import ConfigError
from metaopt.export.frozen import Frozen, frozen, working_dtype
from metaopt.export.groups import Groups, check_settings, groups_of, members_of, tensors_of
from metaopt.export.schedule import Beyond, factor_at
from metaopt.export.state import SHARED, as_nested, by_parameter, on_meta
from metaopt.policies.policy import Policy
from metaopt.policies.rule import State, UpdateRule

ProcessGroup: TypeAlias = 'distributed.ProcessGroup | Literal["world"] | None'
Refit: TypeAlias = "Callable[[Collection[Tensor]], tuple[Policy, Mapping[str, nn.Parameter]]]"
"""Parameters that are trained from now on -> the policy for these and all others, and their names."""
STEP = "step"
"""What the state of each parameter tensor calls the number of steps, as torch's Adam does."""


class PolicyOptimizer(torch.optim.Optimizer):
    """Trains a model's parameters by a policy's update rule; `LoadedPolicy.optimizer` makes one.

    A group's `lr` is what all the learned rates of the group are multiplied with, 1 at first. Schedulers change that.
    `weight_decay=0` switches the learned L2 of a group off; any other setting of torch's optimizers is refused.
    Parameters without a gradient are left alone. Steps are computed in float32 at least, whatever the model's type.

    Args:
        policy: fitted to the model; its span is the number of steps that training will take.
        parameters: the model's, by the names that the policy knows.
        groups: parameter groups as torch's optimizers take them; None: one, of all parameters.
        beyond: how a schedule goes on beyond its last step; see `LoadedPolicy.optimizer`.
        process_group: whose processes' mean loss is what the policy reads; see `LoadedPolicy.optimizer`.
        refit: fits the policy to parameters that join later; None: those must be among `parameters`.

    Attributes:
        loss: what the next step reads where it is given none, a scalar: for loops that call `step()` bare. A step uses
            it up, and `zero_grad` forgets it, so that no step reads the loss of another.

    Raises:
        ConfigError: a group holds something that is no parameter of the model, or has a setting that would do nothing;
            or parameters are sharded, and the policy looks at whole tensors.
    """

    def __init__(
        self,
        policy: Policy,
        parameters: Mapping[str, nn.Parameter],
        groups: Groups | None = None,
        beyond: Beyond = "stretch",
        process_group: ProcessGroup = "world",
        refit: Refit | None = None,
    ) -> None:
        self._policy = policy
        self._beyond: Beyond = beyond
        self._process_group = process_group
        self._refit = refit
        self._known = dict(parameters)
        self._frozen: Frozen | None = None
        self._made: tuple[UpdateRule, dict[str, list[float]], frozenset[str]] | None = None
        self._template: tuple[list[str], State] | None = None
        self.loss: Tensor | float | None = None
        whole = [{"params": list(parameters.values())}]
        super().__init__(whole if groups is None else groups_of(groups), {"lr": 1.0})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in `torch.optim.Optimizer`; the parameters must be those of the model, frozen at first or not.

        Raises:
            ConfigError: see the class.
            PolicyFileError: the policy knows nothing for parameters that were frozen when it was fitted.
        """
        check_settings(param_group, self._policy.settings.name)
        given = tensors_of(param_group)
        if self._refit and any(all(p is not known for known in self._known.values()) for p in given):
            self._policy, found = self._refit([*self._known.values(), *given])
            self._known = dict(found)
        tensors, names = members_of({"params": given}, self._known)
        super().add_param_group({**param_group, "params": tensors})
        self.param_groups[-1]["names"] = names
        self._frozen = self._made = self._template = None
        if self._policy.settings.pull.mode != "off":
            for p in tensors:
                self.state[p]["anchor"] = p.detach().clone()
        self._check_sharded()

    @property
    def steps_taken(self) -> int:
        """Number of steps so far."""
        return max((int(kept[STEP]) for kept in self.state.values() if STEP in kept), default=0)

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

    # One traced step would be another one at the next place in the schedule: it runs as it is where a loop is compiled.
    @torch.compiler.disable
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, loss: Tensor | float | None = None) -> Any:  # type: ignore[override]
        """One step.

        Args:
            closure: clears the gradients, computes the loss, calls `backward`, and returns the loss.
            loss: of the batch that the gradients are of, where there is no closure; None: the attribute `loss`. Only
                adaptive policies read it.

        Returns:
            What the closure returned.

        Raises:
            ConfigError: the policy reads the loss, but there is none; a gradient is sparse; or a group has a setting
                that would do nothing.
        """
        returned = None
        if closure is not None:
            with torch.enable_grad():
                returned = closure()
        loss = self.loss if loss is None else loss
        members = self._members()
        if any(p.grad is not None for p, _ in members.values()):
            self._update(members, returned if loss is None else loss)
        self.loss = None
        return returned

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As in `torch.optim.Optimizer`."""
        self.loss = None
        super().zero_grad(set_to_none)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in `torch.optim.Optimizer`.

        Raises:
            ConfigError: the state is of parameters with other names.
        """
        groups = list(zip(self.param_groups, state_dict["param_groups"], strict=False))
        for own, other in groups:
            if own["names"] != other.get("names"):
                raise ConfigError(
                    f"the state is of the parameters {other.get('names')}, but this optimizer has "
                    f"{own['names']}; load it into an optimizer of the same model, with the same groups"
                )
        super().load_state_dict(state_dict)
        # torch gives all of a parameter's state the parameter's own type, in which a model in half precision loses it.
        for own, other in zip(self.param_groups, state_dict["param_groups"], strict=True):
            for p, index in zip(own["params"], other["params"], strict=True):
                for key, value in state_dict["state"].get(index, {}).items():
                    if isinstance(value, Tensor) and self.state[p][key].dtype != value.dtype:
                        self.state[p][key] = value.detach().clone().to(self.state[p][key].device)
        self._made = self._template = None

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_policy", "_beyond", "_process_group", "_known", "_frozen", "_template", "loss")
        return super().__getstate__() | {key: vars(self)[key] for key in kept} | {"_made": None, "_refit": None}

    def _members(self) -> dict[str, tuple[Tensor, float]]:
        """By name, each parameter tensor and what its learned rates are multiplied with."""
        for group in self.param_groups:
            check_settings(group, self._policy.settings.name)
        return {
            name: (p, float(group["lr"]))
            for group in self.param_groups
            for name, p in zip(group["names"], group["params"], strict=True)
        }

    def _update(self, members: Mapping[str, tuple[Tensor, float]], loss: Any) -> None:
        step = self.steps_taken
        rule = self._rule(members, step)
        used = {name: p for name, (p, _) in members.items() if rule.looks_at_all or p.grad is not None}
        if any(p.grad is not None and p.grad.is_sparse for p in used.values()):
            raise ConfigError("a gradient is sparse, which no policy steps along; make the embedding with sparse=False")
        dtype = working_dtype({name: p for name, (p, _) in members.items()})
        # Rules that look at all tensors may write over them, too: over copies of those without a gradient.
        params = {name: p.to(dtype, copy=p.grad is None) for name, p in used.items()}
        before = self._memory(rule, params)
        if not step and self._makes_state_only(members):
            self._keep(before, used, 0)
            return
        self._warn_beyond(rule, step)
        grads = {
            name: torch.zeros_like(params[name]) if p.grad is None else p.grad.to(dtype) for name, p in used.items()
        }
        new, after = rule.update(params, grads, before, step, self._read(rule, loss, params))
        moved = [name for name, p in used.items() if p.grad is not None and new[name] is not p]
        if moved:
            torch._foreach_copy_([used[name] for name in moved], [new[name] for name in moved])
        self._keep(after, used, step + 1)

    def _keep(self, memory: State, params: Mapping[str, Tensor], steps: int) -> None:
        """Puts a rule's memory where torch's optimizers have theirs, by parameter; what is shared, with the first."""
        own, rest = by_parameter(memory, list(params))
        for name, p in params.items():
            self.state[p].update(own[name], **{STEP: torch.tensor(float(steps))})
        first = self.param_groups[0]["params"][0]
        self.state[first].update({f"{SHARED}{key}": value for key, value in rest.items()})

    def _shared(self) -> dict[str, Tensor]:
        first = self.state.get(self.param_groups[0]["params"][0], {})
        return {key.removeprefix(SHARED): value for key, value in first.items() if key.startswith(SHARED)}

    def _makes_state_only(self, members: Mapping[str, tuple[Tensor, float]]) -> bool:
        """Whether this is no step: torch.distributed.checkpoint makes an optimizer's state by one along zeros."""
        found = list(members.values())
        return all(rate == 0 for _, rate in found) and not any(p.grad is not None and p.grad.any() for p, _ in found)

    def _rule(self, members: Mapping[str, tuple[Tensor, float]], step: int) -> UpdateRule:
        """The rule, whose schedule is one factor for each tensor, here set to that of this step."""
        params = {name: p for name, (p, _) in members.items()}
        if self._frozen is None:
            self._frozen = frozen(self._policy, params)
        strengths, schedule, values = self._frozen
        free = frozenset(
            name for group in self.param_groups if group.get("weight_decay", 1) == 0 for name in group["names"]
        )
        if self._made is None or self._made[2] != free:
            anchor, l2, dtype = None, strengths.l2, working_dtype(params)
            if strengths.pull is not None:
                anchor = {name: self.state[p]["anchor"].to(dtype) for name, p in params.items()}
            if l2 is not None:
                l2 = {name: 0.0 if name in free else value for name, value in l2.items()}
            factors = {name: [1.0] for name in members}
            constant = strengths._replace(schedule=factors, anchor=anchor, l2=l2)
            self._made = self._policy.rule_of(constant, values, in_place=True), factors, free
        rule, factors, _ = self._made
        for name, (_, by) in members.items():
            factors[name][0] = by * factor_at(schedule.get(name), step, self._policy.span, self._beyond)
        return rule

    def _memory(self, rule: UpdateRule, params: Mapping[str, Tensor]) -> State:
        """The rule's memory before this step."""
        tensors = {name: p for name, (p, _) in self._members().items()}
        names, own = list(params), {name: self.state[tensors[name]] for name in params}
        if self._template is not None and self._template[0] == names:
            return as_nested(self._template[1], own, self._shared())
        dtype = working_dtype(tensors)
        fresh = rule.init({name: p.detach().to(dtype) for name, p in params.items()})
        self._template = (names, on_meta(fresh))
        return as_nested(fresh, own, self._shared())

    def _read(self, rule: UpdateRule, loss: Any, params: Mapping[str, Tensor]) -> Tensor | None:
        if not rule.reads_loss:
            return None
        if loss is None:
            raise ConfigError(
                f"policy '{self._policy.settings.name}' reads the loss of each step, but none came; give it: "
                "optimizer.step(loss=loss), a closure that returns it, or optimizer.loss = loss before a bare step()"
            )
        like = next(iter(params.values()))
        own = torch.as_tensor(loss).detach().to(like.device, like.dtype).reshape(())
        group = self._process_group
        if group is None or not (distributed.is_available() and distributed.is_initialized()):
            return own
        # Each process has the loss of its own part of the batch; with the mean, all make the same step.
        group = distributed.group.WORLD if isinstance(group, str) else group
        total = own.clone()
        distributed.all_reduce(total, group=group)
        return total / distributed.get_world_size(group)

    def _check_sharded(self) -> None:
        sharded = [name for name, (p, _) in self._members().items() if isinstance(p, DTensor)]
        whole = self._policy.settings.preconditioner == "curvature"
        if sharded and (whole or self._rule(self._members(), 0).looks_at_all):
            raise ConfigError(
                f"policy '{self._policy.settings.name}' looks at whole tensors, but '{sharded[0]}' is sharded; train "
                "with DistributedDataParallel, or with a policy of strengths alone, such as role_normalised"
            )

    def _warn_beyond(self, rule: UpdateRule, step: int) -> None:
        settings, limits = self._policy.settings, []
        if settings.schedule != "off":
            limits.append((self._policy.span if self._beyond == "stretch" else self._policy.horizon, "schedule"))
        if rule.looks_at_all:
            limits.append((self._policy.span, "position in the training"))
        for limit, what in limits:
            if step == limit:
                then = "decays as 1/step" if self._beyond == "decay" and what == "schedule" else "stays where it is"
                warnings.warn(
                    f"training goes beyond {limit} steps, where policy '{settings.name}' ends: its {what} {then} from "
                    "here on. If training is longer, say so: policy.optimizer(model, steps=...)",
                    stacklevel=5,
                )
