"""What papers report, and beside each number the run of ours that answers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FINN = "Finn, Abbeel, Levine: Model-agnostic meta-learning, ICML 2017"
LI = "Li, Zhou, Chen, Li: Meta-SGD, 2017"
ANTONIOU = "Antoniou, Edwards, Storkey: How to train your MAML, ICLR 2019"
PARK = "Park, Oliva: Meta-Curvature, NeurIPS 2019"

SINUSOID = ("evaluation.baselines=[]", "evaluation.n_tasks=5000")
OMNIGLOT = ("evaluation.baselines=[]", "evaluation.n_tasks=600")


@dataclass(frozen=True)
class Training:
    """A run of meta-training.

    Attributes:
        name: of its folder.
        words: overrides of `train_meta.py`.
        start: whose policy it begins with; None: it begins afresh.
    """

    name: str
    words: tuple[str, ...]
    start: Training | None = None


@dataclass(frozen=True)
class Row:
    """A number in a paper's table.

    Attributes:
        table: what is learned: family and size of its tasks.
        method: by which policy.
        paper: the number; mean squared error, or accuracy in per cent.
        source: where it stands.
        training: the run that is evaluated.
        evaluate: overrides of `evaluate.py`, where the tasks to be scored on are not those of meta-training.
        measure: `loss` (lower is better) or `accuracy`.
        note: in what the run differs from the paper's method.
    """

    table: str
    method: str
    paper: float
    source: str
    training: Training
    evaluate: tuple[str, ...] = ()
    measure: Literal["loss", "accuracy"] = "loss"
    note: str = ""

    @property
    def name(self) -> str:
        """By which `--rows` finds it."""
        return f"{self.table}/{self.method}"


def _sinusoid(shots: int, method: str, paper: float) -> Row:
    table = f"sinusoid_{shots}shot"
    training = Training(f"{table}/{method}", (f"experiment={table}", f"policy={method}", *SINUSOID))
    return Row(table, method, paper, PARK, training)


FREQUENCY = Training("sinusoid_frequency_5shot/meta_sgd", ("experiment=sinusoid_frequency_5shot", *SINUSOID))


def _frequency(shots: int, paper: float) -> Row:
    evaluate = () if shots == 5 else (f"tasks.support={shots}", "baselines=[]", "n_tasks=5000")
    note = "" if shots == 5 else "meta-trained on 5 points"
    return Row(f"sinusoid_frequency_{shots}shot", "meta_sgd", paper, LI, FREQUENCY, evaluate, note=note)


def _omniglot(
    ways: int,
    shots: int,
    method: str,
    paper: float,
    source: str,
    *others: str,
    start: Training | None = None,
    note: str = "",
) -> Row:
    table = f"omniglot_{ways}way_{shots}shot"
    words = (f"experiment={table}", f"policy={method}", *OMNIGLOT, *others)
    return Row(table, method, paper, source, Training(f"{table}/{method}", words, start), measure="accuracy", note=note)


MAML_5_WAY = ("policy.lr.value=0.4", "outer.meta_batch=32")
MAML_20_WAY = ("policy.lr.value=0.1", "inner.horizon=5")
PLUS_PLUS = "of MAML++, the learned rates per step and tensor only"

# Drawings of 16×16 take a third of the arithmetic, and the same parameters; what goes on from them takes smaller steps.
SMALL = Training(
    "omniglot_5way_5shot/meta_sgd_16x16",
    ("experiment=omniglot_5way_5shot", "evaluation.n_tasks=0", "tasks.size=16", "outer.iterations=2500"),
)
GOES_ON = ("outer.lr=0.005", "outer.init_lr=0.0015")
FIVE_SHOT = _omniglot(5, 5, "meta_sgd", 99.93, LI, "outer.iterations=4100", *GOES_ON, start=SMALL)
ONE_SHOT = _omniglot(5, 1, "meta_sgd", 99.53, LI, "outer.iterations=1000", *GOES_ON, start=FIVE_SHOT.training)

ROWS: tuple[Row, ...] = (
    _sinusoid(5, "maml", 0.686),
    _sinusoid(5, "layer_lr", 0.528),
    _sinusoid(5, "meta_sgd", 0.482),
    _sinusoid(5, "meta_curvature", 0.405),
    _sinusoid(10, "maml", 0.435),
    _sinusoid(10, "layer_lr", 0.269),
    _sinusoid(10, "meta_sgd", 0.258),
    _sinusoid(10, "meta_curvature", 0.201),
    _frequency(5, 0.90),
    _frequency(10, 0.63),
    _frequency(20, 0.50),
    _omniglot(5, 1, "maml", 98.7, FINN, *MAML_5_WAY),
    ONE_SHOT,
    _omniglot(5, 5, "maml", 99.9, FINN, *MAML_5_WAY),
    FIVE_SHOT,
    _omniglot(20, 1, "maml", 95.8, FINN, *MAML_20_WAY),
    _omniglot(20, 1, "meta_sgd", 95.93, LI),
    _omniglot(20, 1, "lslr", 97.65, ANTONIOU, *MAML_20_WAY, note=PLUS_PLUS),
    _omniglot(20, 5, "maml", 98.9, FINN, *MAML_20_WAY),
    _omniglot(20, 5, "meta_sgd", 98.97, LI),
    _omniglot(20, 5, "lslr", 99.33, ANTONIOU, *MAML_20_WAY, note=PLUS_PLUS),
)
