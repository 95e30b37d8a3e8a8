"""An exported policy in other people's training: their models, their loops, their processes."""

import tempfile
import warnings
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from export_policies import examples, module_with, noise_for, settings_of, write_policy
from torch import distributed, multiprocessing, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from metaopt import load_policy
from metaopt.errors import ConfigError
from metaopt.export.loaded import LoadedPolicy
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings, StrengthSettings

DATA = examples()
EVERY_KIND = ["per_parameter", "role_normalised", "adaptive", "adaptive_normalised", "learned_optimizer", "directions"]


@pytest.fixture
def policy_of(tmp_path):
    def load(name):
        settings = settings_of(name) if isinstance(name, str) else name
        write_policy(tmp_path / f"{settings.name}.safetensors", settings)
        return load_policy(tmp_path / f"{settings.name}.safetensors")

    return load


def network(dtype=torch.float64):
    return module_with(noise_for()).to(dtype)


def backward(module, optimizer, rows=slice(None)):
    optimizer.zero_grad()
    loss = F.cross_entropy(module(DATA.x[rows].to(next(module.parameters()).dtype)).float(), DATA.y[rows])
    loss.backward()
    return loss.detach()


def train(module, optimizer, steps=5):
    for _ in range(steps):
        loss = backward(module, optimizer)
        optimizer.step(loss=loss)
    return [p.detach().clone() for p in module.parameters()]


def largest_difference(one, other):
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", EVERY_KIND)
def test_a_model_in_half_precision_is_stepped_in_float32(name, dtype, policy_of):
    policy, whole, half = policy_of(name), network(torch.float32), network(dtype)
    optimizer, other = policy.optimizer(half), policy.optimizer(whole)
    for _ in range(3):
        backward(half, optimizer)
        for p, q in zip(whole.parameters(), half.parameters(), strict=True):  # the same step of both
            p.data.copy_(q.data)
            p.grad = q.grad.float()
        optimizer.step(loss=1.0)
        other.step(loss=1.0)
        for p, q in zip(whole.parameters(), half.parameters(), strict=True):
            assert q.dtype == dtype
            assert torch.equal(p.detach().to(dtype), q.detach())
    kept = deepcopy(optimizer.state_dict())
    again = policy.optimizer(half)
    again.load_state_dict(kept)
    for p in half.parameters():
        for key, value in optimizer.state[p].items():
            assert torch.equal(again.state[p][key], value)
            assert again.state[p][key].dtype == value.dtype != dtype


@pytest.mark.parametrize("name", ["adaptive", "role_normalised"])
def test_torch_saves_and_loads_it_as_it_does_for_sharded_trainings(name, policy_of):
    policy = policy_of(name)
    module, twin = network(), network()
    optimizer, other = policy.optimizer(module), policy.optimizer(twin)
    train(module, optimizer)
    saved = deepcopy(get_state_dict(module, optimizer))
    get_state_dict(twin, other)  # which makes an optimizer's state by a step along zeros
    assert other.steps_taken == 0
    set_state_dict(twin, other, model_state_dict=saved[0], optim_state_dict=saved[1])
    assert other.steps_taken == 5
    assert largest_difference(train(module, optimizer), train(twin, other)) == 0


def test_a_bare_step_reads_the_loss_that_was_handed_over_once(policy_of):
    policy = policy_of("adaptive")
    module, twin = network(), network()
    optimizer, other = policy.optimizer(module), policy.optimizer(twin)
    for _ in range(4):
        loss = backward(module, optimizer)
        optimizer.step(loss=loss)
        other.loss = backward(twin, other)
        other.step()
    assert largest_difference(module.parameters(), twin.parameters()) == 0
    with pytest.raises(ConfigError, match=r"optimizer\.loss = loss"):
        other.step()
    other.loss = loss
    other.zero_grad()  # as after a step that a GradScaler has skipped
    F.cross_entropy(twin(DATA.x), DATA.y).backward()
    with pytest.raises(ConfigError, match="none came"):
        other.step()


@pytest.mark.parametrize(
    "setting", [{"weight_decay": 0.1}, {"betas": (0.9, 0.99)}, {"momentum": 0.0}, {"maximize": True}, {"eps": 1e-8}]
)
@pytest.mark.parametrize("name", ["role", "torch_optimizer"])
def test_a_setting_that_would_do_nothing_is_refused(name, setting, policy_of):
    policy, module = policy_of(name), network()
    (key,) = setting
    with pytest.raises(ConfigError, match=f"says {key}=.*leave {key} out"):
        policy.optimizer(module, groups=[{"params": module.parameters(), **setting}])
    if name == "role":
        optimizer = policy.optimizer(module, groups=[{"params": module.parameters(), "fused": None, "mine": 3}])
        optimizer.param_groups[0].update(setting)
        backward(module, optimizer)
        with pytest.raises(ConfigError, match=f"says {key}="):
            optimizer.step()


def test_no_weight_decay_is_no_l2(policy_of):
    settings = PolicySettings("l2", StrengthSettings("learned", 0.1, "role"), StrengthSettings("learned", 1.0, "role"))
    policy = policy_of(settings)
    plain = policy_of(PolicySettings("plain", StrengthSettings("learned", 0.1, "role")))
    module, twin = network(), network()
    groups = [{"params": module.parameters(), "weight_decay": 0.0}]
    optimizer, other = policy.optimizer(module, groups=groups), plain.optimizer(twin)
    rates = policy.fit(module).policy.strength("lr")
    for (name, p), q in zip(module.named_parameters(), twin.parameters(), strict=True):
        before = p.detach().clone()
        p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
        optimizer.step()
        torch.testing.assert_close(before - p.detach(), torch.full_like(p, float(rates[name].detach())))
        optimizer.zero_grad()
    del other


@pytest.mark.parametrize(
    "form",
    [
        lambda m: list(m.parameters()),
        lambda m: m.parameters(),
        lambda m: m.named_parameters(),
        lambda m: [{"params": m.named_parameters()}],
        lambda m: filter(lambda p: p.requires_grad, m.parameters()),
    ],
)
@pytest.mark.parametrize("name", ["role", "torch_optimizer"])
def test_groups_come_in_all_of_torchs_forms(name, form, policy_of):
    module = network()
    before = [p.detach().clone() for p in module.parameters()]
    optimizer = policy_of(name).optimizer(module, groups=form(module))
    loss = backward(module, optimizer)
    optimizer.step(**({"loss": loss} if name == "role" else {}))
    after = [p.detach() for p in module.parameters()]
    assert all((p != q).any() for p, q in zip(before, after, strict=True))


def test_what_is_no_group_and_no_model_is_named(policy_of):
    policy, module = policy_of("role"), network()
    for given in ([1, 2], [module], ["weight"]):
        with pytest.raises(ConfigError, match="groups holds a"):
            policy.optimizer(module, groups=given)
    for method in ("optimizer", "init", "fit", "regularised", "reading"):
        for given in (module.parameters(), list(module.parameters()), module.state_dict(), None):
            with pytest.raises(ConfigError, match=r"needs the model itself.*policy\.optimizer\(model\)"):
                getattr(policy, method)(given)


@pytest.mark.parametrize("thaw_first", [True, False])
@pytest.mark.parametrize("name", ["role", "adaptive", "per_parameter"])
def test_what_was_frozen_can_join(name, thaw_first, policy_of):
    module = network()
    body = [*module.hidden0.parameters(), *module.hidden1.parameters()]
    for p in body:
        p.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # per parameter, a part of the model is another model
        optimizer = policy_of(name).optimizer(module)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2]
    train(module, optimizer, 2)
    for p in body if thaw_first else ():
        p.requires_grad_(True)
    optimizer.add_param_group({"params": body})
    for p in body:
        p.requires_grad_(True)
    before = [p.detach().clone() for p in body]
    train(module, optimizer, 1)
    assert all((p != q).any() for p, q in zip(body, before, strict=True))
    assert optimizer.steps_taken == 3


@pytest.mark.parametrize("name", ["role", "per_parameter"])
def test_a_layer_may_be_called_as_a_role_is(name, policy_of):
    """`hidden` is the first layer here, `first` the last."""
    policy = policy_of(name)
    plain, named = network(), nn.Sequential()
    layers = [layer for layer in deepcopy(plain) if list(layer.parameters())]
    for own, layer in zip(("hidden", "last", "first"), layers, strict=True):
        named.add_module(own, layer)
    found, expected = policy.fit(named).policy.strength("lr"), policy.fit(plain).policy.strength("lr")
    for (name_here, p), (name_there, _) in zip(named.named_parameters(), plain.named_parameters(), strict=True):
        there = expected[name_there].log().mean().exp() * torch.ones(p.shape)
        torch.testing.assert_close(found[name_here] * torch.ones(p.shape), there)


def test_a_tensor_may_be_called_all(policy_of):
    settings = PolicySettings("tensors", StrengthSettings("learned", 0.1, "tensor"))

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.all = nn.Parameter(torch.randn(3, 6))
            self.out = nn.Linear(6, 3)

    loaded = policy_of(settings)
    rates = loaded.fit(Own()).policy.strength("lr")
    assert len({value.flatten()[0].item() for value in rates.values()}) > 1


class Block(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.words = nn.Embedding(11, width)
        self.position = nn.Parameter(0.02 * torch.randn(5, width))
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 3)

    def forward(self, x):
        x = self.words(x) + self.position
        return self.out(self.norm(x + self.attention(x, x, x, need_weights=False)[0]).mean(1))


USUAL = {
    "batch norm": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.Flatten(), nn.Linear(64, 3)),
        lambda: torch.randn(6, 1, 6, 6),
    ),
    "attention": (Block, lambda: torch.randint(11, (6, 5))),
    "group norm": (
        lambda: nn.Sequential(
            nn.GroupNorm(1, 2), nn.Conv1d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 3)
        ),
        lambda: torch.randn(6, 2, 6),
    ),
}


@pytest.mark.parametrize("model", USUAL)
@pytest.mark.parametrize("name", ["role", "role_normalised", "per_parameter", "adaptive", "learned_optimizer"])
def test_norms_that_a_policy_has_not_met_are_stepped_as_biases_and_said_so(name, model, policy_of):
    module, policy = USUAL[model][0](), policy_of(name)
    if settings_of(name).tells_steps_apart():
        with pytest.warns(UserWarning, match="has met no such normalisation.*stepped as biases: .*weight"):
            policy.optimizer(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = policy.optimizer(module)
    before = [p.detach().clone() for p in module.parameters()]
    loss = F.cross_entropy(module(USUAL[model][1]()), torch.arange(6) % 3)
    loss.backward()
    optimizer.step(loss=loss)
    for p, q in zip(module.parameters(), before, strict=True):
        assert p.isfinite().all()
        assert (p != q).any() or not p.grad.any()


def test_the_initialisation_multiplies_what_the_author_gave(policy_of):
    settings = PolicySettings("init", StrengthSettings("learned", 0.1, "global"), init=InitSettings("scaled", "role"))
    policy, module = policy_of(settings), Block(64)
    nn.init.normal_(module.words.weight, std=0.02)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = policy.init(module)
        ratios = policy.fit(module).policy.strength("init_std")
    assert {"words.weight", "position", "out.weight"} <= set(written)
    for name, p in module.named_parameters():
        if name in written:
            by = (p.detach() - p.mean()).std() / (before[name] - before[name].mean()).std()
            assert by.item() == pytest.approx(ratios[name].item(), rel=1e-3)
        else:
            assert torch.equal(p.detach(), before[name])
    assert torch.equal(module.norm.weight.detach(), torch.ones(64))
    once = module.words.weight.detach().clone()
    assert policy.init(module) == written
    assert torch.equal(module.words.weight.detach(), once), "a second call multiplies nothing"


def test_a_step_in_a_compiled_loop_is_compiled_once_at_most(policy_of):
    module, twin = network(), network()
    policy = policy_of("adaptive")
    optimizer, other = policy.optimizer(module), policy.optimizer(twin)
    counts = []

    def count(graph, _):
        counts.append(graph)
        return graph

    compiled = torch.compile(lambda loss: optimizer.step(loss=loss), backend=count)
    for step in range(5):
        compiled(backward(module, optimizer))
        if step == 1:
            after_two = len(counts)
    assert len(counts) == after_two
    assert largest_difference(module.parameters(), train(twin, other)) == 0


def _in_two_processes(rank, folder, found):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    half = slice(rank, None, 2)
    for wrap in ("of the wrapped", "of the model"):
        plain = network()
        wrapped = DistributedDataParallel(plain)
        policy = load_policy(f"{folder}/adaptive.safetensors")
        optimizer = policy.optimizer(wrapped if wrap == "of the wrapped" else plain)
        for _ in range(4):
            optimizer.step(loss=backward(wrapped, optimizer, half))
        alone = network()
        other = policy.optimizer(alone, process_group=None)
        train(alone, other, 4)
        found[f"{wrap}, {rank}"] = (
            [p.detach() for p in plain.parameters()],
            largest_difference(plain.parameters(), alone.parameters()),
        )
    for name in ("per_parameter", "role_normalised", "pull"):
        policy = load_policy(f"{folder}/{name}.safetensors")
        sharded, whole = network(), network()
        fully_shard(sharded)
        optimizer, other = policy.optimizer(sharded), policy.optimizer(whole)
        for _ in range(3):
            optimizer.step(loss=backward(sharded, optimizer, half))
        train(whole, other, 3)
        full = [p.full_tensor().detach() for p in sharded.parameters()]
        found[f"{name}, {rank}"] = largest_difference(full, whole.parameters())
    for name in ("adaptive", "meta_curvature"):
        sharded = network()
        policy = load_policy(f"{folder}/{name}.safetensors")
        fully_shard(sharded)
        try:
            policy.optimizer(sharded)
        except ConfigError as error:
            found[f"{name}, {rank}"] = str(error)
    distributed.destroy_process_group()


def test_replicas_stay_equal_and_shards_step_as_the_whole(tmp_path):
    pull = PolicySettings(
        "pull",
        StrengthSettings("learned", 0.1, "role"),
        pull=StrengthSettings("learned", 0.3, "element"),
        momentum=MomentumSettings("learned"),
    )
    for name in ("adaptive", "per_parameter", "role_normalised", "meta_curvature"):
        write_policy(tmp_path / f"{name}.safetensors", settings_of(name))
    write_policy(tmp_path / "pull.safetensors", pull)
    assert isinstance(load_policy(tmp_path / "pull.safetensors"), LoadedPolicy)
    with multiprocessing.Manager() as manager, tempfile.TemporaryDirectory():
        found = manager.dict()
        multiprocessing.spawn(_in_two_processes, (str(tmp_path), found), nprocs=2)
        found = dict(found)
    for wrap in ("of the wrapped", "of the model"):
        (one, off), (other, _) = found[f"{wrap}, 0"], found[f"{wrap}, 1"]
        assert largest_difference(one, other) == 0
        assert off < 1e-5, "the mean of the halves' losses is that of all"
    for name in ("per_parameter", "role_normalised", "pull"):
        assert found[f"{name}, 0"] < 1e-9, name
    for name in ("adaptive", "meta_curvature"):
        assert "looks at whole tensors, but 'hidden0.weight' is sharded" in found[f"{name}, 0"]
