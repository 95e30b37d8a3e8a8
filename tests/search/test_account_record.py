import json

import numpy as np
import pytest
from search_makers import policy_of, search_of

from metaopt.search.account import account
from metaopt.search.account_record import account_record, match_quartiles
from metaopt.search.records import Cost


def finite_json(record):
    return json.loads(json.dumps(record, allow_nan=False))


@pytest.fixture
def found():
    random = np.random.default_rng(0)
    policy = policy_of([0.3, 0.3, 0.3, 0.3], accuracy=[0.9, 0.8, 0.9, 0.8])
    loss = np.array([[0.5, 0.2, 0.1], [0.3, 0.2, 0.2], [0.9, 0.8, 0.7], [0.9, 0.8, 0.3]])
    searches = [search_of(loss, "tpe", accuracy=1 - loss), search_of(random.uniform(1, 2, size=(4, 2)), "gp")]
    return account(policy, searches, Cost(4000, 3.0), others=[policy_of([0.4, 0.5, 0.3, 0.6], "sgd")])


def test_the_record_is_the_account_in_plain_numbers(found):
    record = account_record(found)
    assert finite_json(record) == record, "tuples and NumPy's numbers come back as something else"
    assert (record["unit"], record["n_units"], record["validation"]) == ("task", 4, "holdout")
    assert record["policy"]["loss"]["mean"] == pytest.approx(0.3)
    assert record["meta_training"] == {"inner_steps": 4000, "seconds": 3.0}
    assert list(record["methods"]) == ["tpe", "gp"]
    tpe, method = record["methods"]["tpe"], found.methods["tpe"]
    assert tpe["loss"]["mean"] == pytest.approx([0.65, 0.5, 0.325])
    assert tpe["loss"]["low"] == [after.low for after in method.loss]
    assert tpe["accuracy"]["high"] == [after.high for after in method.accuracy]
    assert record["methods"]["gp"]["accuracy"] is None
    assert tpe["trials_to_match"] == {
        "on_mean": None,
        "share_never": 0.25,
        "share_at_once": 0.25,
        "quartiles": [1, 2, 3],
        "per_unit": [2, 1, None, 3],
    }
    low, high = method.against.difference[1:]
    assert tpe["vs_policy"] == {
        "mean_difference": pytest.approx(0.025),
        "ci95": [low, high],
        "win_rate": 0.375,
        "p": method.p,
        "p_holm": method.p_holm,
    }
    assert tpe["break_even_tasks"] == {"inner_steps": method.break_even, "seconds": method.break_even_seconds}
    assert record["others"]["sgd"]["p_holm"] == found.others["sgd"].p_holm


def test_what_is_not_known_is_null_and_never_nan():
    losses = [[1e30, 0.1], [0.2, 0.2]]
    record = account_record(account(policy_of([0.5, 0.5]), [search_of(losses)], Cost(100)))
    assert finite_json(record)["meta_training"]["seconds"] is None
    single = account_record(account(policy_of([0.5]), [search_of([[0.1]])], Cost(100)))
    assert finite_json(single)["methods"]["random"]["vs_policy"]["p"] == 1.0
    assert single["methods"]["random"]["break_even_tasks"] == {"inner_steps": None, "seconds": None}


@pytest.mark.parametrize(
    ("match", "quartiles"),
    [
        ([4, 1, 3, 2], [1, 2, 3]),
        ([0, 1, 0, 2], [1, 2, None]),
        ([0, 0, 0, 7], [7, None, None]),
        ([0], [None, None, None]),
        ([5], [5, 5, 5]),
        ([3, 1, 2], [1, 2, 3]),
    ],
)
def test_a_unit_that_never_matches_comes_after_all_others(match, quartiles):
    assert match_quartiles(np.array(match)) == quartiles
