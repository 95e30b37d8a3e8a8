"""A family of tasks of one's own: meta-trained for some seconds, and then used on tasks that it has not seen.

    python examples/own_family.py [outer.iterations=200 …]

Each task is to calibrate a sensor: sixteen noisy readings say how its output bends and saturates. A workshop has
calibrated many, and wants the next one to be right at once. What is typed after the script's name are settings of
meta-training.
"""

import sys
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.console import Console
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPRegressor
from torch import Tensor

from metaopt.commands.launch import launch
from metaopt.commands.train import train
from metaopt.estimators import MetaTunedRegressor
from metaopt.evaluation.statistics import mean_interval, paired
from metaopt.tasks.family import hash_splits
from metaopt.tasks.registry import register
from metaopt.types import Batch, Kind, Split, TaskBatch, TaskSpec

WORKSHOPS: dict[Split, tuple[float, float]] = {
    "meta_train": (0.5, 2.0),
    "meta_validation": (2.0, 2.5),
    "meta_test": (2.5, 3.0),
}
"""How steep a workshop's sensors are: each split has workshops of its own."""
SETTINGS = [
    "policy=role_normalised",
    "inner.horizon=60",
    "inner.batch_size=null",
    "outer.iterations=60",
    "evaluation.n_tasks=0",
]
NEW_SENSORS = 40


@register("sensors")
class Sensors:
    """Regression of a sensor's output on temperature and pressure."""

    def __init__(self, readings: int = 16, noise: float = 0.1) -> None:
        self.name, self.spec = "sensors", TaskSpec(Kind.regression, input_shape=(2,), output_size=1)
        self.splits: dict[Split, list[str]] = {
            split: [f"steepness {low} to {high}"] for split, (low, high) in WORKSHOPS.items()
        }
        self.split_hash = hash_splits(self.name, self.splits)
        self.readings, self.noise = readings, noise

    def sample(self, split: Split, n: int, generator: torch.Generator) -> TaskBatch:
        """Readings of `n` sensors, for support, query and test; the generator is the only source of randomness."""

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(n, 1, 1, generator=generator)

        steep, middle, drift = uniform(*WORKSHOPS[split]), uniform(-1, 1), uniform(-0.3, 0.3)
        x = torch.randn(n, 3 * self.readings, 2, generator=generator)
        y = torch.tanh(steep * (x[..., :1] - middle)) + drift * x[..., 1:]
        y = y + self.noise * torch.randn(y.shape, generator=generator)
        return TaskBatch(*map(Batch, x.chunk(3, 1), y.chunk(3, 1)))


def main() -> None:
    with TemporaryDirectory() as folder:
        run = f"{folder}/run"
        words = ["tasks=sensors", *SETTINGS, "tracking=none", *sys.argv[1:], f"run_dir={run}"]
        code = launch("train", train, words)
        if code:
            sys.exit(code)
        models = {
            "the policy": MetaTunedRegressor(run, random_state=0),
            "MLPRegressor(lbfgs)": MLPRegressor(solver="lbfgs", max_iter=10_000, random_state=0),
            "LinearRegression": LinearRegression(),
        }
        tasks = Sensors().sample("meta_test", NEW_SENSORS, torch.Generator().manual_seed(1))
        errors = {
            name: np.array([error(model, tasks, i) for i in range(NEW_SENSORS)]) for name, model in models.items()
        }
    console = Console(highlight=False)
    console.print(f"\nRoot mean squared error on {NEW_SENSORS} new sensors, mean over sensors with its 95 % interval:")
    for name, own in errors.items():
        found, more = mean_interval(own), paired(own, errors["the policy"]).difference
        against = "" if name == "the policy" else f"; more by {more.mean:.3f} \\[{more.low:.3f}, {more.high:.3f}]"
        console.print(f"{name:20s} {found.mean:.3f} \\[{found.low:.3f}, {found.high:.3f}]{against}")


def error(model: MetaTunedRegressor | MLPRegressor | LinearRegression, tasks: TaskBatch, i: int) -> float:
    """The error on a sensor's test readings, of a model that is fitted to its support readings."""
    x, y, x_test, y_test = (part[i].numpy() for part in (*tasks.support, *tasks.test))
    model.fit(x, y[:, 0])
    return float(np.sqrt(np.mean((model.predict(x_test) - y_test[:, 0]) ** 2)))


if __name__ == "__main__":
    main()
