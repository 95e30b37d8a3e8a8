import pytest
import torch

from metaopt.models.conv4 import conv4
from metaopt.models.mlp import mlp
from metaopt.models.model import count_activations
from metaopt.types import Kind, TaskSpec

# More than one pixel in conv4's last block: at one pixel, batch normalisation cancels the shift of the block before.
IMAGE = (2, 16, 16)
TASK = TaskSpec(Kind.classification, IMAGE, 5)
MODELS = {"mlp": mlp(TASK, [6])} | {
    norm: conv4(TASK, channels=4, norm=norm) for norm in ("batch", "layer", "group", "none")
}
models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def random_params(model, *leading):
    generator = torch.Generator().manual_seed(0)
    return {
        name: 0.5 * torch.randn(*leading, *shape, generator=generator, dtype=torch.float64) + (name[:4] == "norm")
        for name, shape in model.shapes.items()
    }


def random_inputs(*leading):
    return torch.randn(*leading, *IMAGE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@models
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
        mean, std = model.init[name]
        n = values.numel()
        assert abs(values.mean().item() - mean) <= 5 * std / n**0.5, name
        # The standard deviation of a uniform sample's standard deviation is about 0.45 σ / √n.
        assert abs(values.std().item() - std) <= 5 * 0.5 * std / n**0.5, name


@models
def test_vmap_over_tasks_is_a_loop_over_tasks(model):
    params, x = random_params(model, 3), random_inputs(3, 5)
    together = torch.func.vmap(model.apply)(params, x)
    alone = [model.apply({name: p[i] for name, p in params.items()}, x[i]) for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-9, atol=1e-10)


@models
def test_it_is_a_pure_function_of_its_parameters(model):
    params, x = random_params(model), random_inputs(5)
    kept, x_kept = {name: p.clone() for name, p in params.items()}, x.clone()
    own = {name: p.clone() for name, p in model.module.state_dict().items()}
    first, second = model.apply(params, x), model.apply(params, x)
    assert torch.equal(first, second), "the model remembers something"
    assert torch.equal(x, x_kept)
    for name, p in params.items():
        assert torch.equal(p, kept[name]), name
    for name, p in model.module.state_dict().items():
        assert torch.equal(p, own[name]), name


@models
def test_every_parameter_matters(model):
    params, x = random_params(model), random_inputs(5)
    weights = torch.arange(25.0, dtype=torch.float64).view(5, 5).sin()
    grads = torch.func.grad(lambda p: (model.apply(p, x) * weights).sum())(params)
    assert [name for name, grad in grads.items() if not grad.abs().max() > 1e-9] == []


@pytest.mark.parametrize(("widths", "each"), [([], 512 + 5), ([6], 512 + 6 + 6 + 5), ([6, 7], 512 + 2 * 6 + 2 * 7 + 5)])
def test_the_activations_of_an_mlp_are_counted_layer_by_layer(widths, each):
    model = mlp(TASK, widths)
    x = torch.zeros(3, *IMAGE)
    assert count_activations(model, x) == 3 * each  # the flattened input counts too
    assert not any(layer._forward_hooks for layer in model.module.modules()), "the count goes on in every later pass"


def test_more_channels_have_more_activations():
    few, many = (count_activations(conv4(TASK, channels=n), torch.zeros(2, *IMAGE)) for n in (4, 8))
    assert few < many <= 2 * few
