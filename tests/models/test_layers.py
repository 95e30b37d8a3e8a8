import pytest
import torch
import torch.nn.functional as F

from metaopt.models.layers import BatchNorm, Convolution, LayerNorm, Linear, MaxPool, Stack


def random_images(n, shape, seed=1):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_batch_normalisation_is_torchs_in_training():
    x = random_images(5, (3, 4, 2)) * 3 + 1
    norm = BatchNorm(3).double()
    with torch.no_grad():
        norm.weight += torch.tensor([0.5, -2.0, 0.1])
        norm.bias += torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(
        norm(x.movedim(1, -1)).movedim(-1, 1),
        F.batch_norm(x, None, None, norm.weight, norm.bias, training=True),
        rtol=1e-10,
        atol=1e-12,
    )


def test_statistics_of_a_reference_are_of_its_examples_alone():
    x = random_images(7, (4, 2, 3))
    norm = BatchNorm(3).double()
    found = norm(x, 4)
    assert torch.equal(found[:4], norm(x[:4]))
    expected = (x[4:] - x[:4].mean((0, 1, 2))) * (x[:4].var((0, 1, 2), correction=0) + norm.eps).rsqrt()
    torch.testing.assert_close(found[4:], expected)


def test_a_stack_tells_the_reference_to_the_layers_within_and_no_other():
    x = random_images(7, (3,))
    stack = Stack(torch.nn.Tanh(), Stack(BatchNorm(3), torch.nn.Tanh()), BatchNorm(3)).double()
    assert torch.equal(stack(x, 4)[:4], stack(x[:4]))
    assert not torch.allclose(stack(x, 4), stack(x))


@pytest.mark.parametrize("shape", [(5, 4), (3, 5, 4), (2, 3, 5, 4)])
def test_layer_normalisation_is_torchs(shape):
    x = random_images(*shape[:1], shape[1:]) * 3 + 1
    norm = LayerNorm(4).double()
    with torch.no_grad():
        norm.weight += torch.tensor([0.5, -2.0, 0.1, 3.0])
        norm.bias += torch.tensor([1.0, 2.0, 3.0, 4.0])
    torch.testing.assert_close(norm(x), F.layer_norm(x, (4,), norm.weight, norm.bias), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_map_of_many_vectors_is_torchs(bias):
    layer, x = Linear(3, 2, bias).double(), random_images(4, (5, 3))
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    weights = random_images(3, (2, 3), seed=2)  # of three tasks
    found = torch.func.vmap(lambda w: torch.func.functional_call(layer, {"weight": w}, (x,)))(weights)
    torch.testing.assert_close(found[1], F.linear(x, weights[1], layer.bias))


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("size_in", "stride", "bias"), [(1, 1, True), (1, 2, False), (1, 2, True), (2, 2, True)])
@pytest.mark.parametrize("as_product", [False, True])
def test_a_convolution_and_its_derivatives_are_torchs(size_in, stride, bias, kernel, as_product):
    x = random_images(3, (size_in, 7, 6))
    layer = Convolution(size_in, 4, kernel, stride, bias).double()
    weight = layer.weight.detach().clone().requires_grad_()
    expected = F.conv2d(x, weight, layer.bias, stride=stride, padding=kernel // 2)
    found = (layer.as_product if as_product else layer)(x.movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for power in (1, 3):  # a first derivative, and one whose own derivative would not vanish
        (by,) = torch.autograd.grad((found**power).sum(), layer.weight, retain_graph=True)
        (by_expected,) = torch.autograd.grad((expected**power).sum(), weight, retain_graph=True)
        torch.testing.assert_close(by, by_expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 3)])
def test_pooling_is_torchs_and_leaves_out_what_fills_no_window(size):
    x = random_images(3, (2, *size))
    window = (min(2, size[0]), min(2, size[1]))
    found = MaxPool(window)(x.movedim(1, -1)).movedim(-1, 1)
    assert torch.equal(found, F.max_pool2d(x, window))
