import pytest
import torch

from metaopt.models.conv4 import conv4
from metaopt.models.layers import NORMS
from metaopt.models.linear import linear
from metaopt.models.mlp import mlp
from metaopt.models.model import count_activations
from metaopt.models.resnet import resnet
from metaopt.models.transformer import transformer
from metaopt.types import Kind, TaskSpec

# More than one pixel in conv4's last block: at one pixel, batch normalisation cancels the shift of the block before.
IMAGE = (2, 16, 16)
TASK = TaskSpec(Kind.classification, IMAGE, 5)
SMALL = {"width": 8, "heads": 2, "depth": 2}
MODELS = {
    "linear": linear(TASK),
    "mlp": mlp(TASK, [6]),
    **{f"conv4-{norm}": conv4(TASK, channels=4, norm=norm) for norm in NORMS},
    **{f"resnet-{norm}": resnet(TASK, [2, 4], norm=norm) for norm in NORMS},
    "transformer-rows": transformer(TASK, **SMALL),
    "transformer-patches": transformer(TASK, **SMALL, patch=4),
    "transformer-columns": transformer(TaskSpec(Kind.classification, (6,), 5), **SMALL),
    "transformer-sequence": transformer(TaskSpec(Kind.classification, (6, 3), 5), **SMALL),
    "transformer-words": transformer(TaskSpec(Kind.classification, (6,), 5, vocabulary=3), **SMALL),
}
SHAPES = {"transformer-columns": (6,), "transformer-sequence": (6, 3), "transformer-words": (6,)}


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return MODELS[name]


@pytest.fixture
def inputs(name):
    """The function that draws inputs [*leading, *input]."""

    def draw(*leading):
        shape = (*leading, *SHAPES.get(name, IMAGE))
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return (5 * x).abs().floor() % 3 if name.endswith("words") else x

    return draw


def random_params(model, *leading):
    generator = torch.Generator().manual_seed(0)
    return {
        name: 0.5 * torch.randn(*leading, *shape, generator=generator, dtype=torch.float64) + ("norm" in name)
        for name, shape in model.shapes.items()
    }


def test_the_moments_are_those_of_torchs_own_initialisation(model):
    draws = {name: [] for name in model.shapes}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(400):
            for layer in model.module.modules():
                if hasattr(layer, "reset_parameters"):
                    layer.reset_parameters()
            for name, p in model.module.named_parameters():
                draws[name].append(p.detach().clone())
    assert list(model.init) == list(model.shapes)
    for name, drawn in draws.items():
        values = torch.stack(drawn)
        mean, std, at = model.init[name]
        assert at is None
        n = values.numel()
        assert abs(values.mean().item() - mean) <= 5 * std / n**0.5, name
        # The standard deviation of a uniform sample's standard deviation is about 0.45 σ / √n.
        assert abs(values.std().item() - std) <= 5 * 0.5 * std / n**0.5, name


def test_vmap_over_tasks_is_a_loop_over_tasks(model, inputs):
    params, x = random_params(model, 3), inputs(3, 5)
    together = torch.func.vmap(model.apply)(params, x)
    alone = [model.apply({name: p[i] for name, p in params.items()}, x[i]) for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-9, atol=1e-10)


def test_it_is_a_pure_function_of_its_parameters(model, inputs):
    params, x = random_params(model), inputs(5)
    kept, x_kept = {name: p.clone() for name, p in params.items()}, x.clone()
    own = {name: p.clone() for name, p in model.module.state_dict().items()}
    first, second = model.apply(params, x), model.apply(params, x)
    assert torch.equal(first, second), "the model remembers something"
    assert torch.equal(x, x_kept)
    for name, p in params.items():
        assert torch.equal(p, kept[name]), name
    for name, p in model.module.state_dict().items():
        assert torch.equal(p, own[name]), name


def test_every_parameter_matters(model, inputs):
    params, x = random_params(model), inputs(5)
    weights = torch.arange(25.0, dtype=torch.float64).view(5, 5).sin()
    grads = torch.func.grad(lambda p: (model.apply(p, x) * weights).sum())(params)
    assert [name for name, grad in grads.items() if not grad.abs().max() > 1e-9] == []


def test_by_the_statistics_of_the_batch_itself_predictions_are_the_usual_ones(model, inputs):
    params, x = random_params(model), inputs(5)
    torch.testing.assert_close(model.apply(params, x, x), model.apply(params, x), rtol=1e-10, atol=1e-12)


def test_by_the_statistics_of_others_no_example_sees_another(model, inputs):
    params, x = random_params(model), inputs(9)
    reference, x = x[:4], x[4:]
    found = model.apply(params, x, reference)
    for i in range(5):
        torch.testing.assert_close(model.apply(params, x[i : i + 1], reference)[0], found[i], rtol=1e-10, atol=1e-12)
    alone = torch.stack([model.apply(params, x[i : i + 1])[0] for i in range(5)])
    assert torch.allclose(alone, model.apply(params, x), rtol=1e-9, atol=1e-12) != model.transductive


def test_predictions_depend_on_the_reference_only_through_batch_statistics(model, inputs):
    params, x = random_params(model), inputs(9)
    found, other = model.apply(params, x[4:], x[:4]), model.apply(params, x[4:], x[:3])
    assert torch.allclose(found, other, rtol=1e-9, atol=1e-12) != model.transductive


def test_only_batch_normalisation_is_transductive(name, model):
    assert model.transductive == name.endswith("-batch")


@pytest.mark.parametrize(("widths", "each"), [([], 512 + 5), ([6], 512 + 6 + 6 + 5), ([6, 7], 512 + 2 * 6 + 2 * 7 + 5)])
def test_the_activations_of_an_mlp_are_counted_layer_by_layer(widths, each):
    model = mlp(TASK, widths)
    x = torch.zeros(3, *IMAGE)
    assert count_activations(model, x) == 3 * each  # the flattened input counts too
    assert not any(layer._forward_hooks for layer in model.module.modules()), "the count goes on in every later pass"


def test_more_channels_have_more_activations():
    few, many = (count_activations(conv4(TASK, channels=n), torch.zeros(2, *IMAGE)) for n in (4, 8))
    assert few < many <= 2 * few
