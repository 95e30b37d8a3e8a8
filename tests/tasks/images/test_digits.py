import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from metaopt.errors import TaskError
from metaopt.tasks.images.digits import Digits, split_digits
from metaopt.types import SPLITS, Kind


def digits_of(names: list[str]) -> set[str]:
    return {name.split("/")[0] for name in names}


@settings(max_examples=50)
@given(st.integers(-(2**40), 2**40))
def test_six_and_nine_are_never_separated(seed):
    splits = split_digits(seed)
    assert [len(splits[split]) for split in SPLITS] == [5, 2, 3]
    assert sorted(digit for members in splits.values() for digit in members) == list("0123456789")
    assert len([members for members in splits.values() if {"6", "9"} & set(members)]) == 1


def test_the_seed_moves_every_digit_through_every_split():
    drawn = [split_digits(seed) for seed in range(150)]
    assert split_digits(3) == drawn[3]
    for split in SPLITS:
        # 6 and 9 have only four classes together, too few for meta-validation, where they would be alone.
        expected = set("01234578" if split == "meta_validation" else "0123456789")
        assert {digit for splits in drawn for digit in splits[split]} == expected


@pytest.mark.parametrize("split_seed", range(3))
def test_all_rotations_of_a_digit_lie_in_one_split(split_seed):
    family = Digits(split_seed=split_seed)
    assert sum(len(names) for names in family.splits.values()) == 30
    for split in SPLITS:
        assert len(family.splits[split]) >= 6
    groups = [digits_of(family.splits[split]) for split in SPLITS]
    assert sum(len(group) for group in groups) == len(set().union(*groups)) == 10


def test_the_hash_follows_the_split_and_nothing_else():
    reference = Digits().split_hash
    assert Digits(n_way=3, support=1, query=1, test=1, noise=0.5).split_hash == reference
    assert Digits(split_seed=1).split_hash != reference
    assert Digits(n_way=2, rotations=False).split_hash != reference


@pytest.mark.parametrize("rotations", [True, False])
def test_images_are_the_data_sets_own_digits_of_their_split(rotations):
    family = Digits(n_way=2, support=1, query=2, test=3, rotations=rotations)
    pixels, targets = load_digits(return_X_y=True)
    digit_of = {}
    for image, target in zip(torch.tensor(pixels).view(-1, 8, 8), targets, strict=True):
        for turn in range(4 if rotations else 1):
            digit_of[tuple((torch.rot90(image, turn) / 16).flatten().tolist())] = str(target)
    for split in SPLITS:
        tasks = family.sample(split, 10, torch.Generator().manual_seed(0))
        assert tasks.test.x.shape == (10, 6, *family.spec.input_shape)
        for image in tasks.test.x.flatten(0, 1):
            assert digit_of[tuple(image.double().flatten().tolist())] in digits_of(family.splits[split])


def test_the_spec_describes_the_tasks():
    spec = Digits(n_way=4).spec
    assert (spec.kind, spec.input_shape, spec.output_size) == (Kind.classification, (1, 8, 8), 4)


def test_noise_has_its_standard_deviation_and_changes_no_choice():
    clean = Digits().sample("meta_train", 8, torch.Generator().manual_seed(3))
    noisy = Digits(noise=0.2).sample("meta_train", 8, torch.Generator().manual_seed(3))
    for plain, blurred in zip(clean, noisy, strict=True):
        assert torch.equal(plain.y, blurred.y)
        assert (blurred.x - plain.x).std().item() == pytest.approx(0.2, rel=0.05)
        assert (blurred.x - plain.x).mean().item() == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf")])
def test_impossible_noise_is_refused(noise):
    with pytest.raises(TaskError, match=r"tasks\.noise"):
        Digits(noise=noise)


def test_five_ways_without_rotations_do_not_fit_and_the_error_knows_a_way_out():
    with pytest.raises(TaskError, match=r"tasks\.n_way=5 .*meta_validation has 2.*tasks\.rotations=true"):
        Digits(rotations=False)


def test_more_images_than_the_rarest_digit_has_are_refused():
    Digits(support=34, query=60, test=80)
    with pytest.raises(TaskError, match=r"tasks\.test=81 need 175 .* has 174"):
        Digits(support=34, query=60, test=81)


def test_images_are_stretched_on_request():
    small, large = (
        Digits(n_way=3, size=size).sample("meta_train", 2, torch.Generator().manual_seed(4)) for size in (None, 24)
    )
    assert large.support.x.shape == (*small.support.x.shape[:-2], 24, 24)
    shrunk = torch.nn.functional.avg_pool2d(large.support.x.flatten(0, 1), 3)
    blurred = torch.nn.functional.avg_pool2d(small.support.x.flatten(0, 1), 3, 1, 1)
    assert torch.corrcoef(torch.stack([shrunk.flatten(), blurred.flatten()]))[0, 1] > 0.85
    assert large.support.x.min() == 0
    assert 0.9 < large.support.x.max() <= 1


def test_a_size_of_nothing_is_an_error():
    with pytest.raises(TaskError, match=r"tasks\.size must be 1 or more, or null, but is 0"):
        Digits(size=0)
