import pytest
import torch

from metaopt.errors import DataError, TaskError
from metaopt.tasks.family import TaskFamily, check_disjoint, check_words, hash_splits, shuffled
from metaopt.tasks.images.digits import Digits
from metaopt.tasks.sinusoid import Sinusoid
from metaopt.types import SPLITS, Batch, TaskBatch

SPLIT = {"meta_train": ["a", "b"], "meta_validation": ["c"], "meta_test": ["d"]}


def test_the_hash_sees_content_and_not_order():
    reference = hash_splits("letters", SPLIT)
    assert len(reference) == 16
    assert int(reference, 16) >= 0
    assert hash_splits("letters", {**SPLIT, "meta_train": ["b", "a"]}) == reference
    assert hash_splits("letters", dict(reversed(SPLIT.items()))) == reference


@pytest.mark.parametrize(
    ("family", "splits"),
    [
        ("digits", SPLIT),
        ("letters", {"meta_train": ["a"], "meta_validation": ["c", "b"], "meta_test": ["d"]}),
        ("letters", {**SPLIT, "meta_validation": ["d"], "meta_test": ["c"]}),
        ("letters", {**SPLIT, "meta_train": ["ab"]}),
        ("letters", {**SPLIT, "meta_train": ["a,b"]}),
    ],
)
def test_the_hash_changes_with_the_family_and_with_any_move(family, splits):
    assert hash_splits(family, splits) != hash_splits("letters", SPLIT)


def test_a_leak_is_named_with_both_of_its_splits():
    check_disjoint("letters", SPLIT)
    with pytest.raises(TaskError, match=r"letters.* c lies in both meta_validation and meta_test"):
        check_disjoint("letters", {**SPLIT, "meta_test": ["d", "c"]})


def test_a_shuffle_is_a_permutation_that_the_seed_decides():
    members = [f"m{i}" for i in range(50)]
    order = shuffled(members, 1)
    assert sorted(order) == sorted(members)
    assert order == shuffled(reversed(members), 1)
    assert len({tuple(shuffled(members, seed, salt)) for seed in (1, 2) for salt in ("", "x")}) == 4


def test_a_shuffle_is_frozen_for_ever():
    # A published split must not move with a library or a platform: these are constants, not samples.
    assert "".join(shuffled("abcdefgh", 0)) == "aefghdcb"


@pytest.mark.parametrize("family", [Digits(noise=0.1), Sinusoid()], ids=lambda family: family.name)
@pytest.mark.parametrize("split", SPLITS)
def test_sampling_depends_on_the_generator_alone(family: TaskFamily, split):
    def draw(seed: int, world: int) -> tuple[TaskBatch, torch.Tensor]:
        torch.manual_seed(world)
        before = torch.get_rng_state()
        generator = torch.Generator().manual_seed(seed)
        tasks = family.sample(split, 3, generator)
        assert torch.equal(torch.get_rng_state(), before), "the global generator was advanced"
        return tasks, generator.get_state()

    first, state = draw(seed=1, world=1)
    again, state_again = draw(seed=1, world=2)
    other, _ = draw(seed=2, world=1)
    assert torch.equal(state, state_again)
    for one, same, different in zip(first, again, other, strict=True):
        assert torch.equal(one.x, same.x)
        assert torch.equal(one.y, same.y)
        assert not torch.equal(one.x, different.x)


@pytest.mark.parametrize("family", [Digits(), Sinusoid()], ids=lambda family: family.name)
def test_the_generator_advances_from_call_to_call(family: TaskFamily):
    generator = torch.Generator().manual_seed(0)
    first, second = (family.sample("meta_train", 2, generator) for _ in range(2))
    assert not torch.equal(first.support.x, second.support.x)


def words(*ids):
    x = torch.tensor([[list(ids)]], dtype=torch.float32)
    good = Batch(torch.zeros(1, 1, 2), torch.zeros(1, 1, dtype=torch.int64))
    return TaskBatch(good, good, Batch(x, good.y))


def test_ids_of_words_and_places_without_one_are_let_through():
    check_words("sentences", words(0.0, 4.0, torch.nan), 5)


@pytest.mark.parametrize("wrong", [5.0, -1.0, 0.5, torch.inf])
def test_what_is_no_id_of_a_word_is_named(wrong):
    with pytest.raises(DataError, match=rf"sentences: .*from 0 to 4, but one is {wrong:g};"):
        check_words("sentences", words(0.0, wrong), 5)
