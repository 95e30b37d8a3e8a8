"""What a training asks of the engine, found by watching one pass of its loss before it begins.

Nothing is decided by the names of layers. A loss that draws random numbers has them from a stream of each task and
step, so that a step that is computed again is the same step. One that `vmap` does not take has its tasks one at a time.
One that is no function of its arguments, or lacks the derivatives that are asked for, is refused.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from metaopt.errors import ConfigError, MetaoptError
from metaopt.inner.draws import Draws, take_draws
from metaopt.inner.jvp import jvp
from metaopt.inner.unroll import step_loss, unroll
from metaopt.layout import Layout
from metaopt.models.model import Model
from metaopt.models.objective import Objective
from metaopt.models.running import stream
from metaopt.policies.policy import Policy
from metaopt.policies.rule import Learner, Start
from metaopt.trees import cloned, detached, take_tasks
from metaopt.types import Batch, Loss, Params, TaskBatch

Derivatives: TypeAlias = Literal["first", "second", "forward"]
"""What a method needs of a loss: its gradient; the gradient's derivative in reverse mode; or in forward mode."""

Reads: TypeAlias = Literal["nothing", "call", "values"]
"""What of a policy a method differentiates: nothing; what its call reads; or only its `values`, read once."""

SAME = 1e-6
"""Relative difference of two losses that are the same but for the order of a sum."""

log = logging.getLogger("metaopt")


class Needs(NamedTuple):
    """What a training asks of the engine.

    Attributes:
        draws: whether the loss draws random numbers by itself.
        alone: whether tasks are trained one at a time.
        forward: whether the gradient has derivatives in forward mode; None: nobody asked.
    """

    draws: bool = False
    alone: bool = False
    forward: bool | None = None

    def given(self, draws: Draws) -> Draws:
        """The draws with the seeds of the loss's own random numbers where it draws any, and else without.

        Raises:
            ConfigError: there are none.
        """
        if self.draws and draws.loss.seed is None:
            raise ConfigError("the model draws random numbers, but the draws have no seeds for it; make them by `draw`")
        return draws if self.draws else draws._replace(loss=draws.loss._replace(seed=None))

    def size(self, chunk: int) -> int:
        """Tasks side by side, of so many that are allowed."""
        return 1 if self.alone else chunk


_KNOWN: WeakKeyDictionary[Any, dict[Any, Needs]] = WeakKeyDictionary()


def needs_of(
    learner: Learner,
    objective: Objective,
    tasks: TaskBatch,
    draws: Draws,
    derivatives: Derivatives = "first",
    reads: Reads = "nothing",
) -> Needs:
    """What training by a learner, such as a policy, asks of the engine; watched once for each kind of input.

    Args:
        learner: says where to start, and what enters the loss.
        objective: its loss, and the model whose loss that is.
        tasks: [tasks], of which the first is looked at.
        draws: the randomness of their training.
        derivatives: what the method at hand needs of the loss.
        reads: what it differentiates of the learner, where that is a policy.

    Raises:
        ConfigError: the loss cannot be trained on, or not differentiated so; or a policy of one's own would lose some
            of its hypergradient.
    """
    model, kind = objective.model, type(learner)
    if model is not None and model.plain and (kind is Policy or not issubclass(kind, Policy)):
        return Needs()
    x, y = tasks.support
    modes = () if model is None else tuple(layer.training for layer in model.module.modules())
    key = kind, derivatives, reads, modes, x.shape[1:], x.dtype, y.shape[1:], y.dtype
    known = _KNOWN.setdefault(objective.loss, {})
    if key not in known:
        batch, alone = take_tasks(tasks, 0).support, take_draws(draws, 0)
        with torch.no_grad():
            needs = _needs(learner, objective, batch, alone, derivatives)
            if isinstance(learner, Policy) and kind is not Policy and reads != "nothing":
                _check_reads(learner, objective, batch, needs.given(alone), reads)
        known[key] = needs
    return known[key]


def _needs(learner: Learner, objective: Objective, batch: Batch, draws: Draws, derivatives: Derivatives) -> Needs:
    model = objective.model
    params, _, inner = learner(draws.noise)
    loss = step_loss(objective.loss, inner, draws.loss._replace(seed=torch.tensor(0)), 0)
    draws_itself = _watched(model, loss, params, batch)
    if not draws_itself:
        loss = step_loss(objective.loss, inner, draws.loss._replace(seed=None), 0)
    forward, reason = _derive(objective, loss, params, batch, derivatives)
    reason = "it draws random numbers" if draws_itself else reason
    if reason is not None and not (model is not None and model.habits.told):
        log.warning("%s: tasks are trained one at a time (%s)", _name(model), reason)
        if model is not None:
            model.habits.told = True
    return Needs(draws_itself, reason is not None, forward)


def _check_reads(policy: Policy, objective: Objective, batch: Batch, draws: Draws, reads: Reads) -> None:
    """Raises ConfigError where a step depends on a policy's parameters in a way that a method does not see."""
    with torch.enable_grad():
        if reads == "call":
            constant = detached(dict(policy.named_parameters()))
            start: Start = torch.func.functional_call(policy, constant, (draws.noise,))
        else:
            values = {quantity: detached(own) for quantity, own in policy.values().items()}
            start = Start(
                policy.start(draws.noise, values), policy.rule(draws.noise, values), policy.inner_loss(values)
            )
        params, loss = unroll(start, objective.loss, batch, None, 1, draws.loss)
        seen = [tensor.sum() for tensor in (*params.values(), loss) if tensor.requires_grad]
        if not seen:
            return
        names, own = zip(*policy.named_parameters(), strict=True)
        found = torch.autograd.grad(torch.stack(seen).sum(), own, allow_unused=True)
    lost = [name for name, by in zip(names, found, strict=True) if by is not None]
    if lost:
        raise ConfigError(
            f"{type(policy).__name__} reads its parameter '{lost[0]}' in a step, where this way to the hypergradient "
            "does not see it; let values() return it, and take it from the values that start, rule and inner_loss get"
        )


class _Watch(TorchDispatchMode):
    """Notes what happens in a pass.

    Args:
        module: whose submodules are followed; None: nobody says.
        state: what the module's buffers are set to before the pass.

    Attributes:
        draws: names of the submodules that draw random numbers; "" is the module itself, or who is outside of it.
        generator: whether any drew from a generator of its own.
        at: the submodules that are at work, the innermost last, or were when something failed.
        before, after: the module's buffers and parameters before and after the pass.
        outputs: what the module puts out.
    """

    def __init__(self, module: nn.Module | None, state: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self._module, self._state = module, state or {}
        self.draws: set[str] = set()
        self.generator = False
        self.at = [""]
        self.before: Params = {}
        self.after: Params = {}
        self.outputs: Any = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.draws.add(self.at[-1])
            self.generator |= any(isinstance(given, torch.Generator) for given in (*args, *kwargs.values()))
        return func(*args, **kwargs)

    def see(self, loss: Loss, params: Params, batch: Batch) -> Tensor:
        """The loss."""
        hooks = []
        for name, layer in () if self._module is None else self._module.named_modules():
            hooks.append(layer.register_forward_pre_hook(partial(self._enter, name)))
            hooks.append(layer.register_forward_hook(partial(self._leave, name)))
        try:
            with self:
                return loss(params, batch)
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, name: str, module: nn.Module, _inputs: Any) -> None:
        self.at.append(name)
        if module is self._module:
            for buffer, tensor in self._state.items():
                module.get_buffer(buffer).copy_(tensor)
            self.before = _contents(module)

    def _leave(self, _name: str, module: nn.Module, _inputs: Any, outputs: Any) -> None:
        self.at.pop()
        if module is self._module:
            self.after, self.outputs = _contents(module), outputs


def _contents(module: nn.Module) -> Params:
    return cloned({**dict(module.named_parameters()), **dict(module.named_buffers())})


def _watched(model: Model | None, loss: Loss, params: Params, batch: Batch) -> bool:
    """Whether the loss draws random numbers; notes for the model what it does besides.

    Raises:
        ConfigError: it is no function of its arguments and torch's random numbers.
    """
    module = None if model is None else model.module
    watch = _Watch(module)
    with stream(0, 0):
        try:
            first = watch.see(loss, cloned(params), batch)
        except MetaoptError:
            raise
        except Exception as error:
            if model is not None and watch.outputs is not None and not isinstance(watch.outputs, Tensor):
                raise ConfigError(
                    f"{_name(model)} puts out a {type(watch.outputs).__name__}; a model's forward must return one "
                    "tensor, so wrap it in a module that does"
                ) from error
            if batch.x.is_floating_point():
                raise  # a mistake in the module, which its author knows best from the traceback
            raise ConfigError(
                f"{_name(model, watch.at[-1])} does not take inputs of {batch.x.dtype} ({_line(error)}); let the "
                "family's sample return floating-point numbers, or take ids with an embedding"
            ) from error
    if watch.generator:
        raise ConfigError(
            f"{_name(model, min(watch.draws))} draws from a torch.Generator of its own, which goes on from pass to "
            "pass; leave out generator= there, so that a step can be computed again"
        )
    with stream(0, 0):
        again = _Watch(module).see(loss, cloned(params), batch)
    if not torch.allclose(first, again, SAME, equal_nan=True):
        raise ConfigError(
            f"{_name(model)} gives another loss for the same inputs and random numbers ({first.item():g} and "
            f"{again.item():g}); keep no state outside of buffers and draw with torch only, not with random or numpy"
        )
    written = {name: tensor for name, tensor in watch.after.items() if not _equal(tensor, watch.before[name])}
    for name in written.keys() & dict(() if module is None else module.named_parameters()).keys():
        raise ConfigError(
            f"{_name(model, name.rpartition('.')[0])} writes its own parameter '{name}' in a pass, which no derivative "
            "sees; leave that out (of an embedding: max_norm)"
        )
    if written:
        with stream(0, 0):
            later = _Watch(module, {name: _other(tensor) for name, tensor in written.items()}).see(
                loss, cloned(params), batch
            )
        if not torch.allclose(first, later, SAME, equal_nan=True):
            name = min(written)
            raise ConfigError(
                f"{_name(model, name.rpartition('.')[0])} writes its buffer '{name}' in each pass and depends on it in "
                "the next, which no inner step carries; put that layer into evaluation mode (.eval()), or leave it out"
            )
    if model is not None:
        model.habits.draws.update(watch.draws)
        model.habits.writes = (model.habits.writes or set()) | set(written)
    return bool(watch.draws)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.allclose(one, other, 0, 0, equal_nan=True)


def _other(tensor: Tensor) -> Tensor:
    """Other values than a tensor's: what does not look at them computes the same."""
    if tensor.dtype == torch.bool:
        return tensor.logical_not()
    return tensor + 1 if not tensor.is_floating_point() else 1.5 * tensor + 0.5


def _derive(
    objective: Objective, loss: Loss, params: Params, batch: Batch, derivatives: Derivatives
) -> tuple[bool | None, str | None]:
    """Whether the loss has forward-mode derivatives, and why tasks cannot go side by side; None: they can.

    Raises:
        ConfigError: it lacks the derivatives that are asked for in reverse mode.
    """
    model, trial = objective.model, partial(_trial, loss, objective, params, batch)
    wanted: list[Derivatives] = ["first"] if derivatives == "first" else ["first", "second"]
    found = torch.empty(0)
    for which in wanted:
        found, failed = trial(which)
        if failed and model is not None and not model.habits.refuses_fused:
            model.habits.refuses_fused = True
            found, failed = trial(which)
            model.habits.refuses_fused = not failed
        if failed:
            other = "; choose first_order, or write it with operations that have them" if which == "second" else ""
            raise ConfigError(f"torch finds no {which} derivatives of {_name(model)}: {failed}{other}")
    if "second" in wanted and _is_off(loss, params, batch):
        log.warning(
            "%s: its second derivatives are not those of differences of its gradient; something is cut off (detach, "
            "no_grad) or torch is wrong (weight_norm). Choose first_order if that is not meant",
            _name(model),
        )
    way, forward = wanted[-1], None
    if derivatives == "forward":
        moved, failed = trial("forward")
        forward = not failed and _close(moved, found)
        way = "forward" if forward else way
    together, failed = trial(way, together=True)
    return forward, failed or (None if _close(together, found) else "torch's vmap gets another gradient")


def _trial(
    loss: Loss, objective: Objective, params: Params, batch: Batch, which: Derivatives, together: bool = False
) -> tuple[Tensor, str]:
    """Derivatives as one vector, for one task or for two equal ones side by side; and what failed, if anything did.

    They are the gradients of the loss and of the outer objective, and for `second` and `forward` the derivative of the
    loss's gradient along some direction, which is the same in either mode.
    """
    gradient, layout = torch.func.grad(loss), Layout.of(params)

    def slope(flat: Tensor, task: Batch) -> Tensor:
        return layout.pack(gradient(layout.unpack(flat), task))

    def score(flat: Tensor, task: Batch) -> Tensor:
        return objective.outer(layout.unpack(flat), task)[0]

    point = layout.pack(params).detach()
    with warnings.catch_warnings() if together else nullcontext():
        if together:
            warnings.simplefilter("error")  # torch warns where it takes the tasks one by one itself, and slowly
            point, batch = torch.stack([point, point]), Batch(*(torch.stack([each, each]) for each in batch))
            slope, score = torch.func.vmap(slope), torch.func.vmap(score)
        try:
            found = [slope(point, batch).detach()]
            first = found[0].abs().mean(-1, keepdim=True)
            along = found[0] + first * torch.arange(layout.size, dtype=point.dtype, device=point.device).sin()
            with torch.enable_grad():
                leaf = point.clone().requires_grad_()
                found.append(_backwards(score(leaf, batch), leaf))
                if which == "second":
                    found.append(_backwards(slope(leaf, batch), leaf, along))
            if which == "forward":
                # As forward mode has it, where derivatives along several directions go side by side.
                moving = torch.func.vmap(
                    lambda move: jvp(lambda now: slope(now, batch), (point,), (move,))[1], randomness="same"
                )
                found.append(moving(along[None])[0])
        except MetaoptError:
            raise
        except Exception as error:
            return torch.empty(0), _line(error)
    return torch.cat(found, -1), ""


def _is_off(loss: Loss, params: Params, batch: Batch) -> bool:
    """Whether the gradient's derivative, in float64, is another than central differences say."""
    layout, task = Layout.of(params), Batch(*(t.double() if t.is_floating_point() else t for t in batch))
    point = layout.pack(params).detach().double()
    gradient = torch.func.grad(loss)

    def slope(flat: Tensor) -> Tensor:
        return layout.pack(gradient(layout.unpack(flat), task))

    try:
        here, step = slope(point).detach(), 1e-5
        # What has no gradient, such as the row of an embedding's padding, is not trained.
        along = torch.arange(layout.size, device=point.device).sin().double() * (here != 0)
        moved = (slope(point + step * along) - slope(point - step * along)).detach() / (2 * step)
        with torch.enable_grad():
            leaf = point.clone().requires_grad_()
            found = _backwards(slope(leaf), leaf, along)
    except Exception:  # float64 is not for every module and device
        return False
    expected = moved @ along
    return bool((found @ along - expected).abs() > 1e-2 * moved.norm() * along.norm() + 1e-9)


def _backwards(value: Tensor, leaf: Tensor, cotangent: Tensor | None = None) -> Tensor:
    """The derivative by a leaf; zero where nothing depends on it."""
    if not value.requires_grad:
        return torch.zeros_like(leaf)
    weights = torch.ones_like(value) if cotangent is None else cotangent
    return torch.autograd.grad(value, (leaf,), weights, materialize_grads=True)[0]


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether derivatives agree up to rounding; those of tasks side by side are compared with one task's.

    They do not everywhere: torch's vmap drops terms of second derivatives of its normalisation layers, for one.
    """
    if not bool(other.isfinite().all()):
        return True  # nothing to compare
    rtol = 1e-2 if other.dtype in (torch.float16, torch.bfloat16) else 1e-3
    return torch.allclose(one, other.expand(one.shape), rtol, rtol * float(other.abs().amax()), equal_nan=True)


def _name(model: Model | None, path: str = "") -> str:
    """A module's path and class."""
    if model is None:
        return "the loss"
    name = type(model.module.get_submodule(path)).__name__
    return f"'{path}' ({name})" if path else f"the model ({name})"


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
