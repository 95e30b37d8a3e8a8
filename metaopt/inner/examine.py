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
from metaopt.inner.unroll import step_loss
from metaopt.models.model import Model
from metaopt.models.objective import Objective
from metaopt.models.running import stream
from metaopt.policies.policy import Policy
from metaopt.policies.rule import Learner
from metaopt.trees import cloned, detached, take_tasks
from metaopt.types import Batch, Loss, Params, TaskBatch

Derivatives: TypeAlias = Literal["first", "second", "forward"]
"""What a method needs of a loss: its gradient; the gradient's derivative in reverse mode; or in forward mode."""

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
    learner: Learner, objective: Objective, tasks: TaskBatch, draws: Draws, derivatives: Derivatives = "first"
) -> Needs:
    """What training by a learner, such as a policy, asks of the engine; watched once for each kind of input.

    Args:
        learner: says where to start, and what enters the loss.
        objective: its loss, and the model whose loss that is.
        tasks: [tasks], of which the first is looked at.
        draws: the randomness of their training.
        derivatives: what the method at hand needs.

    Raises:
        ConfigError: the loss cannot be trained on, or not differentiated so.
    """
    model, kind = objective.model, type(learner)
    if model is not None and model.plain and (kind is Policy or not issubclass(kind, Policy)):
        return Needs()
    x, y = tasks.support
    modes = () if model is None else tuple(layer.training for layer in model.module.modules())
    key = kind, derivatives, x.shape[1:], x.dtype, y.shape[1:], y.dtype, modes, torch.is_autocast_enabled(x.device.type)
    known = _KNOWN.setdefault(objective.loss, {})
    if key not in known:
        with torch.no_grad():
            known[key] = _needs(learner, objective, take_tasks(tasks, 0).support, take_draws(draws, 0), derivatives)
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


class _Watch(TorchDispatchMode):
    """Notes what happens in a pass.

    Args:
        module: whose submodules are followed; None: nobody says.
        state: what the module's buffers are set to before the pass.

    Attributes:
        draws: names of the submodules that draw random numbers; "" is the module itself, or who is outside of it.
        generator: whether any drew from a generator of its own.
        at: the submodules that are at work, the innermost last, or were when something failed.
        before, after: the module's buffers before and after the pass.
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
            self.before = cloned(dict(module.named_buffers()))

    def _leave(self, _name: str, module: nn.Module, _inputs: Any, outputs: Any) -> None:
        self.at.pop()
        if module is self._module:
            self.after, self.outputs = cloned(dict(module.named_buffers())), outputs


def _watched(model: Model | None, loss: Loss, params: Params, batch: Batch) -> bool:
    """Whether the loss draws random numbers; notes for the model what it does besides.

    Raises:
        ConfigError: it is no function of its arguments and torch's random numbers.
    """
    module = None if model is None else model.module
    watch = _Watch(module)
    with stream(0, 0):
        try:
            first = watch.see(loss, params, batch)
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
        again = _Watch(module).see(loss, params, batch)
    if not torch.allclose(first, again, rtol=1e-3, equal_nan=True):
        raise ConfigError(
            f"{_name(model)} gives another loss for the same inputs and random numbers ({first.item():g} and "
            f"{again.item():g}); keep no state outside of buffers and draw with torch only, not with random or numpy"
        )
    written = {name: tensor for name, tensor in watch.after.items() if not _equal(tensor, watch.before[name])}
    if written:
        with stream(0, 0):
            later = _Watch(module, written).see(loss, params, batch)
        if not torch.allclose(first, later, rtol=1e-5, equal_nan=True):
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


def _derive(
    objective: Objective, loss: Loss, params: Params, batch: Batch, derivatives: Derivatives
) -> tuple[bool | None, str | None]:
    """Whether the loss has forward-mode derivatives, and why tasks cannot go side by side; None: they can.

    Raises:
        ConfigError: it lacks the derivatives that are asked for in reverse mode.
    """
    model, trial = objective.model, partial(_failure, loss, objective, params, batch)
    wanted: list[Derivatives] = ["first"] if derivatives == "first" else ["first", "second"]
    for which in wanted:
        failed = trial(which)
        if failed is not None and model is not None and not model.habits.refuses_fused:
            model.habits.refuses_fused = True
            failed = trial(which)
        if failed is not None:
            other = "; choose first_order, or write it with operations that have them" if which == "second" else ""
            raise ConfigError(f"torch finds no {which} derivatives of {_name(model)}: {failed}{other}")
    if derivatives != "forward":
        return None, trial(wanted[-1], together=True)
    forward = trial("forward") is None
    return forward, trial("forward" if forward else "second", together=True)


def _failure(
    loss: Loss, objective: Objective, params: Params, batch: Batch, which: Derivatives, together: bool = False
) -> str | None:
    """What goes wrong with a derivative or a score, for one task or for two side by side; None: nothing does."""
    gradient = torch.func.grad(loss)

    def derived(own: Params, task: Batch) -> Tensor:
        constant = detached(own)
        if which == "first":
            found = gradient(constant, task)
        elif which == "second":
            found = gradient(own, task)
        else:
            found = jvp(lambda now: gradient(now, task), (constant,), (constant,))[1]  # type: ignore[arg-type]
        return torch.stack([each.square().sum() for each in found.values()]).sum() + objective.outer(own, task)[0]

    function = torch.func.vmap(derived) if together else derived
    with warnings.catch_warnings() if together else nullcontext():
        if together:
            warnings.simplefilter("error")  # torch warns where it takes the tasks one by one itself, and slowly
            params = {name: torch.stack([p, p]) for name, p in params.items()}
            batch = Batch(*(torch.stack([tensor, tensor]) for tensor in batch))
        try:
            with torch.enable_grad():
                leaves = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
                value = function(leaves, batch).sum()
                if value.requires_grad:
                    torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        except MetaoptError:
            raise
        except Exception as error:
            return _line(error)
    return None


def _name(model: Model | None, path: str = "") -> str:
    """A module's path and class."""
    if model is None:
        return "the loss"
    name = type(model.module.get_submodule(path)).__name__
    return f"'{path}' ({name})" if path else f"the model ({name})"


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
