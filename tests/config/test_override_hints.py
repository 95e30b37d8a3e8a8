import pytest

from metaopt.commands.launch import check_overrides
from metaopt.errors import ConfigError


def complaint(*overrides, name="train"):
    with pytest.raises(ConfigError) as caught:
        check_overrides(name, overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("inner.horizn=5", "inner.horizon"),
        ("horizon=5", "inner.horizon"),
        ("outer.learning_rate=5", "unknown override 'outer.learning_rate'"),
        ("tasks.nway=5", "tasks.n_way"),
        ("trials=5", "search.trials"),
    ],
)
def test_an_unknown_override_names_a_near_match(override, hint):
    assert hint in complaint(override)


def test_a_setting_of_another_family_is_unknown():
    assert "tasks.n_way" in complaint("tasks=sinusoid", "tasks.n_way=5")


@pytest.mark.parametrize("override", ["tasks=digit", "policy=nothing", "experiment=none_such"])
def test_an_unknown_choice_is_told_with_what_there_is(override):
    assert override.partition("=")[2] in complaint(override)


@pytest.mark.parametrize("override", ["inner.horizon", "outer.lr=[1", "=5", "tasks=null"])
def test_what_is_no_override_is_an_error_in_one_line(override):
    assert complaint(override)


@pytest.mark.parametrize(
    "overrides",
    [
        ("-m", "bogus=1"),
        ("--multirun", "tasks=digits,letters"),
        ("policy=maml,bogus", "seed=1,2", "-m"),
        ("-m", "seed=["),
    ],
)
def test_a_sweep_is_checked_value_by_value(overrides):
    assert complaint(*overrides)


@pytest.mark.parametrize(
    "overrides", [(), ("inner.horizon=5", "tasks=sinusoid"), ("--help",), ("-m", "seed=1,2"), ("resume=runs/x",)]
)
def test_known_overrides_and_flags_pass(overrides):
    check_overrides("train", overrides)


def test_overrides_are_those_of_the_command():
    check_overrides("evaluate", ["checkpoint=x", "horizon=5"])
    assert "n_tasks" in complaint("evaluation.n_tasks=5", name="evaluate")
