"""The wrapper around a task's loss, and the random numbers in it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from policy_helpers import HORIZON

from metaopt.errors import ConfigError, PolicyFileError
from metaopt.models.conv4 import conv4
from metaopt.models.linear import linear
from metaopt.models.mlp import mlp
from metaopt.models.resnet import resnet
from metaopt.models.transformer import transformer
from metaopt.policies.file import PolicyCard, load_policy_file, save_policy
from metaopt.policies.fitting import fit_policy
from metaopt.policies.loss_strengths import BANK_SIZE, LossStrengths, inner_loss, numbers, places_of
from metaopt.policies.policy import Policy
from metaopt.policies.reading import read_policy
from metaopt.policies.rule import LossNoise
from metaopt.policies.settings import PolicySettings, StrengthSettings
from metaopt.types import Batch, Kind, TaskSpec

TASK = TaskSpec(Kind.classification, (3,), 4)
IMAGES = TaskSpec(Kind.classification, (1, 8, 8), 4)
DEEP, FLAT = mlp(TASK, [5, 6, 7]), mlp(TASK, [5])


def settings(granularity="tensor", **others):
    learned = {
        "lr": StrengthSettings("learned", 0.1, "role"),
        "label_smoothing": StrengthSettings("learned", 0.2),
        "dropout": StrengthSettings("learned", 0.3, granularity),
        "input_noise": StrengthSettings("learned", 0.4),
    }
    return PolicySettings(**(learned | others))


def made(chosen, model):
    return Policy(chosen, model.shapes, model.init, HORIZON, roles=model.roles)


def noise_of(seed=0, size=BANK_SIZE, present=None):
    bank = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return LossNoise(bank, present)


# Where dropout goes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (DEEP, 3),
        (linear(TASK), 0),
        (mlp(TASK, []), 0),
        (conv4(IMAGES, 4), 4),
        (resnet(IMAGES, [4, 8]), 6),
        (transformer(TASK, 8, 2, 1), 7),
    ],
    ids=["mlp", "linear", "mlp without layers", "conv4", "resnet", "transformer"],
)
def test_all_layers_but_the_first_have_a_place(model, count):
    places = places_of(model.roles)
    assert len(places) == count
    assert not {model.roles[name] for name in places} & {"first.weight"}
    assert all(name in model.shapes for name in places)


def test_each_place_is_where_its_layer_takes_its_input():
    policy = made(settings(), DEEP)
    params = {name: torch.ones(shape) for name, shape in DEEP.shapes.items()}
    seen = {}

    def watch(name):
        return lambda x: seen.setdefault(name, x)

    DEEP.apply(params, torch.ones(2, 3), hidden={name: watch(name) for name in places_of(policy.roles)})
    assert {name: tuple(x.shape) for name, x in seen.items()} == {
        "hidden1.weight": (2, 5),
        "hidden2.weight": (2, 6),
        "output.weight": (2, 7),
    }


@pytest.mark.parametrize("mode", ["fixed", "learned"])
def test_a_model_without_hidden_layers_refuses_dropout(mode):
    chosen = PolicySettings(lr=StrengthSettings("learned", 0.1), dropout=StrengthSettings(mode, 0.1))
    with pytest.raises(ConfigError, match=r"policy\.dropout\.mode is (fixed|learned)") as caught:
        made(chosen, linear(TASK))
    assert "\n" not in str(caught.value)
    assert made(replace(chosen, dropout=StrengthSettings("off", 0.1)), linear(TASK)).inner_loss() is None


# Random numbers -------------------------------------------------------------------------------------------------------


def test_numbers_are_standard_normal_and_of_their_step_use_and_task():
    shape = torch.Size([32, 40])
    found = {
        (seed, step, use): numbers(noise_of(seed), step, use, shape).flatten()
        for seed in range(2)
        for step in range(6)
        for use in range(4)
    }
    together = torch.stack(list(found.values()))
    assert abs(float(together.mean())) < 0.02
    assert abs(float(together.var()) - 1) < 0.03
    correlations = torch.corrcoef(together) - torch.eye(len(together))
    assert correlations.abs().max() < 0.15, "1280 numbers each: no two of them are the same draw"


def test_no_two_examples_of_a_batch_have_the_same_numbers():
    # 1024 = 2^10 numbers an example, and 64 examples: twice the bank.
    rows = numbers(noise_of(), 3, 1, torch.Size([64, 32, 32])).flatten(1)
    assert (torch.corrcoef(rows) - torch.eye(64)).abs().max() < 0.2


def test_a_step_may_be_a_tensor_and_is_the_same_step():
    for step in (0, 1, 7, 5000):
        expected = numbers(noise_of(), step, 2, torch.Size([3, 4, 5]))
        assert torch.equal(numbers(noise_of(), torch.tensor(step), 2, torch.Size([3, 4, 5])), expected)


def test_what_is_appended_to_examples_changes_the_numbers_of_none():
    narrow, wide = (numbers(noise_of(), 4, 0, torch.Size([6, columns])) for columns in (3, 8))
    assert torch.equal(wide[:, :3], narrow)


# What is made of a loss -----------------------------------------------------------------------------------------------


def seen_by(strengths, x, noise=None, step=0):
    """What a wrapped loss hands on: the inputs, the smoothing and what layers get instead of ones."""
    got = {}

    def loss(params, batch, perturbation=None, /):
        got["x"], got["smoothing"] = batch.x, perturbation.smoothing
        got["hidden"] = {n: change(params[n]) for n, change in (perturbation.hidden or {}).items()}
        return batch.x.sum()

    ones = {"hidden1.weight": torch.ones(400, 50, dtype=torch.float64), "output.weight": torch.ones(400, 50).double()}
    inner_loss(strengths)(loss, noise or noise_of(), step)(ones, Batch(x, torch.zeros(len(x))))
    return got


def test_dropout_multiplies_with_mean_one_and_the_rate_as_deviation():
    got = seen_by(LossStrengths(dropout={"hidden1.weight": 0.25, "output.weight": 0.5}), torch.zeros(2, 3))
    for name, rate in (("hidden1.weight", 0.25), ("output.weight", 0.5)):
        factors = got["hidden"][name]
        assert abs(float(factors.mean()) - 1) < 0.02
        assert float(factors.std()) == pytest.approx(rate, rel=0.03)
    first, second = (x.flatten() - 1 for x in got["hidden"].values())
    assert abs(float(first @ second / first.norm() / second.norm())) < 0.05, "layers have noise of their own"
    assert torch.equal(got["x"], torch.zeros(2, 3))
    assert got["smoothing"] is None


def test_input_noise_is_added_with_its_strength():
    x = torch.full((400, 50), 3.0, dtype=torch.float64)
    got = seen_by(LossStrengths(input_noise=0.25), x)
    assert float((got["x"] - x).std()) == pytest.approx(0.25, rel=0.03)
    assert abs(float((got["x"] - x).mean())) < 0.01
    assert got["hidden"] == {}


def test_absent_inputs_stay_absent():
    x = torch.tensor([[1.0, 2.0, torch.nan], [3.0, 4.0, torch.nan]], dtype=torch.float64)
    assert seen_by(LossStrengths(input_noise=0.5), x)["x"].isnan().tolist() == [[False, False, True]] * 2
    filled = x.nan_to_num()
    present = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    found = seen_by(LossStrengths(input_noise=0.5), filled, noise_of(present=present))["x"]
    assert found[:, 2].tolist() == [0, 0]
    assert (found[:, :2] != filled[:, :2]).all()


# The policy -----------------------------------------------------------------------------------------------------------


def test_strengths_start_at_their_values_and_are_read_in_natural_units():
    policy = made(settings(), DEEP)
    reading = read_policy(policy, (3,))
    assert reading.numbers == {"label_smoothing": pytest.approx(0.2), "input_noise": pytest.approx(0.4)}
    assert {name: float(rate) for name, rate in reading.strengths["dropout"].items()} == {
        name: pytest.approx(0.3) for name in ("hidden1.weight", "hidden2.weight", "output.weight")
    }
    assert {"label_smoothing", "dropout", "input_noise"} <= reading.learned
    fixed = PolicySettings(lr=StrengthSettings("learned", 0.1), input_noise=StrengthSettings("fixed", 0.7))
    assert read_policy(made(fixed, DEEP), (3,)).numbers == {"input_noise": 0.7}


def test_multiplied_strengths_are_multiplied():
    policy = made(settings(), DEEP)
    two, three = torch.tensor(2.0), torch.tensor(3.0)
    with torch.no_grad():
        found = policy.loss_strengths(policy.scaled({"dropout": two, "input_noise": three}))
    assert found.dropout is not None
    assert [float(rate) for rate in found.dropout.values()] == [pytest.approx(0.6)] * 3
    assert float(found.input_noise) == pytest.approx(1.2)
    fixed = made(settings(dropout=StrengthSettings("fixed", 0.1)), DEEP)
    rates = fixed.loss_strengths(fixed.scaled({"dropout": two})).dropout
    assert [float(rate) for rate in rates.values()] == [pytest.approx(0.2)] * 3


# Files and other models -----------------------------------------------------------------------------------------------


def card_of(chosen, model):
    shapes = {name: tuple(shape) for name, shape in model.shapes.items()}
    return PolicyCard(chosen, HORIZON, model.spec, shapes, "digits", "0", {}, model.roles)


def moved(chosen, model):
    policy = made(chosen, model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(torch.randn(p.shape, generator=generator))
    return policy


@pytest.mark.parametrize("granularity", ["global", "role", "tensor"])
def test_a_policy_file_gives_back_what_was_learned(tmp_path, granularity):
    chosen = settings(granularity)
    policy, path = moved(chosen, DEEP), tmp_path / "policy.safetensors"
    save_policy(path, dict(policy.named_parameters()), card_of(chosen, DEEP))
    tensors, card = load_policy_file(path)
    assert card.policy == chosen
    found = fit_policy(tensors, card, DEEP, path).policy
    for name, p in policy.named_parameters():
        assert torch.equal(dict(found.named_parameters())[name], p), name


def test_settings_from_before_have_none_of_it():
    data = PolicySettings(lr=StrengthSettings("learned", 0.1)).to_json()
    later = ("label_smoothing", "dropout", "input_noise")
    old = {key: value for key, value in data.items() if key not in later}
    found = PolicySettings.from_json(old)
    assert {found.label_smoothing.mode, found.dropout.mode, found.input_noise.mode} == {"off"}
    assert found.to_json() == data


def test_rates_go_to_other_models_by_name_and_else_by_role():
    chosen = settings("tensor")
    policy, path = moved(chosen, DEEP), Path("p.safetensors")
    tensors, card = {n: p.detach() for n, p in policy.named_parameters()}, card_of(chosen, DEEP)
    deeper = mlp(TASK, [5, 6, 7, 8])
    with torch.no_grad():
        rates = fit_policy(tensors, card, deeper, path).policy.strength("dropout")
        own = policy.strength("dropout")
    assert rates["hidden1.weight"] == own["hidden1.weight"]
    mean = (own["hidden1.weight"] * own["hidden2.weight"]).sqrt()
    torch.testing.assert_close(rates["hidden3.weight"], mean)
    assert rates["output.weight"] == own["output.weight"]


def test_a_role_without_a_rate_is_refused():
    chosen = settings("tensor", lr=StrengthSettings("learned", 0.1, "global"))
    tensors = {n: p.detach() for n, p in moved(chosen, FLAT).named_parameters()}
    with pytest.raises(PolicyFileError, match=r"'hidden1\.weight' \(role hidden\.weight\)"):
        fit_policy(tensors, card_of(chosen, FLAT), DEEP, Path("p.safetensors"))


@pytest.mark.parametrize(("granularity", "fits"), [("global", True), ("role", True), ("tensor", False)])
def test_rates_for_single_layers_belong_to_one_model(granularity, fits):
    assert settings(granularity).fits_any_model() == fits


def test_a_shallower_model_is_fitted_by_roles():
    chosen = settings("role")
    policy = moved(chosen, DEEP)
    tensors = {n: p.detach() for n, p in policy.named_parameters()}
    with torch.no_grad():
        found = fit_policy(tensors, card_of(chosen, DEEP), FLAT, Path("p.safetensors")).policy.strength("dropout")
        assert list(found) == ["output.weight"]
        assert found["output.weight"] == policy.strength("dropout")["output.weight"]
