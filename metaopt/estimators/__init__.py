"""Scikit-learn estimators that train a small network on a table with a policy, and tune nothing."""

from metaopt.estimators.classifier import MetaTunedClassifier
from metaopt.estimators.regressor import MetaTunedRegressor

__all__ = ["MetaTunedClassifier", "MetaTunedRegressor"]
