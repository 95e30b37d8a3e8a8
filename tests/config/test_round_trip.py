import pytest

from metaopt.config.load import evaluate_config, read_config, to_yaml, train_config
from metaopt.errors import ConfigError


@pytest.fixture
def file(tmp_path):
    return tmp_path / "config.yaml"


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("tasks=omniglot", "model=conv4", "policy=lslr", "tracking=none"),  # modes "off", which YAML reads as false
        ("tasks=sinusoid", "inner.batch_size=null", "outer.clip=null", "model.widths=[]", "outer.lr=1e-5"),
        ("model=resnet", "model.channels=[4,8]", "evaluation.batch_statistics=inductive"),
        ("model=transformer", "model.patch=4", "model.positions=false"),
        ("run_dir='runs/mit Umlaut ä: #1'", "policy.name=null_", "tracking.project='12'"),
    ],
)
def test_what_is_written_is_what_is_read(composed, file, overrides):
    config = train_config(composed(*overrides))
    file.write_text(to_yaml(config), encoding="utf-8")
    assert read_config(file) == config
    assert to_yaml(read_config(file)) == to_yaml(config)


def test_nothing_is_left_to_be_resolved(composed):
    assert "${" not in to_yaml(train_config(composed()))
    assert "???" not in to_yaml(evaluate_config(composed("checkpoint=runs/x", name="evaluate")))


def test_a_missing_file_is_named(file):
    with pytest.raises(ConfigError, match=r"no config\.yaml in .*resume"):
        read_config(file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- a\n- b\n",
        b"just a word",
        b"inner: {horizon: 3",
        b"\xff\xfe\x00binary",
        b"a: 1\na: 2\n",
        b"inner: !!python/object/apply:os.mkdir [made]\n",
    ],
    ids=["empty", "list", "scalar", "cut off", "binary", "twice", "code"],
)
def test_a_damaged_file_is_a_config_error_and_runs_nothing(file, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file.write_bytes(content)
    with pytest.raises(ConfigError):
        read_config(file)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_file_of_another_version_names_the_setting(composed, file):
    text = to_yaml(train_config(composed()))
    file.write_text(text.replace("horizon:", "steps:"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"inner\.steps is no known setting"):
        read_config(file)
