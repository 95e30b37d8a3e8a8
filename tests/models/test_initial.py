import math
from functools import partial

import pytest
import torch
from torch import nn

from metaopt.errors import ConfigError
from metaopt.export.network import network_of
from metaopt.models.initial import moments_of
from metaopt.models.model import model_from
from metaopt.policies.policy import Policy
from metaopt.policies.settings import InitSettings, PolicySettings, StrengthSettings

MAKERS = {"model_from": lambda module: model_from(module, {"name": "own"}), "network_of": lambda m: network_of(m).model}
BY_LAW = {
    "Linear": lambda: nn.Linear(6, 20),
    "Conv1d": lambda: nn.Conv1d(2, 8, 3),
    "Conv3d": lambda: nn.Conv3d(2, 8, 2),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(8, 4, 3, groups=2),
    "Bilinear": lambda: nn.Bilinear(5, 7, 6),
    "GRU": lambda: nn.GRU(6, 8, 2, bidirectional=True),
    "LSTM": lambda: nn.LSTM(6, 8, proj_size=3),
    "GRUCell": lambda: nn.GRUCell(6, 8),
    "Embedding": lambda: nn.Embedding(30, 8),
    "EmbeddingBag": lambda: nn.EmbeddingBag(30, 8),
    "weights of attention": lambda: nn.MultiheadAttention(8, 2, bias=False),
}
"""All of their tensors are drawn by torch."""


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def started(model, mode="fresh", seed=1, ratio=1.0):
    """Where a policy starts a model."""
    settings = PolicySettings(lr=StrengthSettings("learned", 0.1, "global"), init=InitSettings(mode, "global"))
    policy = Policy(settings, model.shapes, model.init, 5, torch.Generator().manual_seed(0), model.roles)
    generator = torch.Generator().manual_seed(seed)
    noise = {name: torch.randn(shape, generator=generator) for name, shape in model.shapes.items()}
    factors = {"init_std": torch.tensor(ratio)} if mode == "scaled" else {}
    return policy.start(noise, policy.scaled(factors))


makers = pytest.mark.parametrize("maker", MAKERS)


@makers
@pytest.mark.parametrize("name", BY_LAW)
def test_what_torch_draws_is_drawn_with_the_deviation_that_torch_draws_it_with(name, maker):
    module = seeded(BY_LAW[name])
    model = MAKERS[maker](module)
    assert all(moments.values is None for moments in model.init.values())
    draws = {name: [] for name in model.shapes}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(100):
            again = BY_LAW[name]()
            for tensor, p in again.named_parameters():
                draws[tensor].append(p.detach())
    for tensor, drawn in draws.items():
        values = torch.stack(drawn)
        assert abs(values.std().item() - model.init[tensor].std) <= 4 * model.init[tensor].std / values.numel() ** 0.5


class Author(nn.Module):
    """Everything that an author may have made by hand."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(0.3 * torch.randn(6, 8))
        self.eye = nn.Parameter(torch.eye(4))
        self.embedding = nn.Embedding(50, 8)
        self.padded = nn.Embedding(20, 8, padding_idx=0)
        self.positions = nn.Embedding(10, 8)
        self.narrow, self.orthogonal, self.trained = nn.Linear(40, 40), nn.Linear(20, 20), nn.Linear(30, 10)
        self.zero_bias, self.weighted = nn.Linear(6, 8), nn.utils.parametrizations.weight_norm(nn.Linear(6, 8))
        self.attention = nn.MultiheadAttention(8, 2, add_bias_kv=True)
        with torch.no_grad():
            self.embedding.weight.mul_(0.02)
            self.positions.weight.copy_(torch.arange(80.0).view(10, 8).sin())
            nn.init.normal_(self.narrow.weight, std=0.02)
            nn.init.orthogonal_(self.orthogonal.weight)
            self.trained.weight[3, 4] = 0.5  # out of what torch draws
            nn.init.zeros_(self.zero_bias.bias)


KEPT = (
    "table",
    "eye",
    "embedding.weight",
    "padded.weight",
    "positions.weight",
    "narrow.weight",
    "orthogonal.weight",
    "trained.weight",
    "zero_bias.bias",
    "weighted.parametrizations.weight.original0",
    "weighted.parametrizations.weight.original1",
    "attention.bias_k",
    "attention.bias_v",
    "attention.in_proj_bias",
)


@makers
def test_what_an_author_has_made_stays_and_the_rest_is_drawn(maker):
    module = seeded(Author)
    own = dict(module.named_parameters())
    model = MAKERS[maker](module)
    assert list(model.init) == list(model.shapes) == list(own)
    one, other = started(model), started(model, seed=2)
    same = {name for name in own if torch.equal(one[name], own[name].detach())}
    assert same == set(KEPT) | {"attention.out_proj.bias"}
    assert {name for name in own if torch.equal(one[name], other[name])} == same
    assert [n for n, p in own.items() if p.numel() > 1 and p.std() > 0 and one[n].std() == 0] == []


@makers
def test_a_scaled_start_scales_what_is_there(maker):
    module = seeded(Author)
    model = MAKERS[maker](module)
    found = started(model, "scaled", ratio=2.0)
    for name, p in module.named_parameters():
        if name in KEPT:
            centre = p.detach().mean() if name.endswith("original0") else 0.0  # the norms of rows, and all else
            torch.testing.assert_close(found[name], centre + 2 * (p.detach() - centre), msg=name)
    drawn = started(model)["narrow.bias"]
    torch.testing.assert_close(found["narrow.bias"], 2 * drawn)


def test_a_learned_start_begins_at_the_modules_values():
    module = seeded(Author)
    found = started(model_from(module, {"name": "own"}), "learned")
    assert torch.equal(found["table"], module.table)


def test_training_the_module_moves_no_start_but_that_of_the_export():
    module = seeded(Author)
    kept, shared = MAKERS["model_from"](module), MAKERS["network_of"](module)
    with torch.no_grad():
        module.table.add_(1.0)
    torch.testing.assert_close(started(kept)["table"] + 1, module.table)
    assert torch.equal(started(shared)["table"], module.table)
    started(kept)["table"].add_(1.0)
    torch.testing.assert_close(started(kept)["table"] + 1, module.table)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_modules_of_other_dtypes_start_in_that_of_the_noise(dtype):
    module = seeded(Author).to(dtype)
    start = started(model_from(module, {"name": "own"}))
    assert {tensor.dtype for tensor in start.values()} == {torch.float32}
    assert not torch.equal(start["trained.bias"], module.trained.bias.float()), "drawn, as in float32"


def test_tied_tensors_are_one_and_frozen_ones_none():
    module = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3))
    module[1].weight = module[0].weight
    module[2].bias.requires_grad_(False)
    for make in MAKERS.values():
        assert set(make(module).shapes) == {"0.weight", "0.bias", "1.bias", "2.weight"}


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.phases = nn.Parameter(torch.ones(3, dtype=torch.complex64))


@makers
@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Complex(), "phases is torch.complex64"),
        (nn.LazyLinear(3), "weight has no shape yet; run the model once"),
        (nn.Linear(2, 3, device="meta"), "weight has no values yet, on the device meta"),
        (nn.Linear(2, 3).requires_grad_(False), "Linear has no parameters that need a gradient"),
        (nn.ReLU(), "ReLU has no parameters"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parameters_that_cannot_start_are_named(module, words, maker):
    with pytest.raises(ConfigError, match=words):
        MAKERS[maker](module)


def test_values_are_told_from_a_law_by_bound_mean_and_deviation_and_few_numbers_by_the_bound():
    layer = nn.Linear(9, 1)

    def by_law(change, name="weight"):
        torch.manual_seed(0)
        layer.reset_parameters()
        with torch.no_grad():
            change(getattr(layer, name))
        return moments_of(layer)[name].values is None and moments_of(layer)[name].std > 0

    with torch.random.fork_rng():
        assert by_law(lambda p: None)
        assert by_law(lambda p: None, "bias")
        assert not by_law(lambda p: p.fill_(0.34), "bias")
        assert not by_law(nn.init.zeros_, "bias")
        assert not by_law(lambda p: p.fill_(0.1))
        assert not by_law(lambda p: p.mul_(2))
        assert not by_law(lambda p: p.abs_().clamp_(min=0.3))
    wide = nn.Linear(3, 3000)
    nn.init.normal_(wide.weight, std=0.1)
    assert wide.weight.abs().max() < 3**-0.5, "within the bound"
    assert moments_of(wide)["weight"].values is not None
    assert math.isclose(moments_of(wide, made_by_law=True)["weight"].std, 1 / 3)


def test_a_parametrized_layer_is_not_run_to_know_its_law():
    module = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 8))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    partial(moments_of, module)()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name
