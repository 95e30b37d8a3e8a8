import pytest
from hydra import compose, initialize_config_dir

from metaopt.commands.launch import VERSION_BASE, config_folder

TINY = (
    "tracking=none",
    "tasks.n_way=2",
    "tasks.support=3",
    "tasks.query=2",
    "tasks.test=2",
    "model.widths=[4]",
    "inner.horizon=3",
    "inner.batch_size=2",
    "outer.iterations=5",
    "outer.meta_batch=2",
    "outer.validation_tasks=3",
)


@pytest.fixture(scope="session")
def composed():
    """The function that composes conf/ with overrides, as the commands do."""

    def compose_with(*overrides, name="train"):
        with initialize_config_dir(str(config_folder()), version_base=VERSION_BASE):
            return compose(name, overrides=["run_dir=runs/test", *overrides])

    return compose_with


@pytest.fixture(scope="session")
def tiny(composed):
    """The function that composes a job on digits that is as small as it gets."""
    return lambda *overrides: composed(*TINY, *overrides)
