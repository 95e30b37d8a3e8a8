import numpy as np
import pytest
from estimator_helpers import ADAM, ADAPTIVE, write_policy


@pytest.fixture(scope="session")
def adam(tmp_path_factory):
    """Path of a policy that is Adam with weight decay."""
    return write_policy(tmp_path_factory.mktemp("adam") / "policy.safetensors", ADAM)


@pytest.fixture(scope="session")
def adaptive(tmp_path_factory):
    """Path of an adaptive policy whose examples join in parts."""
    return write_policy(tmp_path_factory.mktemp("adaptive") / "policy.safetensors", ADAPTIVE)


@pytest.fixture(scope="session")
def table():
    """Sixty rows of four numbers in three classes that a line does not tell apart."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    return x, np.array(["one", "three", "two"])[(x[:, 0] > 0).astype(int) + (x[:, 1] * x[:, 2] > 0)]
