"""A policy file, ready to train any model with."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn

from metaopt.errors import ConfigError
from metaopt.export.groups import Groups
from metaopt.export.network import Network, network_of
from metaopt.export.optimizer import PolicyOptimizer, ProcessGroup
from metaopt.export.regularised import Regularised
from metaopt.export.schedule import BEYOND, Beyond
from metaopt.export.torchs_own import torchs_own
from metaopt.inner.draws import draw
from metaopt.policies.file import PolicyCard, load_policy_file
from metaopt.policies.fitting import Fit, fit_policy
from metaopt.policies.policy import Policy
from metaopt.policies.reading import PolicyReading, read_policy
from metaopt.pretrained import policy_file


def load_policy(path: str | Path) -> LoadedPolicy:
    """A policy from its file; nothing in a file can run code.

    Args:
        path: a `policy.safetensors`, the run directory that holds one, or the name of a policy that comes with metaopt
            (`metaopt.pretrained.shipped()`).

    Raises:
        PolicyFileError: there is none, or it is damaged, foreign or of another format version.
    """
    path = policy_file(path)
    return LoadedPolicy(path, *load_policy_file(path))


class LoadedPolicy:
    """A policy that was learned, to be used outside of metaopt.

    It fits a model by name and shape of its parameter tensors, else by the roles of their layers; `fit` says which.
    Where it knows nothing for a tensor, it refuses, naming all of these.

    Attributes:
        path: of the file.
        card: what the file says of itself: settings, horizon, the model and the tasks that it was learned on.
    """

    def __init__(self, path: Path, tensors: Mapping[str, Tensor], card: PolicyCard) -> None:
        self.path, self.card, self._tensors = path, card, dict(tensors)
        self._regularised: WeakSet[nn.Module] = WeakSet()
        self._written: WeakKeyDictionary[nn.Module, list[tuple[int, int]]] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        """What people call it."""
        return self.card.policy.name

    @property
    def horizon(self) -> int:
        """Number of steps of the trainings that it was learned on."""
        return self.card.horizon

    @property
    def batch_size(self) -> int | None:
        """Examples in a minibatch there; None: all at once."""
        size = (self.card.config.get("inner") or {}).get("batch_size")
        return size if isinstance(size, int) else None

    def fit(self, model: nn.Module, steps: int | None = None) -> Fit:
        """The policy for a model, and what a reader must know of how it was matched.

        Args:
            model: any module.
            steps: number of steps of the training at hand; None: those that the policy was learned for.

        Raises:
            PolicyFileError: the policy knows nothing for some of its parameter tensors.
            ConfigError: see `network_of`.
        """
        return self._fit(network_of(model), steps)

    def reading(self, model: nn.Module) -> PolicyReading:
        """What was learned, in natural units, for the tensors of a model.

        Raises:
            PolicyFileError: see `fit`.
        """
        return read_policy(self.fit(model).policy, ())

    def optimizer(
        self,
        model: nn.Module,
        steps: int | None = None,
        groups: Groups | None = None,
        beyond: Beyond = "stretch",
        process_group: ProcessGroup = "world",
    ) -> torch.optim.Optimizer:
        """A torch optimizer that steps by the rule with which the policy was learned.

        It can be used as any other: with closures, schedulers, gradient clipping and accumulation, `GradScaler`,
        compiled models, `state_dict`, torch.distributed's checkpoints. In a group, `lr` is what all learned rates are
        multiplied with, 1 at first; `weight_decay=0` switches the learned L2 off. An adaptive policy reads the loss of
        each step: `optimizer.step(loss=loss)`, a closure that returns it, or `optimizer.loss = loss` before a bare
        `step()`. A policy for one of torch's own optimizers gives that one.

        Args:
            model: what is trained. Where the policy pulls towards the initialisation, that is its present parameters.
            steps: number of steps that training will take, by which an adaptive policy goes, and `stretch`; None:
                those that the policy was learned for.
            groups: parameter groups as torch's optimizers take them: dictionaries with `params`, and `lr` if wanted, or
                tensors; None: all parameters that need a gradient. Others of the model may join later.
            beyond: what becomes of a learned schedule in trainings of another length. `stretch`: it is stretched, or
                compressed, to `steps`; `hold`: beyond its last step its factor stays; `decay`: it falls from there as
                1/step. That training goes on beyond its end is said in a warning.
            process_group: in training by several processes, those over which the loss that an adaptive policy reads is
                averaged, so that all make the same steps. "world": all of them, where torch.distributed is initialised;
                None: none, for processes that train models of their own.

        Raises:
            PolicyFileError: the policy knows nothing for some parameter tensors; all of them are named.
            ConfigError: a setting is impossible.
        """
        if beyond not in BEYOND:
            raise ConfigError(f"beyond is {beyond!r}; choose one of {', '.join(BEYOND)}")
        network = network_of(model)
        policy, note = self._fit(network, steps)
        if note and (not self.card.policy.fits_any_model() or policy.roles != network.model.roles):
            warnings.warn(f"{self.path}: {note}", stacklevel=2)
        if policy.inner_loss() is not None and network.module not in self._regularised:
            warnings.warn(
                f"policy '{self.name}' was learned together with label smoothing, dropout or input noise, which no "
                "optimizer can add; call policy.regularised(model) first",
                stacklevel=2,
            )
        if policy.settings.optimizer != "metaopt":
            return torchs_own(policy, network.parameters, groups)

        def refit(trained: Collection[Tensor]) -> tuple[Policy, Mapping[str, nn.Parameter]]:
            wider = network_of(model, trained)
            return self._fit(wider, steps).policy, wider.parameters

        return PolicyOptimizer(policy, network.parameters, groups, beyond, process_group, refit)

    def init(self, model: nn.Module) -> list[str]:
        """Gives a model the learned initialisation.

        A learned one is copied. Of a scaled one, the model's own random values are multiplied with what was learned:
        its tensors deviate from their mean so many times as far as they do now. What has one value throughout stays as
        it is, as does all where nothing was learned. A second call changes nothing, unless something else has come
        between.

        Args:
            model: as its author initialises it; gets new values.

        Returns:
            Names of the tensors that were written.

        Raises:
            PolicyFileError: the policy does not fit; a learned initialisation fits its own model only.
        """
        network = network_of(model)
        policy = self._fit(network, None).policy
        mode = self.card.policy.init.mode
        names = {"fresh": (), "scaled": network.drawn, "learned": tuple(network.parameters)}[mode]
        if self._written.get(network.module) == _versions(network, names):
            return list(names)
        with torch.no_grad():
            ratios = policy.strength("init_std") or {}
            start = policy.start({name: torch.zeros(()) for name in policy.shapes}) if mode == "learned" else {}
            for name in names:
                p, mean = network.parameters[name], network.model.init[name].mean
                p.copy_(start[name] if mode == "learned" else mean + float(ratios[name]) * (p - mean))
        self._written[network.module] = _versions(network, names)
        return list(names)

    def regularised(self, model: nn.Module) -> Regularised:
        """Puts the learned dropout and input noise into a model, for when it is in training mode.

        Args:
            model: its layers' inputs are changed by hooks until `remove`, or the end of a `with` block.

        Raises:
            PolicyFileError: see `fit`.
        """
        network = network_of(model)
        strengths = self._fit(network, None).policy.loss_strengths()
        self._regularised.add(network.module)
        return Regularised(network.module, strengths)

    def minibatches(
        self,
        examples: int,
        steps: int | None = None,
        batch_size: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Which examples make the minibatch of each step, in the order in which the policy was learned.

        Args:
            examples: in the training set.
            steps: number of steps; None: those that the policy was learned for.
            batch_size: None: that with which it was learned.
            generator: on the CPU; None: torch's global one.

        Returns:
            int64 [steps, batch size].

        Raises:
            ConfigError: there are too few examples to join in parts.
        """
        size = min(batch_size or self.batch_size or examples, examples)
        generator = generator or torch.default_generator
        progressive = self.card.policy.order == "progressive"
        order = draw({}, 1, steps or self.horizon, size, examples, generator, progressive=progressive).order
        return torch.arange(examples).repeat(steps or self.horizon, 1) if order is None else order[0]

    def _fit(self, network: Network, steps: int | None) -> Fit:
        if steps is not None and steps < 1:
            raise ConfigError(f"steps is {steps}; training takes at least 1 step")
        return fit_policy(self._tensors, self.card, network.model, self.path, steps)

    def __repr__(self) -> str:
        return f"LoadedPolicy({self.name!r}, horizon={self.horizon}, learned on {self.card.tasks})"


def _versions(network: Network, names: Iterable[str]) -> list[tuple[int, int]]:
    """What changes as soon as anybody writes to one of these parameters, or puts another in its place."""
    return [(id(p), p._version) for p in (network.parameters[name] for name in names)]
