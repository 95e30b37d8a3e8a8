import pytest
from torch import nn

import metaopt
from metaopt.errors import PolicyFileError
from metaopt.pretrained import shipped, shipped_path


@pytest.mark.parametrize("name", shipped())
def test_each_policy_that_comes_with_metaopt_fits_networks_of_other_sizes(name):
    policy = metaopt.load_policy(name)
    assert policy.path == shipped_path(name)
    model = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    assert policy.init(model)
    policy.optimizer(model)
    # It was learned on tables that whoever reads the card can find, wherever they lay.
    parts = policy.card.config["tasks"]["parts"]
    assert {part["root"] for part in parts.values()} == {"data/pmlb"}


def test_there_is_one_for_each_kind_of_table():
    assert shipped() == ["tabular_classification", "tabular_regression"]


def test_an_unknown_name_lists_those_that_there_are():
    with pytest.raises(PolicyFileError, match=r"no policy called 'tabels'.*tabular_classification, tabular_regression"):
        shipped_path("tabels")


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tabular_regression").write_bytes(b"no policy")
    with pytest.raises(PolicyFileError, match="tabular_regression is not a policy file"):
        metaopt.load_policy("tabular_regression")
