import numpy as np
import pytest

from metaopt.errors import DataError
from metaopt.evaluation.divergence import score_untrained

NAN, INF = np.nan, np.inf


def test_diverged_tasks_are_scored_as_untrained_and_counted():
    loss = np.array([[2.0, 1.0, 0.5], [3.0, 9.0, INF], [4.0, NAN, NAN], [5.0, NAN, 1.0]])
    accuracy = np.array([[0.1, 0.5, 0.9], [0.2, 0.3, 0.8], [0.3, 0.7, 0.7], [0.4, 0.7, 0.6]])
    scored = score_untrained(loss, accuracy)
    np.testing.assert_array_equal(scored.loss, [[2.0, 1.0, 0.5], [3.0, 9.0, 3.0], [4.0, 4.0, 4.0], [5.0, 5.0, 1.0]])
    np.testing.assert_array_equal(scored.accuracy[:, -1], [0.9, 0.2, 0.3, 0.6])
    np.testing.assert_array_equal(scored.diverged, [False, True, True, False])


def test_large_finite_losses_stay():
    loss = np.array([[2.0, 1e30]])
    scored = score_untrained(loss, loss)
    assert scored.loss[0, -1] == 1e30
    assert not scored.diverged[0]


def test_losses_whose_square_overflows_count_as_infinite():
    loss = np.array([[2.0, 1e200]])
    scored = score_untrained(loss, loss)
    assert scored.loss[0, -1] == 2.0
    assert scored.diverged[0]


def test_a_task_that_is_not_finite_untrained_gets_the_worst_finite_untrained_loss():
    loss = np.array([[2.0, 0.5], [7.0, 90.0], [NAN, NAN]])
    scored = score_untrained(loss, loss * 0)
    np.testing.assert_array_equal(scored.loss[2], [7.0, 7.0])
    assert scored.diverged[2]


def test_no_finite_task_at_all_is_an_error_of_the_data():
    loss = np.full((3, 2), NAN)
    with pytest.raises(DataError, match="all 3 tasks"):
        score_untrained(loss, loss)
