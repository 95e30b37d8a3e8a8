import pytest
import torch
from inner_problems import make_problem, tiny_mlp

from metaopt.errors import ConfigError
from metaopt.inner.forward import MOST_NUMBERS, Forward, check_numbers
from metaopt.inner.reverse import Reverse
from metaopt.policies.settings import PolicySettings, StrengthSettings


def problem_of_numbers(numbers):
    """A learning rate, and a schedule."""
    settings = PolicySettings(lr=StrengthSettings("learned", 0.3, "global"), schedule="step")
    return make_problem(settings, tiny_mlp(), horizon=numbers - 1, n_tasks=1)


def test_too_many_numbers_are_refused_before_any_work():
    problem = problem_of_numbers(MOST_NUMBERS + 1)
    spoilt = problem._replace(objective=None, tasks=None, draws=None)
    with pytest.raises(ConfigError) as caught:
        spoilt.hypergradients(Forward())
    text = str(caught.value)
    assert text.startswith("inner.hypergradient=forward ")
    for word in (str(MOST_NUMBERS), str(MOST_NUMBERS + 1), "mixed", "granularity"):
        assert word in text
    assert "\n" not in text


def test_as_many_numbers_as_there_may_be_are_taken():
    check_numbers(MOST_NUMBERS)
    problem = problem_of_numbers(MOST_NUMBERS)._replace(horizon=2)
    found, expected = (problem.hypergradients(method) for method in (Forward(), Reverse()))
    assert found.flat.shape == (1, MOST_NUMBERS)
    torch.testing.assert_close(found.flat, expected.flat, rtol=1e-10, atol=1e-14)
