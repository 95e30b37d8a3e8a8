import numpy as np
import pytest

from metaopt.evaluation.records import Comparison, MethodOutcome
from metaopt.policies.reading import PolicyReading
from metaopt.search.account import account
from metaopt.search.records import Cost, SearchOutcome


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


def build_account(comparison, curves, *, seconds=60.0):
    """An account of searches with these test losses after 1, 2, … trials, [tasks, trials] by name."""
    searches = []
    for name, curve in curves.items():
        loss = np.asarray(curve, dtype=np.float64)
        searches.append(
            SearchOutcome(
                name=name,
                description=f"the {name}",
                validation=loss,
                chosen=np.tile(np.arange(loss.shape[1]), (len(loss), 1)),
                loss=loss,
                accuracy=np.full_like(loss, 0.75) if comparison.kind == "classification" else None,
                diverged=np.zeros_like(loss, dtype=bool),
                settings=[[{} for _ in range(loss.shape[1])] for _ in loss],
                inner_steps=loss.size * comparison.horizon,
                seconds=0.5 * loss.size,
            )
        )
    policy, *others = comparison.methods.values()
    return account(
        policy, searches, Cost(10_000, seconds), others=others, members=comparison.members, unit=comparison.unit
    )


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
def make_account():
    """The function that builds an account."""
    return build_account


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
def searches(comparison):
    """Account of a search that stays above the policy, one that matches it late, and one that starts from it."""
    policy, trials = comparison.methods["policy"].loss[:, None], np.arange(1, 21)
    noise = np.random.default_rng(1).normal(0.0, 0.01, size=(40, 1))
    curves = {
        "random": policy + 0.05 + 0.4 / trials + noise,
        "tpe": policy - 0.06 + 0.5 / trials + noise,
        "tpe_warm": policy + 0.02 + noise - 0.002 * trials,
    }
    return build_account(comparison, curves)


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
