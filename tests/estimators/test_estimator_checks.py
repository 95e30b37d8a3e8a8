"""What scikit-learn asks of every estimator, but for seven equal digits of weighted and of repeated rows.

Training is in float32, where sums depend on how many rows they are of; `test_weights_and_surroundings.py` asks four.
"""

import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import estimator_checks_generator

from metaopt.estimators import MetaTunedClassifier, MetaTunedRegressor

CHECKS = [
    pytest.param(estimator, check, id=f"{type(estimator).__name__}-{check.func.__name__}-{number}")
    for estimator in (MetaTunedClassifier(), MetaTunedRegressor())
    for number, (_, check) in enumerate(estimator_checks_generator(estimator))
    if check.func.__name__ != "check_sample_weight_equivalence_on_dense_data"
]


# Not parametrize_with_checks, which in scikit-learn 1.6 hands pytest something that pytest 9 warns of.
@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_it_does_what_scikit_learn_asks_of_every_estimator(estimator, check, adam):
    check(clone(estimator).set_params(policy=adam))


def test_there_are_checks():
    assert len(CHECKS) > 80
