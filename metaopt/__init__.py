"""metaopt learns how to train: per-parameter learning rates, regularisation strengths and schedules, by gradient."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metaopt.version import __version__ as __version__

if TYPE_CHECKING:
    from metaopt.estimators.classifier import MetaTunedClassifier as MetaTunedClassifier
    from metaopt.estimators.regressor import MetaTunedRegressor as MetaTunedRegressor
    from metaopt.export.loaded import LoadedPolicy as LoadedPolicy
    from metaopt.export.loaded import load_policy as load_policy

_HOMES = {
    "LoadedPolicy": "metaopt.export.loaded",
    "MetaTunedClassifier": "metaopt.estimators.classifier",
    "MetaTunedRegressor": "metaopt.estimators.regressor",
    "load_policy": "metaopt.export.loaded",
}


def __getattr__(name: str) -> Any:
    """What is imported when it is first asked for, so that `import metaopt` is quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'metaopt' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
