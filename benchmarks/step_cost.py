"""Time of a training step with each policy, against one with plain SGD: what the policies' own arithmetic costs.

    python benchmarks/step_cost.py [--workloads conv4 mlp] [--policies per_parameter adaptive …] [--ways eager compiled]

A step is all of it: forward, backward and update, of one task, without hypergradients. Eager is how evaluation trains,
compiled is how meta-training does (`metaopt/inner/compile.py`). All are in one process and take turns, so that what
else the machine does falls on all alike; compare the ratios. `torch` is torch.optim.SGD with `backward()`, for scale.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from engines import Result, progress_bar, warn_if_busy
from machine import machine
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from torch import Tensor

from metaopt.config.load import typed
from metaopt.config.policy import PolicyConfig
from metaopt.files import write_text
from metaopt.inner.compile import Inductor
from metaopt.inner.pieces import Pieces
from metaopt.inner.program import Data, Program
from metaopt.inner.unroll import exact_gradient, inner_step
from metaopt.models.conv4 import conv4
from metaopt.models.mlp import mlp
from metaopt.models.model import Model
from metaopt.models.objective import objective
from metaopt.policies.policy import Policy
from metaopt.policies.settings import PolicySettings, StrengthSettings
from metaopt.types import Batch, Kind, TaskSpec

CONF = Path(__file__).parents[1] / "conf" / "policy"
SGD = PolicySettings("sgd", StrengthSettings("learned", 0.01, "global"))
POLICIES = (
    "per_parameter",
    "per_parameter_normalised",
    "adaptive",
    "adaptive_normalised",
    "learned_optimizer",
    "directions",
)
HORIZON = 100
"""Of schedules; the steps that are timed are those in its middle."""
LEAST_TURN = 0.1
"""Seconds that a turn should last: shorter steps are repeated within it."""

Timed = Callable[[], None]
"""One training step, which keeps what it came to for the next."""


class Load(NamedTuple):
    """What is trained: a model, on one minibatch again and again."""

    title: str
    model: Model
    batch: Batch


def load(key: str) -> Load:
    """A workload by its key."""
    generator = torch.Generator().manual_seed(0)

    def batch(size: int, shape: tuple[int, ...], classes: int) -> Batch:
        x = torch.randn(size, *shape, generator=generator)
        return Batch(x, torch.randint(classes, (size,), generator=generator))

    if key == "conv4":
        model = conv4(TaskSpec(Kind.classification, (1, 28, 28), 5), 64)
        return Load("conv4-64, 28×28, 5-way, batches of 25", model, batch(25, (1, 28, 28), 5))
    model = mlp(TaskSpec(Kind.classification, (784,), 10), [800, 400])
    return Load("MLP 784-800-400-10, batches of 128", model, batch(128, (784,), 10))


def settings_of(name: str) -> PolicySettings:
    """Those of `policy=name`."""
    if name == "sgd":
        return SGD
    return typed(OmegaConf.load(CONF / f"{name}.yaml"), PolicyConfig, "policy").settings()  # type: ignore[arg-type]


def policy_of(name: str, model: Model) -> Policy:
    generator = torch.Generator().manual_seed(0)
    return Policy(settings_of(name), model.shapes, model.init, HORIZON, generator, model.roles)


def noise_of(model: Model) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in model.shapes.items()}


def eager(name: str, given: Load) -> Timed:
    """As `adapt` trains one task."""
    start = policy_of(name, given.model)(noise_of(given.model))
    params, rule = start.params, start.rule
    gradient = exact_gradient(objective(given.model, Kind.classification).loss)
    now: list[Any] = [params, rule.init(params), 0]

    def step() -> None:
        params, state, _ = inner_step(gradient, rule, now[0], now[1], given.batch, now[2] % HORIZON)
        now[:] = params, state, now[2] + 1

    return step


def compiled(name: str, given: Load) -> Timed:
    """As meta-training trains one task."""
    failures: list[str] = []
    compiler = Inductor(failures.append)
    program = Program(policy_of(name, given.model), objective(given.model, Kind.classification))
    pieces = Pieces(program, "none", compiler)
    noise = program.params.pack(noise_of(given.model))[None]
    values, carry = pieces.enter(program.hyper_vector(), noise)
    data = Data(noise, given.batch.x[None], given.batch.y[None], None, noise.new_full((1,), HORIZON, dtype=torch.int64))
    steps = pieces.steps(HORIZON)
    now: list[Any] = [carry, 0]

    def step() -> None:
        now[:] = pieces.advance(values, now[0], steps[now[1] % HORIZON], *data)[0], now[1] + 1

    step()
    if failures:
        raise SystemExit(f"{name}: {failures[0]}")
    return step


def torch_sgd(given: Load) -> Timed:
    """Torch's own step."""
    loss = objective(given.model, Kind.classification).loss
    start = policy_of("sgd", given.model).start(noise_of(given.model))
    params = {name: p.detach().clone().requires_grad_() for name, p in start.items()}
    optimizer = torch.optim.SGD(params.values(), lr=0.01)

    def step() -> None:
        with torch.enable_grad():
            optimizer.zero_grad()
            loss(params, given.batch).backward()
            optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=["conv4", "mlp"], choices=["conv4", "mlp"])
    known = [name for name in POLICIES if (CONF / f"{name}.yaml").exists()]
    parser.add_argument("--policies", nargs="+", default=known, choices=sorted(p.stem for p in CONF.glob("*.yaml")))
    parser.add_argument("--ways", nargs="+", default=["eager", "compiled"], choices=["eager", "compiled"])
    parser.add_argument("--repeats", type=int, default=30, help="rounds in which each policy has a turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/step_cost.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console(width=None if Console().is_terminal else 120)
    record: Result = {"kind": "step_cost", "format": 1, "machine": machine(), "threads": arguments.threads}
    warn_if_busy(console, record["machine"]["load"], record["machine"]["cores"])
    record["workloads"] = {}
    names = ["sgd", *arguments.policies]
    with torch.no_grad():
        for key in arguments.workloads:
            given = load(key)
            record["workloads"][key] = {"title": given.title, "ways": {}}
            for way in arguments.ways:
                make = {"eager": eager, "compiled": compiled}[way]
                steps = {name: make(name, given) for name in names}
                if way == "eager":
                    steps["torch"] = torch_sgd(given)
                with progress_bar(console, 1, list(steps), arguments.repeats) as (describe, advance):
                    describe(f"{key}, {way}")
                    record["workloads"][key]["ways"][way] = take_turns(steps, arguments.repeats, advance)
                write_text(arguments.json, json.dumps(record, indent=1) + "\n")
    console.print(table(record))
    console.print(f"{record['machine']['cpu']}, {arguments.threads} thread(s); saved {arguments.json}")


def take_turns(steps: dict[str, Timed], repeats: int, advance: Callable[[], None]) -> Result:
    """Seconds of a step in each round, their median, and its ratio to that of plain SGD."""
    quickest = {name: min(seconds(step, 1) for _ in range(3)) for name, step in steps.items()}
    counts = {name: math.ceil(LEAST_TURN / spent) for name, spent in quickest.items()}
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            found[name].append(seconds(step, counts[name]))
            advance()
    reference = median(found["sgd"])
    return {
        name: {"seconds": each, "median": median(each), "ratio": median(each) / reference}
        for name, each in found.items()
    }


def seconds(step: Timed, count: int) -> float:
    """Of one of so many steps."""
    began = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - began) / count


def table(record: Result) -> Table:
    """A row for each policy: milliseconds and the ratio to plain SGD, of each workload and way."""
    rows = Table("", title="ms of a training step (× plain SGD)", title_justify="left")
    columns = []
    for of_load in record["workloads"].values():
        for way, results in of_load["ways"].items():
            rows.add_column(f"{of_load['title']}: {way}", justify="right")
            columns.append(results)
    for name in dict.fromkeys(name for results in columns for name in results):
        found = [results.get(name) for results in columns]
        rows.add_row(name, *(f"{1e3 * one['median']:.3g} ({one['ratio']:.2f})" if one else "" for one in found))
    return rows


if __name__ == "__main__":
    main()
