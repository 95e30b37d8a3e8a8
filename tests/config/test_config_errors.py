import pytest
from omegaconf import OmegaConf

from metaopt.config.load import evaluate_config, tasks_config, train_config
from metaopt.errors import ConfigError

# override, the field that the error must name, what it must say that came
WRONG = [
    ("inner.horizon=abc", "inner.horizon", "abc"),
    ("inner.horizon=1.5", "inner.horizon", "1.5"),
    ("inner.horizon=true", "inner.horizon", "True"),
    ("inner.horizon=null", "inner.horizon", "None"),
    ("inner.horizon=-3", "inner.horizon", "-3"),
    ("inner.horizon=0", "inner.horizon", "0"),
    ("inner.horizons=[10,0]", "inner.horizons", "0"),
    ("inner.horizons=[]", "inner.horizons", "[]"),
    ("inner.horizons=20", "inner.horizons", "20"),
    ("inner.batch_size=0", "inner.batch_size", "0"),
    ("inner.task_chunk=0", "inner.task_chunk", "0"),
    ("inner.engine=slow", "inner.engine", "slow"),
    ("inner.hypergradient=magic", "inner.hypergradient", "magic"),
    ("inner=5", "inner", "5"),
    ("outer.iterations=-1", "outer.iterations", "-1"),
    ("outer.iterations=1e3", "outer.iterations", "1000.0"),
    ("outer.meta_batch=0", "outer.meta_batch", "0"),
    ("outer.lr=0", "outer.lr", "0"),
    ("outer.lr=nan", "outer.lr", "nan"),
    ("outer.lr=inf", "outer.lr", "inf"),
    ("outer.lr=true", "outer.lr", "True"),
    ("outer.init_lr=-1", "outer.init_lr", "-1"),
    ("outer.clip=0", "outer.clip", "0"),
    ("outer.lr_schedule=linear", "outer.lr_schedule", "linear"),
    ("outer.validate_every=0", "outer.validate_every", "0"),
    ("outer.validation_tasks=0", "outer.validation_tasks", "0"),
    ("outer.patience=0", "outer.patience", "0"),
    ("outer.checkpoint_every=0", "outer.checkpoint_every", "0"),
    ("evaluation.n_tasks=-1", "evaluation.n_tasks", "-1"),
    ("evaluation.n_tasks=1", "evaluation.n_tasks", "1"),
    ("evaluation.baselines=[sgd,lion]", "evaluation.baselines", "lion"),
    ("evaluation.baseline_init=zero", "evaluation.baseline_init", "zero"),
    ("evaluation.batch_statistics=running", "evaluation.batch_statistics", "running"),
    ("search.trials=0", "search.trials", "0"),
    ("search.tasks_per_trial=0", "search.tasks_per_trial", "0"),
    ("tracking.name=diary", "tracking.name", "diary"),
    ("tracking.mode=sometimes", "tracking.mode", "sometimes"),
    ("tracking.log_every=0", "tracking.log_every", "0"),
    ("tracking.histograms_every=0", "tracking.histograms_every", "0"),
    ("tasks.name=digit", "tasks.name", "digit"),
    ("tasks.n_way=abc", "tasks.n_way", "abc"),
    ("tasks.noise=loud", "tasks.noise", "loud"),
    ("model.name=cnn", "model.name", "cnn"),
    ("model.widths=[8,0]", "model.widths", "0"),
    ("model.widths=[wide]", "model.widths", "wide"),
    ("model.activation=sin", "model.activation", "sin"),
    ("policy.lr.value=abc", "policy.lr.value", "abc"),
    ("policy.lr.value=0", "policy.lr.value", "0"),
    ("policy.lr.mode=frozen", "policy.lr.mode", "frozen"),
    ("policy.l2.granularity=layer", "policy.l2.granularity", "layer"),
    ("policy.momentum.value=1", "policy.momentum.value", "1"),
    ("policy.label_smoothing.value=1", "policy.label_smoothing.value", "1"),
    ("policy.label_smoothing.granularity=tensor", "policy.label_smoothing.granularity", "tensor"),
    ("policy.input_noise.granularity=role", "policy.input_noise.granularity", "role"),
    ("policy.dropout.granularity=element", "policy.dropout.granularity", "element"),
    ("policy.dropout.value=0", "policy.dropout.value", "0"),
    ("policy.dropout.mode=on", "policy.dropout.mode", "on"),
    ("policy.schedule=cosine", "policy.schedule", "cosine"),
    ("policy.init.mode=zeros", "policy.init.mode", "zeros"),
    ("policy.optimizer=Lion", "policy.optimizer", "Lion"),
    ("seed=-1", "seed", "-1"),
    ("seed=4294967296", "seed", "4294967296"),  # Optuna takes 32 bits; it would fail after all of meta-training
    ("device=gpu", "device", "gpu"),
    ("device=cuda:x", "device", "cuda:x"),
    ("device=0", "device", "0"),
    ("device=null", "device", "None"),
    ("threads=0", "threads", "0"),
    ("+outer.lrr=1", "outer.lrr", "outer.lr"),
    ("+policy.lr.rate=1", "policy.lr.rate", "policy.lr.value"),
    ("+tasks.shots=1", "tasks.shots", "tasks.support"),
    ("+model.depth=1", "model.depth", "model.widths"),
    ("+horizon=1", "horizon", "inner"),
    ("+tasks._target_=os.system", "tasks._target_", "tasks.support"),
    ("~inner", "inner", "missing"),
]
WRONG_CONV = [
    ("model.channels=0", "model.channels", "0"),
    ("model.norm=spectral", "model.norm", "spectral"),
    ("model.downsample=none", "model.downsample", "none"),
]
WRONG_RESNET = [
    ("model.channels=[]", "model.channels", "[]"),
    ("model.channels=[8,0]", "model.channels", "0"),
    ("model.channels=8", "model.channels", "8"),
    ("model.blocks=0", "model.blocks", "0"),
    ("model.norm=spectral", "model.norm", "spectral"),
    ("model.downsample=none", "model.downsample", "none"),
]
WRONG_TRANSFORMER = [
    ("model.width=0", "model.width", "0"),
    ("model.heads=0", "model.heads", "0"),
    ("model.depth=0", "model.depth", "0"),
    ("model.mlp_ratio=0", "model.mlp_ratio", "0"),
    ("model.activation=sin", "model.activation", "sin"),
    ("model.patch=0", "model.patch", "0"),
    ("model.positions=often", "model.positions", "often"),
]
WRONG_EVALUATION = [
    ("n_tasks=1", "n_tasks", "1"),
    ("n_tasks=0", "n_tasks", "0"),
    ("horizon=0", "horizon", "0"),
    ("split=test", "split", "test"),
    ("baselines=[lion]", "baselines", "lion"),
    ("baseline_init=zero", "baseline_init", "zero"),
    ("batch_statistics=running", "batch_statistics", "running"),
    ("search.trials=0", "search.trials", "0"),
    ("seed=4294967296", "seed", "4294967296"),
    ("device=gpu", "device", "gpu"),
    ("threads=0", "threads", "0"),
    ("checkpoint=null", "checkpoint", "None"),
    ("+inner.horizon=3", "inner", "horizon"),
]


def message(load, raw):
    with pytest.raises(ConfigError) as caught:
        load(raw)
    return str(caught.value)


def checked(raw):
    """All checks there are before anything is built."""
    return train_config(raw).policy.settings()


def assert_names(text, field, came):
    assert text.startswith(field), text
    assert text[len(field) : len(field) + 1] in (" ", ":", "["), text  # the whole name, not the beginning of another
    assert came in text
    assert "\n" not in text


@pytest.mark.parametrize(("override", "field", "came"), WRONG, ids=[case[0] for case in WRONG])
def test_a_wrong_setting_is_named_in_full_with_what_came(composed, override, field, came):
    assert_names(message(checked, composed(override)), field, came)


@pytest.mark.parametrize(("override", "field", "came"), WRONG_CONV, ids=[case[0] for case in WRONG_CONV])
def test_so_is_one_of_a_convolutional_network(composed, override, field, came):
    assert_names(message(checked, composed("model=conv4", override)), field, came)


@pytest.mark.parametrize(("override", "field", "came"), WRONG_RESNET, ids=[case[0] for case in WRONG_RESNET])
def test_so_is_one_of_a_residual_network(composed, override, field, came):
    assert_names(message(checked, composed("model=resnet", override)), field, came)


@pytest.mark.parametrize(("override", "field", "came"), WRONG_TRANSFORMER, ids=[case[0] for case in WRONG_TRANSFORMER])
def test_so_is_one_of_a_transformer(composed, override, field, came):
    assert_names(message(checked, composed("model=transformer", override)), field, came)


@pytest.mark.parametrize(("override", "field", "came"), WRONG_EVALUATION, ids=[case[0] for case in WRONG_EVALUATION])
def test_so_is_one_of_an_evaluation(composed, override, field, came):
    raw = composed("checkpoint=runs/x", override, name="evaluate")
    assert_names(message(evaluate_config, raw), field, came)


def test_an_evaluation_without_a_checkpoint_asks_for_one(composed):
    assert "checkpoint=PATH" in message(evaluate_config, composed(name="evaluate"))


@pytest.mark.parametrize(
    "override",
    [
        "inner.batch_size=null",
        "outer.clip=null",
        "evaluation.n_tasks=0",
        "outer.iterations=0",
        "seed=4294967295",
        "device=cuda:1",
    ],
)
def test_values_at_the_edge_are_taken(composed, override):
    checked(composed(override))


@pytest.mark.parametrize("raw", [OmegaConf.create({"n_way": 5}), OmegaConf.create([]), {}, None, "digits"])
def test_settings_without_a_name_are_no_tasks(raw):
    assert "choose one of digits, folder, image, " in message(tasks_config, raw)
