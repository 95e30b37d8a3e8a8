import importlib

import pytest
import torch
from omegaconf import OmegaConf

from metaopt.config.families import build_family, tasks_schemas
from metaopt.config.load import tasks_config
from metaopt.errors import ConfigError
from metaopt.tasks.registry import FAMILIES, register


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch):
    monkeypatch.setattr("metaopt.tasks.registry.FAMILIES", FAMILIES)
    before = dict(FAMILIES)
    yield
    FAMILIES.clear()
    FAMILIES.update(before)


def family(**parameters):
    """A family whose constructor keeps what it was given; parameters are (type, default)."""
    words = ", ".join(f"{name}: {kind} = {default!r}" for name, (kind, default) in parameters.items())
    scope = {}
    exec(f"class Given:\n def __init__(self, {words}):\n  self.given = dict(locals())", globals(), scope)
    return scope["Given"]


def test_a_registered_family_has_its_parameters_as_settings():
    register("mine")(
        family(points=("int", 5), noise=("float", 0.5), path=("str | None", None), drop=("list[str]", ["a"]))
    )
    config = tasks_config({"name": "mine", "points": 7, "drop": ["b", "c"]})
    given = build_family(config).given
    assert {key: given[key] for key in ("points", "noise", "path", "drop")} == {
        "points": 7,
        "noise": 0.5,
        "path": None,
        "drop": ["b", "c"],
    }


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"points": "many"}, "tasks.points"),
        ({"pionts": 3}, "tasks.pionts is no known setting; known here: tasks.name, tasks.points"),
        ({"points": None}, "tasks.points"),
    ],
)
def test_its_settings_are_checked_like_all_others(settings, words):
    register("mine")(family(points=("int", 5)))
    with pytest.raises(ConfigError, match=words):
        tasks_config({"name": "mine", **settings})


def test_defaults_are_not_shared_between_configurations():
    register("mine")(family(drop=("list[str]", ["a"])))
    tasks_config({"name": "mine"}).drop.append("b")
    assert tasks_config({"name": "mine"}).drop == ["a"]


@pytest.mark.parametrize("name", ["digits", "two words", "", "a.b"])
def test_a_name_that_is_taken_or_no_word_is_refused(name):
    with pytest.raises(ConfigError, match=r"registered as .*choose a word that is not among .*digits"):
        register(name)(family(points=("int", 5)))


def test_registering_the_same_class_again_changes_nothing():
    one = family(points=("int", 5))
    assert register("mine")(one) is register("mine")(one) is one


@pytest.mark.parametrize("line", ["def __init__(self, points): ...", "def __init__(self, points=5): ..."])
def test_a_parameter_without_type_or_default_is_named(line):
    scope = {}
    exec(f"class Given:\n {line}", scope)
    with pytest.raises(ConfigError, match=r"Given\.__init__: parameter 'points' needs a type and a default"):
        register("mine")(scope["Given"])


def test_a_type_that_no_file_holds_is_named():
    register("mine")(family(points=("torch.Tensor", None)))
    with pytest.raises(ConfigError, match=r"parameter 'points' has the type .*Tensor.*; a setting is an int"):
        tasks_schemas()


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_can_be_written_as_yaml(name):
    assert OmegaConf.to_yaml(OmegaConf.structured(tasks_schemas()[name])).startswith(f"name: {name}\n")


def test_settings_reach_the_family():
    tasks = build_family(tasks_config({"name": "sinusoid", "support": 7})).sample(
        "meta_train", 2, torch.Generator().manual_seed(0)
    )
    assert tasks.support.x.shape == (2, 7, 1)


CELL = """
@register("mine")
class Mine:
    def __init__(self, points: int = {points}) -> None:
        self.points = points
"""


@pytest.mark.parametrize("module", ["__main__", "a_module"])
def test_a_cell_or_module_that_is_run_again_puts_the_new_class_in_the_place_of_the_former(module):
    scope = {"register": register, "__name__": module}
    exec(CELL.format(points=5), scope)
    assert build_family(tasks_config({"name": "mine"})).points == 5
    exec(CELL.format(points=7).replace("points: int", "points: float"), scope)
    assert build_family(tasks_config({"name": "mine"})).points == 7
    with pytest.raises(ConfigError, match=r"choose a word that is not among .*mine"):
        exec(CELL.format(points=5), {"register": register, "__name__": "elsewhere"})
    with pytest.raises(ConfigError, match="choose a word that is not among"):
        exec(CELL.format(points=5).replace("Mine", "Other"), scope)


def test_a_module_is_reloaded(tmp_path, monkeypatch):
    path = tmp_path / "families_of_mine.py"
    path.write_text("from metaopt.tasks.registry import register\n" + CELL.format(points=5))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    module = importlib.import_module("families_of_mine")
    path.write_text(path.read_text().replace("5", "77"))
    assert importlib.reload(module).Mine is FAMILIES["mine"]
    assert FAMILIES["mine"]().points == 77


def test_a_class_that_a_function_makes_can_be_made_again():
    def make(points):
        @register("mine")
        class Mine:
            def __init__(self, points: int = points) -> None:
                self.points = points

        return Mine

    make(5)
    assert make(7) is FAMILIES["mine"]


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_family_that_comes_with_metaopt_is_never_displaced(name):
    own = FAMILIES[name]
    copy = type(own.__name__, (), {"__module__": own.__module__, "__qualname__": own.__qualname__})
    with pytest.raises(ConfigError, match="choose a word that is not among"):
        register(name)(copy)
    assert FAMILIES[name] is own
