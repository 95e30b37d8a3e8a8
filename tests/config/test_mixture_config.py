import pytest

from metaopt.config.build import build_job
from metaopt.config.load import parts_config, read_config, tasks_config, to_yaml, train_config
from metaopt.errors import ConfigError

PARTS = "tasks.parts={digits: {noise: 0.5}, curves: {name: sinusoid, weight: 3}}"
SMALL = ("tasks=mixture", PARTS, "policy=role", "model.widths=[4]", "outer.meta_batch=8", "outer.validation_tasks=4")


def test_parts_are_families_with_weights(composed):
    parts = parts_config(train_config(composed(*SMALL)).tasks)
    assert parts.weights == {"digits": 1.0, "curves": 3.0}
    assert (parts.configs["digits"].noise, parts.configs["curves"].name) == (0.5, "sinusoid")


def test_a_job_has_a_problem_for_each_part_and_one_policy(composed):
    job = build_job(train_config(composed(*SMALL)))
    assert list(job.parts) == ["digits", "curves"]
    assert job.whole.counts(8) == {"digits": 2, "curves": 6}
    assert [v.tasks.support.x.shape[0] for v in job.validations] == [1, 3]
    assert job.card.tasks == "digits + sinusoid"


def test_the_hash_changes_with_that_of_any_part(composed):
    hashes = set()
    for parts in (PARTS, PARTS.replace("noise: 0.5", "split_seed: 1"), PARTS.replace("sinusoid", "digits")):
        hashes.add(build_job(train_config(composed("tasks=mixture", parts, *SMALL[2:]))).card.split_hash)
    assert len(hashes) == 3


def test_a_mixture_comes_back_from_its_file(composed, tmp_path):
    config = train_config(composed(*SMALL))
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert read_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (None, "tasks.parts must have two families or more, but has 0"),
        ({"digits": {}}, "two families or more, but has 1"),
        ({"digits": {}, "sinusoid": {"weight": 0}}, r"tasks.parts.sinusoid.weight is 0; it must be greater than 0"),
        ({"digits": {}, "sinusoid": {"weight": "much"}}, "tasks.parts.sinusoid.weight is 'much'"),
        ({"digits": {}, "other": {}}, "tasks.parts.other: tasks.name is 'other'; choose one of"),
        ({"digits": {"n_ways": 3}, "sinusoid": {}}, "tasks.parts.digits: tasks.n_ways is no known setting"),
        ({"digits": {}, "mixture": {}}, "tasks.parts.mixture must be named by one word and be a family"),
        ({"digits": {}, "../x": {"name": "sinusoid"}}, r"tasks.parts.\.\./x must be named by one word"),
    ],
)
def test_what_is_wrong_with_a_part_is_named(parts, words):
    with pytest.raises(ConfigError, match=words):
        tasks_config({"name": "mixture", "parts": parts})


@pytest.mark.parametrize("policy", ["per_parameter", "maml", "lslr"])
def test_a_policy_for_one_model_is_refused(composed, policy):
    with pytest.raises(ConfigError, match=r"use policy=role or policy=global"):
        build_job(train_config(composed(*SMALL[:2], f"policy={policy}")))
