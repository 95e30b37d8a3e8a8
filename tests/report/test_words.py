import numpy as np
import pytest

from metaopt.policies.reading import PolicyReading
from metaopt.report.schedule_words import schedule_in_words
from metaopt.report.words import geometric_mean, reading_in_words

ROLES = {
    "in.weight": "first.weight",
    "in.bias": "first.bias",
    "a.weight": "hidden.weight",
    "a.bias": "hidden.bias",
    "b.weight": "hidden.weight",
    "b.bias": "hidden.bias",
    "out.weight": "last.weight",
    "out.bias": "last.bias",
}


def said(
    strengths=None,
    schedule=None,
    momentum=None,
    roles=None,
    learned=("lr", "l2", "momentum"),
    matrices=None,
    numbers=None,
):
    arrays = {q: {n: np.asarray(v, np.float64) for n, v in tensors.items()} for q, tensors in (strengths or {}).items()}
    factors = {name: np.asarray(values, np.float64) for name, values in (schedule or {}).items()}
    reading = PolicyReading(
        arrays, factors, momentum, (1, 8, 8), frozenset(learned), matrices or {}, numbers=numbers or {}
    )
    return reading_in_words(reading, roles or {})


def test_the_fastest_and_the_slowest_layer_are_named_with_their_factor():
    rates = {"in.weight": [0.01, 0.04], "in.bias": [0.02], "out.weight": [0.1, 0.4], "out.bias": [0.2]}
    sentences = said({"lr": rates})
    assert sentences[0] == (
        "Learning rates differ by layer: out learns fastest (0.200, the geometric mean of its entries), 10 times as "
        "fast as in (0.0200), which is the slowest."
    )


def test_the_mean_is_geometric_and_leaves_out_what_has_no_logarithm():
    assert geometric_mean(np.array([0.01, 1.0])) == pytest.approx(0.1)
    assert geometric_mean(np.array([0.0, np.inf, 4.0, 9.0])) == pytest.approx(6.0)
    assert geometric_mean(np.array([0.0])) == 0.0


def test_layers_that_learn_alike_are_not_told_apart():
    (first, *_) = said({"lr": {"in.weight": 0.10, "out.weight": 0.11}})
    assert first == "Learning rates are about the same in all layers: 0.10 to 0.11."


def test_positions_in_deep_networks_come_from_the_roles():
    rates = {name: 0.1 if role.startswith("hidden") else 0.3 for name, role in ROLES.items()}
    sentence = next(s for s in said({"lr": rates}, roles=ROLES) if "position" in s)
    assert (
        sentence == "By position in the network the rates are first 0.30, hidden 0.10 and last 0.30 (geometric means)."
    )
    assert not any("position" in s for s in said({"lr": rates}))


def test_weights_are_compared_with_biases_within_their_layers():
    # Layers differ by far more than what is within them.
    rates = {"in.weight": 0.01, "in.bias": 0.03, "out.weight": 1.0, "out.bias": 3.0}
    assert (
        "Within a layer the bias learns 3.0 times as fast as the weight, in the geometric mean over 2 layers."
        in said({"lr": rates})
    )
    assert not any("bias" in sentence for sentence in said({"lr": {"in.weight": 0.1, "out.weight": 1.0}}))


def test_the_spread_within_a_tensor_is_that_of_its_quartiles():
    rates = {"in.weight": np.exp(np.linspace(0, 4, 5)), "out.weight": np.exp(np.linspace(0, 2, 5))}
    sentence = next(s for s in said({"lr": rates}) if "Within a tensor" in s)
    assert sentence == (
        "Within a tensor rates differ most in in.weight: the middle half of its entries spans a factor of 7.4; least "
        "in out.weight (2.7)."
    )


def test_what_is_regularised_and_what_is_not():
    strengths = {"in.weight": 1e-4, "in.bias": 9e-7, "out.weight": 1e-2, "out.bias": 0.0}
    assert said({"l2": strengths}) == [
        "L2 regularisation is strongest on out.weight (0.0100), 100 times its strength on in.weight (0.000100); it is "
        "off (below 1e-06) on in.bias and out.bias."
    ]
    assert "off" in said({"l2": {"in.weight": 1e-8, "out.weight": 1e-9}})[0]
    assert "below" not in said({"l2": {"in.weight": 1e-3, "out.weight": 2e-3}})[0]


def test_a_global_policy_has_a_short_reading():
    reading = {"lr": {"in.weight": 0.1, "out.weight": 0.1}, "l2": {"in.weight": 1e-3, "out.weight": 1e-3}}
    assert said(reading, learned=("lr",)) == [
        "One learning rate serves all layers: 0.100.",
        "L2 regularisation (fixed, not learned) has one strength for all layers: 0.00100.",
    ]


def test_only_what_exists_is_said():
    assert said() == []
    assert said(momentum=0.75) == ["Momentum is 0.750, so a step averages over about 4.0 gradients."]
    assert said(matrices={"in.weight": (np.eye(2),)}) == [
        "Gradients of 1 parameter tensor are multiplied with learned matrices before each step."
    ]


def test_the_initial_scale_is_relative_to_torchs():
    (sentence,) = said({"init_std": {"in.weight": 2.0, "out.weight": 0.5}})
    assert "widest in in.weight, with 2.0 times torch's standard deviation" in sentence
    assert "narrowest in out.weight, with 0.50 times" in sentence
    assert said({"init_std": {"in.weight": 2.0, "out.weight": 2.0}}) == [
        "Initial parameters are drawn with 2.0 times torch's standard deviation."
    ]


@pytest.mark.parametrize(
    ("factors", "sentence"),
    [
        ([1.0, 0.5, 0.25], "falls: it is highest at the start (1.00) and decays to 25 % of that by the last step (2)"),
        (
            [0.5, 2.0, 0.2],
            "warms up from 25 % of its peak to the peak (2.00) at step 1, then decays to 10 % of that by",
        ),
        ([0.5, 1.0, 2.0], "rises to 2.00 at the end, 4.0 times its lowest factor"),
        ([1.0, 1.02, 1.0], "is nearly flat: its factors lie between 1.00 and 1.02"),
        ([1.0, 0.1, 0.5], "falls to 10 % of that at step 1 and ends at 50 % of it"),
        ([0.7], "is a single factor, 0.700"),
    ],
)
def test_how_a_schedule_moves(factors, sentence):
    (found,) = schedule_in_words({"": np.array(factors)})
    assert sentence in found


def test_of_many_schedules_the_middle_and_the_extremes_are_described():
    sentences = schedule_in_words({"a": np.array([1.0, 0.5]), "b": np.array([4.0, 0.02])})
    assert "geometric mean of 2, falls: it is highest at the start (2.00) and decays to 5 %" in sentences[0]
    assert sentences[1] == ("It decays least for a, to 50 % of its peak by the last step, and most for b, to <1 %.")


@pytest.mark.parametrize("factors", [[0.0, 0.0], [np.inf, 1.0], [np.nan, 1.0], []])
def test_a_broken_schedule_is_not_described(factors):
    assert schedule_in_words({"": np.array(factors)}) == []


@pytest.mark.parametrize("value", [0.0, np.inf, 1e-38, 1e38])
def test_extreme_strengths_are_no_nan(value):
    tensors = {"in.weight": np.array([value, value]), "out.weight": np.array([0.1, 0.2])}
    sentences = said(dict.fromkeys(("lr", "l2", "pull", "init_std"), tensors), momentum=1.0)
    assert not any("nan" in sentence.lower() for sentence in sentences)


def test_what_enters_the_loss_is_told_with_its_numbers():
    learned = ("label_smoothing", "dropout", "input_noise")
    rates = {"a.weight": 0.1, "b.weight": 0.3, "out.weight": 0.2}
    numbers = {"label_smoothing": 0.0532, "input_noise": 0.25}
    assert said({"dropout": rates}, learned=learned, numbers=numbers) == [
        "Label smoothing is 0.0532: so much of each target is spread evenly over the task's classes while training.",
        "Gaussian dropout is strongest before b (rate 0.300) and weakest before a (0.100).",
        "Input noise has standard deviation 0.250 while training.",
    ]
    assert said({"dropout": {"out.weight": 0.2}}) == [
        "Gaussian dropout (fixed, not learned) before out has rate 0.200."
    ]
    assert said({"dropout": dict.fromkeys(rates, 0.2)}, learned=learned) == [
        "Gaussian dropout before all layers but the first has rate 0.200."
    ]
    assert said({"dropout": rates | {"a.weight": 0.29, "out.weight": 0.28}}, learned=learned) == [
        "Gaussian dropout has about the same rate before all layers but the first: 0.28 to 0.30."
    ]
