"""Where training of a module starts: drawn as torch draws a layer, or at the values that the module has."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from metaopt.errors import ConfigError
from metaopt.models.tokens import Embedding

SURE = 4.0
"""Standard errors from its law from which on a tensor is taken to have been made in another way."""
RARE = 1e-5
"""A probability that is too small to believe in."""
UNIFORM, NORMAL = 0.9, 1.42
"""Standard error of the mean square of n numbers, times √n, relative to its expectation."""


class Moments(NamedTuple):
    """How a parameter tensor starts.

    Attributes:
        mean: of its numbers.
        std: their standard deviation; 0: they are all the same.
        values: what it starts at, of the tensor's shape; None: it is drawn, normal with this mean and deviation.
    """

    mean: float
    std: float
    values: Tensor | None = None

    def start(self, noise: Tensor, ratio: Tensor | float | None = None) -> Tensor:
        """The tensor before the first step, in the dtype and on the device of the noise.

        Args:
            noise: standard normal, of the tensor's shape.
            ratio: what deviations from the mean are multiplied with; None: they are as they are.
        """
        if self.values is None:
            scale = self.std if ratio is None or self.std == 0 else self.std * ratio
            return self.mean + scale * noise
        values = self.values.to(noise.device, noise.dtype, copy=True)  # a copy: who is given it may change it
        return values if ratio is None else self.mean + ratio * (values - self.mean)


class _Law(NamedTuple):
    """A distribution of mean zero.

    Attributes:
        std: its standard deviation.
        bound: no number is larger.
        error: `UNIFORM` or `NORMAL`.
    """

    std: float
    bound: float
    error: float


def _by_fan_in(n: int) -> _Law:
    """U(-1/√n, 1/√n)."""
    return _Law((3 * n) ** -0.5, n**-0.5, UNIFORM)


def moments_of(
    module: nn.Module, made_by_law: bool = False, copy: bool = True, also: Collection[Tensor] = ()
) -> dict[str, Moments]:
    """How each parameter tensor that needs a gradient starts.

    A tensor that torch's layers draw by a known law is drawn by it, if its values are such as that law gives. All
    others start at the values that they have: what an author has initialised, loaded or trained stays, and so do
    tensors of the module's own. Tied tensors are one, by their first name. What needs no gradient is a constant.

    Args:
        module: of any layers.
        made_by_law: whether its layers are known to be drawn by their laws, so that their values need no look.
        copy: whether values are copied, so that who trains the module itself does not move the start.
        also: parameters that count as trained, whether they need a gradient now or not.

    Raises:
        ConfigError: there is nothing to train, or a tensor has no values yet, or complex ones.
    """
    trained = dict(module.named_parameters())
    trained = {name: p for name, p in trained.items() if p.requires_grad or any(p is other for other in also)}
    if not trained:
        raise ConfigError(
            f"{type(module).__name__} has no parameters that need a gradient; set requires_grad of those to train"
        )
    _check(trained)
    found: dict[str, Moments] = {}
    for path, layer in module.named_modules():
        for name, parameter in layer.named_parameters(prefix=path, recurse=False):
            if name in trained and name not in found:
                law = _law(layer, name.rpartition(".")[2], parameter)
                by_law = law is not None and (made_by_law or _may_come_from(law, parameter.detach()))
                found[name] = Moments(0.0, law.std) if law and by_law else _present(parameter.detach(), copy)
    return {name: found[name] for name in trained}


def _check(parameters: Mapping[str, nn.Parameter]) -> None:
    for name, p in parameters.items():
        if isinstance(p, nn.parameter.UninitializedParameter):
            raise ConfigError(f"{name} has no shape yet; run the model once on a batch before a policy meets it")
        if p.is_meta:
            raise ConfigError(f"{name} has no values yet, on the device meta; put the model on a real device first")
        if p.is_complex():
            raise ConfigError(f"{name} is {p.dtype}, but only real numbers are trained; hold it as two real tensors")


def _law(layer: nn.Module, name: str, parameter: Tensor) -> _Law | None:
    """How torch's `reset_parameters` draws a tensor; None where it does not, or nobody has said.

    Read from a layer's sizes: to look at a weight that a parametrization makes may change the layer.
    """
    law = None
    plain = name in ("weight", "bias")
    if isinstance(layer, Embedding):
        law = _Law(layer.std, layer.bound, UNIFORM)
    elif isinstance(layer, (nn.RNNBase, nn.RNNCellBase)):
        law = _by_fan_in(layer.hidden_size)
    elif isinstance(layer, nn.MultiheadAttention) and name.endswith("weight"):
        std = math.sqrt(2 / sum(parameter.shape))
        law = _Law(std, 3**0.5 * std, UNIFORM)
    elif isinstance(layer, nn.Linear) and plain and layer.in_features:
        law = _by_fan_in(layer.in_features)
    elif isinstance(layer, nn.Bilinear) and plain:
        law = _by_fan_in(layer.in1_features)
    elif isinstance(layer, _ConvNd) and plain:
        channels = layer.out_channels if layer.transposed else layer.in_channels
        law = _by_fan_in(channels // layer.groups * math.prod(layer.kernel_size))
    elif isinstance(layer, (nn.Embedding, nn.EmbeddingBag)) and plain and layer.padding_idx is None:
        law = _Law(1.0, math.inf, NORMAL)
    return law


def _may_come_from(law: _Law, values: Tensor) -> bool:
    """Whether values look as if they had been drawn by a law: within its bound, of its mean and deviation, independent.

    Where chance makes them look otherwise, once in ten thousand, training starts at them, and they are a draw as well.
    """
    if type(values) is not Tensor:  # such as DTensor, whose numbers lie on several machines
        return True
    n = values.numel()
    if n == 0 or (_all_alike(values) and (n > 1 or not values.any())):
        return False
    numbers = values.to(torch.promote_types(values.dtype, torch.float32))
    largest, mean, square = (x.item() for x in (numbers.abs().max(), numbers.mean(), numbers.square().mean()))
    below = largest / law.bound if law.bound < math.inf else math.erf(largest / law.std / 2**0.5)
    error = SURE * n**-0.5
    fits = [
        largest <= law.bound * (1 + 2 * torch.finfo(values.dtype).eps),
        n * math.log(below or 1.0) >= math.log(RARE),  # that all of them are so small
        abs(mean) <= error * law.std,
        abs(square - law.std**2) <= error * law.error * law.std**2,
    ]
    return all(fits) and all(_independent(numbers, dim) for dim in {0, values.dim() - 1})


def _independent(numbers: Tensor, dim: int) -> bool:
    """Whether neighbours along a dimension are not alike, as they are in a table of positions."""
    pairs = numbers.size(dim) - 1
    if pairs == 0:
        return True
    products = numbers.narrow(dim, 0, pairs) * numbers.narrow(dim, 1, pairs)
    return abs(products.mean().item()) <= SURE * numbers.square().mean().item() * products.numel() ** -0.5


def _present(values: Tensor, copy: bool) -> Moments:
    if type(values) is not Tensor:
        return Moments(0.0, 1.0, values)
    if values.numel() == 0 or _all_alike(values):
        return Moments(values.flatten()[0].item() if values.numel() else 0.0, 0.0)
    numbers = values.to(torch.promote_types(values.dtype, torch.float32))
    std, mean = (moment.item() for moment in torch.std_mean(numbers, correction=0))
    is_centred = abs(mean) <= SURE * std * values.numel() ** -0.5  # then zeros, such as padding, stay zeros when scaled
    return Moments(0.0 if is_centred else mean, std, values.clone() if copy else values)


def _all_alike(values: Tensor) -> bool:
    return bool((values == values.flatten()[0]).all())
