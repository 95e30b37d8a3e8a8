import numpy as np
import pytest

from metaopt.evaluation.records import Comparison, MethodOutcome
from metaopt.policies.reading import PolicyReading


def build_comparison(losses, *, horizon=10, accuracy=False, untrained=None, trials=None, diverged=None, **settings):
    """A comparison with these final losses by method; every task's curve falls evenly from `untrained`."""
    n_tasks = len(next(iter(losses.values())))
    steps = np.unique(np.linspace(0, horizon, min(horizon + 1, 26)).round().astype(np.int64))
    methods = {}
    for name, final in losses.items():
        loss = np.asarray(final, dtype=np.float64)
        start = loss + 1 if untrained is None else np.full_like(loss, untrained)
        methods[name] = MethodOutcome(
            name=name,
            description=f"the {name}",
            loss=loss,
            accuracy=np.full(n_tasks, 0.75) if accuracy else None,
            curve=start[:, None] + (loss - start)[:, None] * (steps / horizon),
            diverged=np.arange(n_tasks) < (diverged or {}).get(name, 0),
            seconds=1.5,
            inner_steps=n_tasks * horizon,
            trials=(trials or {}).get(name),
        )
    general = {"tasks": "digits", "split": "meta_test", "split_hash": "abc", "seed": 0} | settings
    kind = "classification" if accuracy else "regression"
    return Comparison(kind=kind, n_tasks=n_tasks, horizon=horizon, curve_steps=steps, methods=methods, **general)


def build_reading(strengths, schedule=None, input_shape=(1, 8, 8), learned=("lr", "l2"), matrices=None):
    arrays = {
        quantity: {name: np.asarray(values, dtype=np.float32) for name, values in tensors.items()}
        for quantity, tensors in strengths.items()
    }
    factors = {name: np.asarray(values, dtype=np.float32) for name, values in (schedule or {}).items()}
    return PolicyReading(arrays, factors, None, input_shape, frozenset(learned), matrices or {})


@pytest.fixture(scope="session")
def make_comparison():
    """The function that builds a comparison."""
    return build_comparison


@pytest.fixture(scope="session")
def make_reading():
    """The function that builds a reading."""
    return build_reading


@pytest.fixture(scope="session")
def comparison():
    """A policy that is a little better than two baselines on 40 tasks of varying difficulty."""
    random = np.random.default_rng(0)
    difficulty = random.uniform(0.2, 0.6, size=40)
    noise = random.normal(0.0, 0.01, size=(2, 40))
    losses = {"policy": difficulty, "sgd": difficulty + 0.2 + noise[0], "tuned": difficulty + 0.02 + noise[1]}
    return build_comparison(losses, accuracy=True, untrained=1.6, trials={"tuned": 100})


@pytest.fixture(scope="session")
def reading():
    """What a small network's policy might have learned: strengths per element and a schedule."""
    random = np.random.default_rng(0)
    shapes = {"hidden0.weight": (16, 64), "hidden0.bias": (16,), "output.weight": (5, 16), "output.bias": (5,)}
    strengths = {
        quantity: {name: np.exp(random.normal(np.log(centre), 0.5, size=shape)) for name, shape in shapes.items()}
        for quantity, centre in (("lr", 0.1), ("l2", 1e-3))
    }
    return build_reading(strengths, {"": np.linspace(1.5, 0.2, 10)})


@pytest.fixture(scope="session")
def drawn():
    """The function that renders a figure: what cannot be drawn fails here and not when it is built."""

    def draw(figure):
        figure.canvas.draw()
        return figure

    return draw
