"""What can be configured. The types check the YAML, `__post_init__` checks the ranges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from metaopt.config.checks import above, at_least, one_of, whole_number, within
from metaopt.config.device import check_device
from metaopt.config.policy import PolicyConfig
from metaopt.config.search import SearchConfig
from metaopt.errors import ConfigError
from metaopt.inner.plan import METHODS
from metaopt.models.objective import OUTER

DTYPES = ("float32", "float64", "bfloat16")

# OmegaConf reads these annotations at run time, on Python 3.10 too: hence Optional and List-free builtins.


@dataclass
class InnerConfig:
    """Training on a task, and differentiating through it.

    Attributes:
        horizon: number of inner steps.
        horizons: of which each iteration of meta-training draws one in place of `horizon`, which is then that of
            meta-validation and of the policy file; null: always `horizon`.
        batch_size: support examples in a minibatch; null: all of them.
        engine: `native` trains the tasks side by side; `higher` runs higher's loop, task by task.
        hypergradient: `auto`, or one of `reverse`, `mixed`, `checkpointing`, `truncated`, `forward`, `first_order`.
        second_derivative: how steps that are differentiated one by one get a Hessian-vector product: `reverse` mode
            over reverse mode, or `forward` mode over reverse mode.
        stored_steps: steps that `checkpointing` stores at once, at most; null: the fewest with which it trains no step
            more than twice, about the square root of twice the horizon.
        window: inner steps that `truncated` differentiates through at a time.
        task_chunk: tasks that are trained side by side, or `auto`: measured once.
        compile: `true`, `false`, or `auto`: where the run is long enough to earn the time back.
        dtype: `float32`, `float64`, or `bfloat16`: the model's forward and backward passes only.
    """

    horizon: int = 50
    horizons: Optional[list[int]] = None  # noqa: UP045
    batch_size: Optional[int] = None  # noqa: UP045
    engine: str = "native"
    hypergradient: str = "auto"
    second_derivative: str = "reverse"
    stored_steps: Optional[int] = None  # noqa: UP045
    window: int = 20
    task_chunk: Any = "auto"
    compile: Any = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        at_least("inner.horizon", self.horizon, 1)
        if self.horizons is not None and not self.horizons:
            raise ConfigError(
                "inner.horizons is []; give horizons, such as [25,50,100], or null for inner.horizon only"
            )
        for horizon in self.horizons or ():
            at_least("inner.horizons", horizon, 1)
        at_least("inner.batch_size", self.batch_size, 1)
        at_least("inner.stored_steps", self.stored_steps, 1)
        at_least("inner.window", self.window, 1)
        one_of("inner.engine", self.engine, ("native", "higher"))
        one_of("inner.hypergradient", self.hypergradient, ("auto", *METHODS))
        one_of("inner.second_derivative", self.second_derivative, ("reverse", "forward"))
        one_of("inner.dtype", self.dtype, DTYPES)
        if self.task_chunk != "auto":
            whole_number("inner.task_chunk", self.task_chunk, "auto")
            at_least("inner.task_chunk", self.task_chunk, 1)
        if self.compile != "auto" and not isinstance(self.compile, bool):
            raise ConfigError(f"inner.compile is {self.compile!r}; choose one of auto, true, false")

    @property
    def longest(self) -> int:
        """The longest horizon of meta-training."""
        return max(self.horizons or [self.horizon])

    @property
    def chunk(self) -> int | None:
        """`task_chunk`, or None where it is to be measured."""
        return None if self.task_chunk == "auto" else int(self.task_chunk)

    @property
    def compiled(self) -> bool | None:
        """`compile`, or None where it is to be decided."""
        return None if self.compile == "auto" else bool(self.compile)


@dataclass
class OuterConfig:
    """See `OuterSettings`.

    `objective` is what hypergradients are of: `loss`, or `error_surrogate` for accuracy; `start` the policy that
    meta-training begins with, see `read_start`.
    """

    objective: str = "loss"
    start: Optional[str] = None  # noqa: UP045
    iterations: int = 1000
    meta_batch: int = 16
    lr: float = 0.02
    init_lr: Optional[float] = None  # noqa: UP045
    lr_schedule: str = "cosine"
    clip: Optional[float] = 10.0  # noqa: UP045
    validate_every: int = 50
    validation_tasks: int = 64
    select: str = "best"
    patience: Optional[int] = None  # noqa: UP045
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        one_of("outer.objective", self.objective, OUTER)
        at_least("outer.iterations", self.iterations, 0)
        at_least("outer.meta_batch", self.meta_batch, 1)
        above("outer.lr", self.lr, 0)
        above("outer.init_lr", self.init_lr, 0)
        one_of("outer.lr_schedule", self.lr_schedule, ("constant", "cosine"))
        above("outer.clip", self.clip, 0)
        at_least("outer.validate_every", self.validate_every, 1)
        at_least("outer.validation_tasks", self.validation_tasks, 1)
        one_of("outer.select", self.select, ("best", "last"))
        at_least("outer.patience", self.patience, 1)
        at_least("outer.checkpoint_every", self.checkpoint_every, 1)


BASELINES = ("sgd", "adam", "tuned", "mapped")
BASELINE_INITS = ("policy", "fresh")
BATCH_STATISTICS = ("both", "transductive", "inductive")
LARGEST_SEED = 2**32 - 1
"""What Optuna's sampler takes; a larger seed would fail in the search, after all of meta-training."""


@dataclass
class EvaluationConfig:
    """The comparison on held-out tasks.

    Attributes:
        n_tasks: number of tasks; 0 leaves the evaluation out.
        baselines: which of sgd, adam, tuned and mapped (the conventional setting closest to the policy) stand beside
            the policy.
        baseline_init: `policy`: baselines start from the policy's initialisations; `fresh`: from torch's.
        batch_statistics: how a model with batch normalisation predicts test sets: by the statistics of the test set
            (`transductive`), of the support set (`inductive`), or in both ways, a record for each.
    """

    n_tasks: int = 200
    baselines: list[str] = field(default_factory=lambda: ["sgd", "adam", "tuned"])
    baseline_init: str = "policy"
    batch_statistics: str = "both"

    def __post_init__(self) -> None:
        if self.n_tasks != 0:
            at_least("evaluation.n_tasks", self.n_tasks, 2)
        for name in self.baselines:
            one_of("evaluation.baselines", name, BASELINES)
        one_of("evaluation.baseline_init", self.baseline_init, BASELINE_INITS)
        one_of("evaluation.batch_statistics", self.batch_statistics, BATCH_STATISTICS)


@dataclass
class TrackingConfig:
    """Where a run is tracked.

    Attributes:
        name: `wandb` or `none`.
        mode: `offline` (kept on disk, `wandb sync` can upload it later), `online` or `disabled`.
        project: W&B project.
        log_every: iterations between logged meta-training records.
        histograms_every: iterations between histograms of the learned quantities.
    """

    name: str = "none"
    mode: str = "offline"
    project: str = "metaopt"
    log_every: int = 10
    histograms_every: int = 100

    def __post_init__(self) -> None:
        one_of("tracking.name", self.name, ("wandb", "none"))
        one_of("tracking.mode", self.mode, ("offline", "online", "disabled"))
        at_least("tracking.log_every", self.log_every, 1)
        at_least("tracking.histograms_every", self.histograms_every, 1)


@dataclass
class TrainConfig:
    """Everything about `train_meta.py`. `tasks` and `model` are checked by their own schemas."""

    tasks: Any
    model: Any
    policy: PolicyConfig
    inner: InnerConfig
    outer: OuterConfig
    evaluation: EvaluationConfig
    search: SearchConfig
    tracking: TrackingConfig
    seed: int = 0
    device: str = "cpu"
    run_dir: str = "runs/metaopt"
    resume: Optional[str] = None  # noqa: UP045
    threads: Optional[int] = None  # noqa: UP045

    def __post_init__(self) -> None:
        within("seed", self.seed, 0, LARGEST_SEED)
        check_device(self.device)
        at_least("threads", self.threads, 1)


@dataclass
class DescribeConfig:
    """Everything about `python -m metaopt.tasks describe`."""

    tasks: Any
    picture: Optional[str] = None  # noqa: UP045
    seed: int = 0
    run_dir: Optional[str] = None  # noqa: UP045

    def __post_init__(self) -> None:
        within("seed", self.seed, 0, LARGEST_SEED)


@dataclass
class SafetyConfig:
    """What evaluation does about negative transfer.

    Attributes:
        fallback: add the method `fallback`: on each task the better one, by validation loss, of the policy and the
            conventional setting, charged as two trials.
    """

    fallback: bool = False


@dataclass
class EvaluateConfig:
    """Everything about `evaluate.py`."""

    checkpoint: str
    tasks: Any
    model: Any
    search: SearchConfig
    tracking: TrackingConfig
    evaluate: SafetyConfig
    baselines: list[str]
    baseline_init: str = "policy"
    batch_statistics: str = "both"
    split: str = "meta_test"
    n_tasks: int = 200
    horizon: Optional[int] = None  # noqa: UP045
    seed: int = 0
    device: str = "cpu"
    run_dir: str = "runs/evaluation"
    threads: Optional[int] = None  # noqa: UP045

    def __post_init__(self) -> None:
        for name in self.baselines:
            one_of("baselines", name, BASELINES)
        one_of("baseline_init", self.baseline_init, BASELINE_INITS)
        one_of("batch_statistics", self.batch_statistics, BATCH_STATISTICS)
        at_least("n_tasks", self.n_tasks, 2)
        at_least("horizon", self.horizon, 1)
        within("seed", self.seed, 0, LARGEST_SEED)
        check_device(self.device)
        at_least("threads", self.threads, 1)
        one_of("split", self.split, ("meta_train", "meta_validation", "meta_test"))
