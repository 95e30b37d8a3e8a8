import numpy as np

from metaopt.policies.reading import PolicyReading
from metaopt.tracking.tracker import policy_histograms, scalar_metrics


def test_numbers_become_metrics_named_after_the_records_kind():
    record = {"kind": "meta_train", "iteration": 7, "loss": 0.5, "dropped": 2, "norm": np.float32(0.25)}
    found = scalar_metrics(record)
    assert found == {"meta_train/loss": 0.5, "meta_train/dropped": 2.0, "meta_train/norm": 0.25}
    assert {type(value) for value in found.values()} == {float}


def test_what_is_no_number_is_left_out():
    record = {"kind": "meta_train", "iteration": 7, "loss": None, "note": "text", "values": [1.0], "nested": {"a": 1}}
    assert scalar_metrics(record) == {}


def test_a_record_without_a_kind_keeps_its_names():
    assert scalar_metrics({"step": 3, "test/accuracy": 0.5}) == {"test/accuracy": 0.5}


def test_a_policys_strengths_are_named_by_quantity_and_tensor():
    lr, l2 = np.ones((2, 3)), np.array(0.1)
    reading = PolicyReading({"lr": {"0.weight": lr}, "l2": {"0.weight": l2}}, {}, None, (3,))
    found = policy_histograms(reading)
    assert list(found) == ["policy/lr/0.weight", "policy/l2/0.weight"]
    assert found["policy/lr/0.weight"] is lr


def test_a_policys_matrices_are_named_by_tensor_and_mode():
    matrices = {"0.weight": (np.eye(2), np.eye(3)), "0.bias": (np.eye(2),)}
    found = policy_histograms(PolicyReading({}, {}, None, (3,), matrices=matrices))
    assert [*found] == [f"policy/curvature/{name}" for name in ("0.weight/0", "0.weight/1", "0.bias/0")]
    assert found["policy/curvature/0.weight/1"] is matrices["0.weight"][1]


def test_numbers_that_there_is_one_of_are_named_by_quantity():
    found = policy_histograms(PolicyReading({}, {}, None, (3,), numbers={"label_smoothing": 0.1}))
    assert list(found) == ["policy/label_smoothing"]
    assert found["policy/label_smoothing"] == 0.1
