import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metaopt.evaluation.statistics import paired
from metaopt.report.headline import headline, listed, task_words, verdict

LOSSES = arrays(np.float64, st.integers(2, 12).map(lambda n: (3, n)), elements=st.floats(0.0, 1e3))


def names_after(sentence, start, ends):
    """The part of the sentence between `start` and the first of `ends`; empty where it doesn't say `start`."""
    part = sentence.partition(start)[2]
    for end in ends:
        part = part.partition(end)[0]
    return part


@given(LOSSES)
def test_it_claims_a_difference_exactly_where_the_interval_excludes_zero(make_comparison, losses):
    comparison = make_comparison(dict(zip(("policy", "first", "second"), losses, strict=True)))
    sentence = headline(comparison)
    claims = {
        "lower": names_after(sentence, "lower than ", (" but higher", ", and not", "; ")),
        "higher": names_after(sentence, "higher than ", (", and not", "; ")),
        "neither": names_after(sentence, "not distinguishable from ", (", where",)),
    }
    for name in ("first", "second"):
        low, high = paired(comparison.methods[name].loss, comparison.methods["policy"].loss).difference[1:]
        expected = "lower" if low > 0 else "higher" if high < 0 else "neither"
        assert [claim for claim, text in claims.items() if name in text] == [expected], sentence


@given(LOSSES)
def test_it_is_one_sentence_without_nan(make_comparison, losses):
    sentence = headline(make_comparison(dict(zip(("policy", "first", "second"), losses, strict=True))))
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "nan" not in sentence.split("distinguishable")[0]


def test_lower_and_higher_are_the_policys(make_comparison):
    comparison = make_comparison({"policy": [0.2, 0.3, 0.4], "bad": [0.9, 1.0, 1.1], "good": [0.05, 0.16, 0.25]})
    assert headline(comparison) == (
        "On 3 held-out digits tasks the policy's test loss is 0.30, lower than bad (1.0) but higher than good (0.15); "
        "both paired 95 % intervals exclude zero."
    )


def test_equal_losses_are_not_distinguishable(make_comparison):
    sentence = headline(make_comparison({"policy": [0.2, 0.3], "twin": [0.2, 0.3]}))
    assert "not distinguishable from twin (0.250)" in sentence
    assert "lower" not in sentence


def test_a_single_task_decides_nothing(make_comparison):
    comparison = make_comparison({"policy": [0.1], "sgd": [9.0]})
    assert verdict(comparison.methods["sgd"], comparison.methods["policy"]) == "undecided"
    assert "cannot decide" in headline(comparison)


def test_a_policy_alone_is_compared_with_nothing(make_comparison):
    assert headline(make_comparison({"policy": [0.1, 0.2]})).endswith("there is no baseline to compare it with.")


def test_the_policys_divergence_is_said(make_comparison):
    losses = {"policy": [0.1, 0.2, 0.3], "sgd": [0.5, 0.6, 0.7]}
    assert "(it diverged on 2)" in headline(make_comparison(losses, diverged={"policy": 2}))
    assert "diverged" not in headline(make_comparison(losses, diverged={"sgd": 2}))


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("meta_test", "2 held-out digits tasks"),
        ("meta_train", "2 meta-train digits tasks"),
        ("meta_validation", "2 meta-validation digits tasks"),
    ],
)
def test_only_meta_test_counts_as_held_out(make_comparison, split, words):
    assert task_words(make_comparison({"policy": [1.0, 2.0]}, split=split)) == words


def test_lists_are_english():
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
