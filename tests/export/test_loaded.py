import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from export_policies import MODEL, examples, module_with, noise_for, settings_of, write_policy
from torch import nn

import metaopt
from metaopt.errors import ConfigError, PolicyFileError
from metaopt.policies.settings import InitSettings, PolicySettings, StrengthSettings


def saved(tmp_path, name_or_settings, **options):
    settings = settings_of(name_or_settings) if isinstance(name_or_settings, str) else name_or_settings
    policy = write_policy(tmp_path / "policy.safetensors", settings, **options)
    return policy, metaopt.load_policy(tmp_path)


class Conv1dNet(nn.Module):
    """A network of a user's own, of layers that metaopt has no models with."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.convolution = nn.Conv1d(8, 6, 3)
        self.norm = nn.BatchNorm1d(6)
        self.recurrent = nn.LSTM(6, 5, batch_first=True)
        self.scale = nn.Parameter(torch.ones(5))
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        x = self.norm(self.convolution(self.words(x).mT)).relu()
        return self.head(self.recurrent(x.mT)[0][:, -1] * self.scale)


@pytest.mark.parametrize("name", ["role", "role_normalised", "adaptive", "learned_optimizer"])
def test_policies_for_roles_train_networks_of_any_layers(name, tmp_path):
    torch.manual_seed(0)
    _, loaded = saved(tmp_path, name, size=0.0)
    x = torch.randint(20, (32, 10))
    y = (x == 3).any(1).long() + (x == 5).any(1).long()
    # There is no norm and no convolution in the model that the policy was learned on.
    network = Conv1dNet()
    if name.startswith("role"):
        with pytest.warns(UserWarning, match=r"no such normalisation, .* as biases: norm\.weight, norm\.bias"):
            loaded.optimizer(network)
        network.norm = nn.Identity()
    losses = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # otherwise such a policy is matched without a warning
        optimizer = loaded.optimizer(network)
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step(loss=loss)
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_matching_by_the_mean_of_a_role_is_said(tmp_path):
    _, loaded = saved(tmp_path, "per_parameter")
    wide = nn.Sequential(nn.Linear(6, 11), nn.Tanh(), nn.Linear(11, 3))
    with pytest.warns(UserWarning, match=r"matched by role, with the mean over the tensors of that role.*2\.weight"):
        loaded.optimizer(wide)
    assert "Sequential" in loaded.fit(wide).note


def test_a_learned_initialisation_is_written(tmp_path):
    policy, loaded = saved(tmp_path, "meta_sgd")
    module = module_with({name: torch.zeros(shape) for name, shape in MODEL.shapes.items()})
    before = torch.random.get_rng_state()
    assert loaded.init(module) == list(MODEL.shapes)
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, p in module.named_parameters():
        torch.testing.assert_close(p.detach(), policy.start({})[name].detach(), rtol=1e-6, atol=0)
    with pytest.raises(PolicyFileError, match="fits its own model only"):
        loaded.init(nn.Linear(6, 3))


def test_a_scaled_initialisation_has_the_learned_scales(tmp_path):
    settings = PolicySettings(lr=StrengthSettings("learned", 0.1, "global"), init=InitSettings("scaled", "role"))
    policy, loaded = saved(tmp_path, settings, size=1.0)
    network = nn.Sequential(nn.Linear(400, 300), nn.Tanh(), nn.BatchNorm1d(300), nn.Linear(300, 100))
    network[2].weight.data.fill_(7.0)
    written = loaded.init(network)
    assert written == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert (network[2].weight == 7).all()
    ratios = policy.strength("init_std")
    for p, ratio, fan_in in (
        (network[0].weight, ratios["hidden0.weight"], 400),
        (network[3].weight, ratios["output.weight"], 300),
    ):
        assert p.std().item() == pytest.approx(ratio.item() * (3 * fan_in) ** -0.5, rel=0.02)


def test_nothing_is_written_where_training_starts_as_torch_starts_it(tmp_path):
    _, loaded = saved(tmp_path, "role")
    module = module_with(noise_for())
    assert loaded.init(module) == []
    for name, p in module.named_parameters():
        assert (p == noise_for()[name]).all()


def test_dropout_and_input_noise_are_there_in_training_mode_only(tmp_path):
    policy, loaded = saved(tmp_path, "regularised")
    module = module_with(noise_for())
    x = examples().x
    plain = module(x)
    with pytest.warns(UserWarning, match=r"call policy\.regularised\(model\) first"):
        loaded.optimizer(module)
    with loaded.regularised(module) as found:
        assert 0 < found.label_smoothing < 1
        assert found.label_smoothing == pytest.approx(policy.loss_strengths().smoothing.item(), rel=1e-6)
        assert (module(x) != plain).any()
        assert (module.eval()(x) == plain).all()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded.optimizer(module)
        module.train()
        seen = []
        hook = module.output.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
        torch.manual_seed(0)
        for _ in range(300):
            module(x)
        hook.remove()
    assert (module(x) == plain).all()
    inputs = torch.stack(seen)
    rate, noise = policy.loss_strengths().dropout["output.weight"].item(), policy.loss_strengths().input_noise.item()
    assert rate > 0
    assert noise > 0
    spread = (inputs.std(0) / inputs.mean(0).abs()).median().item()
    assert spread > 0.8 * rate  # the layers before add their own


def test_minibatches_are_those_of_the_policys_order(tmp_path):
    _, epochs = saved(tmp_path, "role")
    order = epochs.minibatches(32, steps=4, generator=torch.Generator().manual_seed(0))
    assert order.shape == (4, 16)  # the batch size that the policy was learned with
    assert sorted(order[:2].flatten().tolist()) == list(range(32))
    assert epochs.minibatches(8).shape == (50, 8)
    assert epochs.minibatches(8, batch_size=100).tolist() == [list(range(8))] * 50
    settings = settings_of("adaptive")
    _, parts = saved(tmp_path, type(settings)(**{**vars(settings), "order": "progressive"}))
    order = parts.minibatches(32, steps=24, batch_size=8, generator=torch.Generator().manual_seed(0))
    first, last = order[:4].unique(), order[-12:].unique()
    assert len(first) <= 8
    assert len(last) > 24


def test_what_it_says_of_itself(tmp_path):
    _, loaded = saved(tmp_path, "role")
    assert (loaded.name, loaded.horizon, loaded.batch_size) == ("role", 50, 16)
    assert "role" in repr(loaded)
    assert loaded.card.tasks == "digits"


def test_models_that_cannot_be_trained_are_named(tmp_path):
    _, loaded = saved(tmp_path, "role")
    with pytest.raises(ConfigError, match="Linear has no parameters that need a gradient"):
        loaded.optimizer(nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(ConfigError, match=r"0\.weight has no shape yet; run the model once"):
        loaded.optimizer(nn.Sequential(nn.LazyLinear(3)))
    with pytest.raises(PolicyFileError, match="no policy file at"):
        metaopt.load_policy(tmp_path / "nowhere.safetensors")


def test_importing_metaopt_is_light_and_its_names_are_listed():
    code = (
        "import sys, metaopt; assert 'torch' not in sys.modules and 'load_policy' in dir(metaopt); metaopt.load_policy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'load_polisy'"):
        _ = metaopt.load_polisy
