"""What a policy hands to the inner loop: where to start, and how to step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from torch import Tensor

from metaopt.models.objective import TrainingLoss
from metaopt.policies.settings import PolicySettings
from metaopt.types import Loss, Params

State: TypeAlias = Any
"""Whatever a rule carries from step to step: a (nested) dictionary of tensors, empty for a rule without memory."""


Strength: TypeAlias = Mapping[str, "Tensor | float"]
"""By parameter tensor: a number, or a tensor that broadcasts against the parameter."""


Schedule: TypeAlias = Mapping[str, "Tensor | Sequence[float]"]
"""By parameter tensor, a factor of its learning rate for each step, [horizon]; or so many floats. Beyond them the last
one holds."""


class Update(Protocol):
    """One step of an update rule."""

    def __call__(
        self, params: Params, grads: Params, state: State, step: int | Tensor, loss: Tensor | None = None
    ) -> tuple[Params, State]:
        """The parameters and the state after a step.

        Args:
            params: the model's parameters before it.
            grads: gradient of the loss of the step, for each of them.
            state: the rule's memory before it.
            step: counts from 0; an int, or a scalar int64 tensor where one compiled step serves them all.
            loss: the loss that the step saw, a scalar; only some rules look at it, see `UpdateRule.reads_loss`.
        """
        ...


class UpdateRule(NamedTuple):
    """Two pure functions. Neither changes its arguments, unless it was made to, and all memory is in the state.

    Attributes:
        init: params -> state before the first step.
        update: (params, grads, state, step, loss) -> (params, state).
        reads_loss: whether the update depends on the loss; where it is not, the loss may be left out.
        looks_at_all: whether it looks at all parameter tensors of a step at once, each of them whole, and at the
            position in the training.
        multipliers: state after a step -> by quantity (`lr`, `l2`) and parameter tensor, what the rule itself has
            multiplied the strengths with in that step, scalars; None: a rule that does no such thing.
    """

    init: Callable[[Params], State]
    update: Update
    reads_loss: bool = False
    looks_at_all: bool = False
    multipliers: Callable[[State], dict[str, Params]] | None = None


class Strengths(NamedTuple):
    """What an inner step is made with; what is None is absent. See `regularised_step`.

    Attributes:
        lr: learning rates α.
        l2: L2 strengths λ.
        pull: strengths ρ of the pull towards `anchor`.
        anchor: θ₀; needed with `pull`.
        momentum: μ, a scalar.
        schedule: s.
    """

    lr: Strength
    l2: Strength | None = None
    pull: Strength | None = None
    anchor: Params | None = None
    momentum: Tensor | float | None = None
    schedule: Schedule | None = None


class Site(NamedTuple):
    """Where a rule is at work.

    Attributes:
        roles: role of each parameter tensor; empty where the model does not say.
        stds: standard deviation of torch's own initialisation, by parameter tensor.
        horizon: number of steps of this training; a scalar int64 tensor where one compiled step serves trainings of
            several lengths.
        progressive: whether support examples join training one part after the other; see `progressive_order`.
        in_place: whether rules that can write over what they are given do; see `step_along`.
    """

    roles: Mapping[str, str]
    stds: Mapping[str, float]
    horizon: int | Tensor
    progressive: bool = False
    in_place: bool = False


class LossNoise(NamedTuple):
    """The random numbers that enter one task's inner loss, drawn before training.

    Attributes:
        bank: standard normal, [numbers]; each step takes from it what it needs. None: nothing needs any.
        present: 1 for the columns that a padded task has and 0 for the others, [columns]; None: all are there.
        seed: of the random numbers that a model draws by itself, a scalar int64; None: it draws none.
    """

    bank: Tensor | None = None
    present: Tensor | None = None
    seed: Tensor | None = None


InnerLoss: TypeAlias = Callable[[TrainingLoss, LossNoise, "int | Tensor"], Loss]
"""(the task's loss, its noise, step) -> the loss that this step trains on. Pure; no other loss ever meets it."""


class Choice(NamedTuple):
    """What is chosen where a mixture is sharpened.

    Attributes:
        what: the kind of thing, in words.
        name: of the chosen one, which has the largest weight.
        weights: of all that is mixed, by name; they sum to 1.
    """

    what: str
    name: str
    weights: Mapping[str, float]


class Settled(NamedTuple):
    """What a policy becomes when the steps that its rule mixes are sharpened into one choice.

    Attributes:
        settings: of the policy without the mixture.
        factor: what all its learning rates are multiplied with, a scalar.
        choice: what is chosen.
    """

    settings: PolicySettings
    factor: Tensor
    choice: Choice


class Start(NamedTuple):
    """The beginning of one task's training.

    Attributes:
        params: θ₀, the model's parameters before the first step.
        rule: the update rule, which may refer to θ₀ (the pull does).
        inner: what is made of the task's loss at each step; None: nothing, the loss is trained on as it is.
    """

    params: Params
    rule: UpdateRule
    inner: InnerLoss | None = None


Initialise: TypeAlias = Callable[[Params], Params]
"""noise (one standard normal tensor per model parameter, of its shape) -> θ₀."""

Learner: TypeAlias = Callable[[Params], Start]
"""noise (one standard normal tensor per model parameter, of its shape) -> Start. Policies and baselines alike."""
