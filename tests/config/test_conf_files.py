import re
from dataclasses import asdict
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import metaopt
from metaopt.commands.launch import config_folder
from metaopt.config.build import check_engine
from metaopt.config.families import MODELS, tasks_schemas
from metaopt.config.load import evaluate_config, train_config
from metaopt.config.mixture import MIXTURE, MixtureConfig
from metaopt.config.policy import PolicyConfig
from metaopt.config.schema import TrackingConfig

CONF = config_folder()
FAMILIES = tasks_schemas() | {MIXTURE: MixtureConfig}


def choices(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def fields(tree, prefix=""):
    """Full names of all settings; what stands below `tasks` and `model` is theirs."""
    if not isinstance(tree, dict) or prefix in ("tasks.", "model."):
        return {prefix.removesuffix(".")}
    return {name for key, value in tree.items() for name in fields(value, f"{prefix}{key}.")}


def of_file(*parts):
    return fields(OmegaConf.to_container(OmegaConf.load(CONF.joinpath(*parts))))


def of_schema(schema):
    return fields(OmegaConf.to_container(OmegaConf.structured(schema)))


def family_of(name):
    return OmegaConf.load(CONF / "tasks" / f"{name}.yaml").name


def test_every_family_model_and_tracker_has_a_file():
    assert set(choices("tasks")) >= set(FAMILIES)
    assert all(family_of(name) == (name if name in FAMILIES else "image") for name in choices("tasks"))
    assert choices("model") == sorted(MODELS)
    assert choices("tracking") == ["none", "wandb"]


@pytest.mark.parametrize("name", choices("tasks"))
def test_files_of_tasks_show_every_setting_and_no_other(name):
    assert of_file("tasks", f"{name}.yaml") == of_schema(FAMILIES[family_of(name)])


@pytest.mark.parametrize("name", choices("model"))
def test_files_of_models_show_every_setting_and_no_other(name):
    assert of_file("model", f"{name}.yaml") == of_schema(MODELS[name])


@pytest.mark.parametrize("name", choices("policy"))
def test_files_of_policies_show_every_setting_and_no_other(name):
    assert of_file("policy", f"{name}.yaml") == of_schema(PolicyConfig)


@pytest.mark.parametrize("name", choices("tracking"))
def test_files_of_trackers_show_every_setting_and_no_other(name):
    assert of_file("tracking", f"{name}.yaml") == of_schema(TrackingConfig)


@pytest.mark.parametrize(("name", "load"), [("train", train_config), ("evaluate", evaluate_config)])
def test_the_main_files_show_every_setting_and_no_other(composed, name, load):
    raw = composed(*(["checkpoint=runs/x"] if name == "evaluate" else []), name=name)
    assert fields(OmegaConf.to_container(raw)) == fields(asdict(load(raw)))


@pytest.mark.parametrize("name", choices("policy"))
def test_every_policy_is_valid_and_called_as_its_file(composed, name):
    config = train_config(composed(f"policy={name}"))
    settings = config.policy.settings()
    assert settings.name == name
    if settings.optimizer != "metaopt":
        config.inner.engine = "higher"
    check_engine(settings, config.inner)


@pytest.mark.parametrize("name", choices("experiment"))
def test_every_experiment_is_valid(composed, name):
    config = train_config(composed(f"experiment={name}"))
    check_engine(config.policy.settings(), config.inner)
    family = "mixture" if name.startswith("pretrained_") else name.split("_")[0]
    assert getattr(config.tasks, "dataset", config.tasks.name).startswith(family)


def test_an_experiment_leaves_room_for_overrides(composed):
    config = train_config(composed("experiment=sinusoid_5shot", "inner.horizon=7", "policy=maml"))
    assert config.inner.horizon == 7
    assert config.policy.name == "maml"


def test_the_digits_experiment_is_the_default_spelled_out(composed):
    assert train_config(composed("experiment=digits")) == train_config(composed())


def test_what_both_commands_have_in_common_has_equal_defaults(composed):
    train = train_config(composed())
    evaluate = evaluate_config(composed("checkpoint=runs/x", name="evaluate"))
    assert evaluate.search == train.search
    assert evaluate.baselines == train.evaluation.baselines
    assert evaluate.baseline_init == train.evaluation.baseline_init
    assert evaluate.n_tasks == train.evaluation.n_tasks
    assert evaluate.device == train.device == "cpu"


def test_nothing_names_a_class_to_be_looked_up():
    for folder in (CONF, Path(metaopt.__file__).parent):
        for path in [*folder.rglob("*.py"), *folder.rglob("*.yaml")]:
            assert not re.search(r"\b_target_\b", path.read_text(encoding="utf-8")), path
