"""metaopt learns how to train: per-parameter learning rates, regularisation strengths and schedules, by gradient."""

__version__ = "0.1.0"
