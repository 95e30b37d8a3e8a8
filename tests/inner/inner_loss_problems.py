"""Problems in which label smoothing, dropout and input noise are learned."""

from inner_problems import CLASSES, IMAGE, make_problem, tiny_conv4

from metaopt.models.mlp import mlp
from metaopt.policies.settings import InitSettings, PolicySettings, StrengthSettings
from metaopt.types import Kind, TaskSpec

LOSS_PARAMETERS = ("smoothing_logit", "log_strengths.dropout", "log_strengths.input_noise")


def loss_settings(kind=Kind.classification, granularity="tensor", mode="learned", **others):
    """Rates and whatever enters the loss."""
    smoothing = mode if kind is Kind.classification else "off"
    return PolicySettings(
        **{
            "lr": StrengthSettings("learned", 0.3, "tensor"),
            "label_smoothing": StrengthSettings(smoothing, 0.2),
            "dropout": StrengthSettings(mode, 0.4, granularity),
            "input_noise": StrengthSettings(mode, 0.3),
            "init": InitSettings("learned"),
            **others,
        }
    )


def loss_problem(kind=Kind.classification, granularity="tensor", widths=(4, 3), **options):
    """An MLP with two places for dropout, or more; 3 minibatch steps."""
    model = mlp(TaskSpec(kind, (3,), CLASSES if kind is Kind.classification else 2), widths, "tanh")
    settings = loss_settings(kind, granularity)
    return make_problem(settings, model, kind, **({"horizon": 3, "batch_size": 4} | options))


def loss_adaptive_problem(**options):
    """With a rule that reads the loss, on which what enters the loss has a hold of its own."""
    settings = loss_settings(
        lr=StrengthSettings("learned", 0.1, "global"), rule="adaptive", preconditioner="second_moment"
    )
    model = mlp(TaskSpec(Kind.classification, (3,), CLASSES), [4, 3], "tanh")
    return make_problem(settings, model, **({"horizon": 3, "batch_size": 4} | options))


def loss_conv4_problem(norm="layer", **options):
    """With four places for dropout."""
    settings = loss_settings(init=InitSettings("scaled", "tensor"))
    steps = {"input_shape": IMAGE, "n_support": 6, "horizon": 2, "batch_size": 4, "seed": 3}
    return make_problem(settings, tiny_conv4(norm), **(steps | options))
