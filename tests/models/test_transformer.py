import pytest
import torch
import torch.nn.functional as F

from metaopt.errors import ConfigError
from metaopt.models.model import count_activations
from metaopt.models.transformer import transformer
from metaopt.types import Kind, TaskSpec

SHAPES = {"columns": (6,), "sequence": (6, 3), "rows": (2, 6, 4), "patches": (2, 6, 4), "words": (6,), "bag": (6,)}
WORDS = 5
kinds = pytest.mark.parametrize("kind", SHAPES)


def spec(shape, vocabulary=None):
    return TaskSpec(Kind.classification, shape, 4, vocabulary=vocabulary)


def build(kind, **settings):
    settings = {"width": 8, "heads": 2, "depth": 2} | settings
    settings |= {"patch": 2} if kind == "patches" else {"positions": False} if kind == "bag" else {}
    return transformer(spec(SHAPES[kind], WORDS if kind in ("words", "bag") else None), **settings)


def random_params(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64) + ("norm" in name)
        for name, shape in model.shapes.items()
    }


def random_inputs(kind, n=7, seed=1):
    x = torch.randn(n, *SHAPES[kind], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (3 * x).abs().floor() % WORDS if kind in ("words", "bag") else x


@kinds
def test_parameters_are_named_and_shaped_in_the_order_of_the_forward_pass(kind):
    embedding = {
        "columns": [("weight", (6, 8)), ("bias", (6, 8))],
        "sequence": [("weight", (8, 3)), ("bias", (6, 8))],
        "rows": [("weight", (8, 8)), ("bias", (6, 8))],
        "patches": [("weight", (8, 8)), ("bias", (6, 8))],
        "words": [("weight", (5, 8)), ("bias", (6, 8))],
        "bag": [("weight", (5, 8))],
    }[kind]
    block = [
        ("norm0.weight", (8,)),
        ("norm0.bias", (8,)),
        ("attention.query.weight", (8, 8)),
        ("attention.key.weight", (8, 8)),
        ("attention.value.weight", (8, 8)),
        ("attention.output.weight", (8, 8)),
        ("attention.output.bias", (8,)),
        ("norm1.weight", (8,)),
        ("norm1.bias", (8,)),
        ("up.weight", (16, 8)),
        ("up.bias", (16,)),
        ("down.weight", (8, 16)),
        ("down.bias", (8,)),
    ]
    assert list(build(kind).shapes.items()) == [
        *((f"embedding.{name}", shape) for name, shape in embedding),
        *((f"blocks.{i}.{name}", shape) for i in range(2) for name, shape in block),
        ("norm.weight", (8,)),
        ("norm.bias", (8,)),
        ("output.weight", (4, 8)),
        ("output.bias", (4,)),
    ]


def embedded(kind, params, x):
    """What is said of each kind of input, written out token by token, [examples, 6, 8]."""
    weight, bias = params["embedding.weight"], params.get("embedding.bias")
    if kind == "columns":
        return torch.stack([x[:, i, None] * weight[i] + bias[i] for i in range(6)], 1)
    if kind in ("words", "bag"):
        vectors = torch.stack([weight[x[:, i].long()] for i in range(6)], 1)
        return vectors if kind == "bag" else vectors + bias
    if kind == "sequence":
        tokens = [x[:, i] for i in range(6)]
    elif kind == "rows":
        tokens = [x[:, :, i].flatten(1) for i in range(6)]
    else:
        tokens = [x[:, :, i : i + 2, j : j + 2].flatten(1) for i in (0, 2, 4) for j in (0, 2)]
    return torch.stack([token @ weight.T + bias[i] for i, token in enumerate(tokens)], 1)


@pytest.mark.parametrize("heads", [1, 2, 8])
@kinds
def test_the_forward_pass_is_what_it_says(kind, heads):
    """Written out with torch's own attention and normalisation."""
    model = build(kind, heads=heads, activation="relu")
    params, x = random_params(model), random_inputs(kind)

    def normalised(h, name):
        return F.layer_norm(h, (8,), params[f"{name}.weight"], params[f"{name}.bias"])

    h = embedded(kind, params, x)
    for block in ("blocks.0", "blocks.1"):
        before = normalised(h, f"{block}.norm0")
        q, k, v = (
            (before @ params[f"{block}.attention.{name}.weight"].T).unflatten(-1, (heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        h = h + found @ params[f"{block}.attention.output.weight"].T + params[f"{block}.attention.output.bias"]
        up = normalised(h, f"{block}.norm1") @ params[f"{block}.up.weight"].T + params[f"{block}.up.bias"]
        h = h + up.relu() @ params[f"{block}.down.weight"].T + params[f"{block}.down.bias"]
    expected = normalised(h, "norm").mean(1) @ params["output.weight"].T + params["output.bias"]
    torch.testing.assert_close(model.apply(params, x), expected)


@pytest.mark.parametrize("kind", ["sequence", "words", "rows", "patches"])
def test_the_order_of_tokens_counts_unless_positions_are_left_out(kind):
    x = random_inputs(kind)
    turned = x.flip((2, 3) if kind == "patches" else 2 if kind == "rows" else 1)
    if kind == "patches":  # turn the patches round, and not what is in them
        turned = turned.unflatten(3, (2, 2)).flip(4).flatten(3).unflatten(2, (3, 2)).flip(3).flatten(2, 3)
    for positions in (True, False):
        model = build(kind, positions=positions)
        params = random_params(model)
        same = torch.allclose(model.apply(params, x), model.apply(params, turned), rtol=1e-9, atol=1e-12)
        assert same != positions


@pytest.mark.parametrize("kind", ["columns", "sequence", "words", "bag"])
def test_tokens_of_nan_change_no_output_and_no_derivative(kind):
    words = WORDS if kind in ("words", "bag") else None
    long = build(kind)
    short = transformer(spec((4, *SHAPES[kind][1:]), words), 8, 2, 2, positions=kind != "bag")
    params, x = random_params(long), random_inputs(kind)
    padded = x.clone()
    padded[:, 4:] = torch.nan
    fewer = {name: p[tuple(map(slice, short.shapes[name]))] for name, p in params.items()}
    found, back = torch.func.vjp(lambda p: long.apply(p, padded), params)
    expected, short_back = torch.func.vjp(lambda p: short.apply(p, x[:, :4]), fewer)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    grads, expected_grads = back(torch.ones_like(found))[0], short_back(torch.ones_like(found))[0]
    for name, grad in grads.items():
        n = len(expected_grads[name])
        torch.testing.assert_close(grad[:n], expected_grads[name], rtol=1e-10, atol=1e-12, msg=name)
        assert (grad[n:] == 0).all(), name


def test_each_example_has_its_own_length():
    model, x = build("sequence"), random_inputs("sequence")
    params = random_params(model)
    ragged = x.clone()
    ragged[0, 2:] = torch.nan
    ragged[1] = torch.nan
    found, whole = model.apply(params, ragged), model.apply(params, x)
    torch.testing.assert_close(found[2:], whole[2:])
    torch.testing.assert_close(found[0], model.apply(params, ragged[:1])[0])
    assert not torch.allclose(found[0], whole[0])
    torch.testing.assert_close(found[1], params["output.bias"])  # of nothing


def test_a_number_that_is_missing_in_a_token_is_not_passed_over():
    model, x = build("sequence"), random_inputs("sequence")
    x[0, 1, 2] = torch.nan
    found = model.apply(random_params(model), x)
    assert found[0].isnan().all()
    assert found[1:].isfinite().all()


@pytest.mark.parametrize("shape", [(), (1, 1, 8, 8)])
def test_inputs_of_other_shapes_are_refused(shape):
    with pytest.raises(ConfigError, match=r"model=transformer takes inputs.*use model=mlp"):
        transformer(spec(shape))


@pytest.mark.parametrize(
    ("shape", "settings", "words"),
    [
        ((6,), {"width": 10, "heads": 4}, r"model\.width is 10.*multiple of model\.heads, which is 4"),
        ((6,), {"patch": 2}, r"model\.patch is 2, which is for images"),
        ((1, 6, 4), {"patch": 4}, r"model\.patch is 4; it must divide.*6 by 4"),
        ((1, 4, 6), {"patch": 4}, r"model\.patch is 4; it must divide.*4 by 6"),
    ],
)
def test_settings_that_do_not_fit_are_refused(shape, settings, words):
    with pytest.raises(ConfigError, match=words):
        transformer(spec(shape), **settings)


def test_what_attention_keeps_grows_with_the_square_of_the_length():
    model = build("sequence", depth=1)
    layers = 6 * 3 + 6 * 8 * 9 + 2 * 6 * 16 + 8 + 4  # cut, nine of the width, up and activation, pool, output
    assert count_activations(model, torch.zeros(5, 6, 3)) == 5 * (layers + 2 * 6 * 6)


def test_the_spec_tells_models_apart():
    assert build("patches").spec == {
        "name": "transformer",
        "width": 8,
        "heads": 2,
        "depth": 2,
        "mlp_ratio": 2.0,
        "activation": "gelu",
        "patch": 2,
        "positions": True,
    }
