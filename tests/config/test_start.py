import pytest
import torch

from metaopt.config.build import build_job
from metaopt.config.load import train_config
from metaopt.config.start import LINEAGE, begin_with, lineage_notes, read_start
from metaopt.errors import ConfigError, PolicyFileError
from metaopt.outer.state import save_state
from metaopt.policies.file import load_policy_file, save_policy
from metaopt.policies.policy import Policy

ROLES = ("policy=role", "policy.init.mode=scaled")


@pytest.fixture
def build(tiny):
    """The function that builds the tiny job with overrides."""
    return lambda *overrides: build_job(train_config(tiny(*overrides)))


def moved(job):
    """The job, with other numbers in its policy than it began with, as meta-training leaves it."""
    with torch.no_grad():
        for number, parameter in enumerate(job.state.policy.parameters(), 1):
            parameter.add_(0.01 * number)
    job.state.inner_steps = 120
    return job


def saved(job, path):
    card = job.card
    card.config["meta_training_inner_steps"] = job.state.inner_steps
    save_policy(path, dict(job.state.policy.named_parameters()), card)
    return path


@pytest.fixture
def learned(build, tmp_path):
    """The file of a policy for roles."""
    return saved(moved(build(*ROLES)), tmp_path / "policy.safetensors")


def parameters(job):
    return {name: value.detach().clone() for name, value in job.state.policy.named_parameters()}


def test_it_begins_with_the_numbers_of_the_file(build, learned):
    job = build(*ROLES, f"outer.start={learned}")
    tensors, _ = load_policy_file(learned)
    assert parameters(job).keys() == tensors.keys()
    for name, value in parameters(job).items():
        torch.testing.assert_close(value, tensors[name], rtol=0, atol=0)
        torch.testing.assert_close(job.state.best[name], tensors[name], rtol=0, atol=0)
    assert "Begins with role of" in job.begins
    assert str(learned) in job.begins


def test_a_run_directory_will_do(build, learned):
    job = build(*ROLES, f"outer.start={learned.parent}")
    torch.testing.assert_close(parameters(job), load_policy_file(learned)[0], rtol=0, atol=0)


def test_of_a_checkpoint_it_is_the_best_policy_so_far(build, learned, tmp_path):
    state = moved(build(*ROLES)).state
    state.best = {name: value + 1.0 for name, value in parameters(build(*ROLES)).items()}
    save_state(tmp_path / "checkpoint.pt", state, load_policy_file(learned)[1])
    job = build(*ROLES, f"outer.start={tmp_path}/checkpoint.pt")
    torch.testing.assert_close(parameters(job), state.best, rtol=0, atol=0)


def test_it_begins_with_nothing_unless_told_to(build):
    assert build(*ROLES).begins == ""


def test_on_another_network_roles_are_what_matches(build, learned):
    job = build(*ROLES, "model.widths=[5]", f"outer.start={learned}")
    torch.testing.assert_close(parameters(job), load_policy_file(learned)[0], rtol=0, atol=0)
    assert "mlp(activation=relu, widths=[5])" in job.begins


def test_a_role_that_only_the_file_knows_is_left_out(build, learned):
    job = build(*ROLES, "model.widths=[]", f"outer.start={learned}")
    tensors, _ = load_policy_file(learned)
    assert 0 < len(parameters(job)) < len(tensors)
    assert all(torch.equal(value, tensors[name]) for name, value in parameters(job).items())


def test_what_was_spent_before_counts(build, learned):
    assert build(*ROLES, f"outer.start={learned}").state.inner_steps == 120


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("policy=meta_sgd",), ("policy.schedule=step_role", "policy.lr.granularity=role", "policy.init.mode=scaled")),
        ((*ROLES, "policy.momentum.mode=fixed", "policy.momentum.value=0.5"), ("policy.momentum.mode=learned",)),
        ((*ROLES, "policy.l2.mode=off"), ("policy.l2.mode=learned", "policy.l2.granularity=role")),
        ((*ROLES, "policy.schedule_knots=7"), ("policy.schedule_knots=4",)),
        ((*ROLES, "policy.order=progressive"), ("policy.order=epochs",)),
    ],
)
def test_another_kind_of_policy_is_refused_with_what_to_give(overrides, named, build, learned):
    with pytest.raises(ConfigError, match=f"outer.start={learned}") as caught:
        build(*overrides, f"outer.start={learned}")
    for words in named:
        assert words in str(caught.value)


def test_following_the_advice_is_enough(build, learned):
    with pytest.raises(ConfigError) as caught:
        build("policy=meta_sgd", f"outer.start={learned}")
    advice = str(caught.value).partition("give ")[2].partition(", or")[0].split()
    job = build("policy=meta_sgd", *advice, f"outer.start={learned}")
    torch.testing.assert_close(parameters(job), load_policy_file(learned)[0], rtol=0, atol=0)


def test_where_learning_would_start_and_what_is_off_do_not_matter(build, learned):
    overrides = ("policy.name=mine", "policy.lr.value=0.7", "policy.pull.value=0.3", "policy.momentum.value=0.2")
    job = build(*ROLES, *overrides, f"outer.start={learned}")
    torch.testing.assert_close(parameters(job), load_policy_file(learned)[0], rtol=0, atol=0)


def test_a_factor_for_each_step_belongs_to_its_horizon(build, tmp_path):
    of_steps = (*ROLES, "policy.schedule_knots=null")
    path = saved(moved(build(*of_steps)), tmp_path / "policy.safetensors")
    assert build(*of_steps, f"outer.start={path}").begins
    with pytest.raises(ConfigError, match=r"each of 3 steps, but inner.horizon is 4; give inner.horizon=3"):
        build(*of_steps, "inner.horizon=4", f"outer.start={path}")


def test_knots_fit_every_horizon(build, learned):
    assert build(*ROLES, "inner.horizon=4", f"outer.start={learned}").state.policy.horizon == 4


def test_an_initialisation_fits_its_own_network_only(build, tmp_path):
    path = saved(moved(build("policy=meta_sgd")), tmp_path / "policy.safetensors")
    job = build("policy=meta_sgd", f"outer.start={path}")
    torch.testing.assert_close(parameters(job), load_policy_file(path)[0], rtol=0, atol=0)
    with pytest.raises(PolicyFileError, match="learned where training starts, which fits its own model only"):
        build("policy=meta_sgd", "model.widths=[5]", f"outer.start={path}")


def test_a_missing_file_is_named_with_what_there_could_be(build, tmp_path):
    with pytest.raises(PolicyFileError, match=rf"outer.start={tmp_path}/x: .*one of .*tabular_classification"):
        build(*ROLES, f"outer.start={tmp_path}/x")


def test_a_role_that_the_file_does_not_know_is_never_guessed(build, tmp_path):
    shallow = build("policy=role", "model.widths=[]")
    path = saved(moved(shallow), tmp_path / "policy.safetensors")
    with pytest.raises(PolicyFileError, match=r"has nothing for .*\(role first.weight\)"):
        build("policy=role", f"outer.start={path}")
    model, settings = shallow.problem.model, shallow.card.policy
    mixed = Policy(settings, model.shapes, model.init, 3, roles=model.roles, known_roles=["first.weight"])
    start = read_start(str(path), settings, 3)
    with pytest.raises(PolicyFileError, match=r"nothing for log_strengths.lr.*first.*another part of the mixture"):
        begin_with(start, mixed, model)


def test_the_card_says_on_what_it_was_learned_before(build, learned, tmp_path):
    job = build(*ROLES, "tasks.split_seed=3", f"outer.start={learned}")
    before = load_policy_file(learned)[1]
    assert job.card.config[LINEAGE] == [{"tasks": "digits", "split_hash": before.split_hash}]
    assert LINEAGE not in before.config
    second = saved(moved(job), tmp_path / "second.safetensors")
    third = build(*ROLES, "tasks.split_seed=4", f"outer.start={second}")
    assert [known["split_hash"] for known in third.card.config[LINEAGE]] == [before.split_hash, job.card.split_hash]


def test_splits_that_differ_are_told(build, learned):
    same, other = (build(*ROLES, f"tasks.split_seed={seed}", f"outer.start={learned}") for seed in (0, 3))
    (note,) = lineage_notes(same.card, same.problem.family)
    assert "splits" not in note
    (note,) = lineage_notes(other.card, other.problem.family)
    assert "held-out tasks may have been trained on" in note


@pytest.mark.parametrize(("tasks", "warned"), [("digits + sinusoid", True), ("omniglot", False)])
def test_a_part_of_a_mixture_may_have_seen_what_is_held_out(tasks, warned, build, learned):
    job = build(*ROLES, f"outer.start={learned}")
    job.card.config[LINEAGE] = [{"tasks": tasks, "split_hash": "0123456789abcdef"}]
    (note,) = lineage_notes(job.card, job.problem.family)
    assert ("held-out tasks may have been trained on" in note) == warned


@pytest.mark.parametrize("found", ["x", [1], [{}], [{"tasks": 1, "split_hash": "x"}], {"tasks": "digits"}])
def test_what_a_foreign_card_says_of_it_does_no_harm(found, build, learned):
    card = load_policy_file(learned)[1]
    card.config[LINEAGE] = found
    assert lineage_notes(card, build(*ROLES).problem.family) == ()
