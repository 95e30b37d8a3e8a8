import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaopt.errors import DataError, TaskError
from metaopt.tasks.images.cifar_fs import CIFAR_FS
from metaopt.tasks.images.image_splits import SplitChoice, split_classes
from metaopt.types import SPLITS

NAMES = [f"class {i}" for i in range(10)]


def sizes(classes, choice=SplitChoice()):  # noqa: B008 - frozen
    found = split_classes("test", [f"class {i}" for i in range(classes)], choice, None)
    return [len(found[split]) for split in SPLITS]


@given(st.integers(3, 120), st.integers(0, 10**6))
def test_every_class_lies_in_one_split_and_no_split_is_empty(classes, seed):
    found = split_classes("test", [f"class {i}" for i in range(classes)], SplitChoice(seed), None)
    assert sorted(i for members in found.values() for i in members) == list(range(classes))
    assert all(found.values())
    assert len(found["meta_train"]) >= len(found["meta_validation"]) == len(found["meta_test"])


@pytest.mark.parametrize(
    ("classes", "expected"),
    [(3, [1, 1, 1]), (5, [3, 1, 1]), (9, [3, 3, 3]), (10, [4, 3, 3]), (26, [16, 5, 5]), (47, [29, 9, 9])],
)
def test_three_ways_fit_from_nine_classes_on_and_then_it_is_a_fifth(classes, expected):
    assert sizes(classes) == expected


def test_the_numbers_of_classes_can_be_set():
    assert sizes(10, SplitChoice(validation=2, test=1)) == [7, 2, 1]
    assert sizes(10, SplitChoice(validation=2)) == [5, 2, 3]


@pytest.mark.parametrize(("validation", "test"), [(0, 3), (3, 0), (-1, 3), (5, 5), (11, 1)])
def test_numbers_that_leave_a_split_empty_are_refused(validation, test):
    with pytest.raises(TaskError, match=rf"tasks\.validation_classes={validation} and tasks\.test_classes={test} "):
        sizes(10, SplitChoice(validation=validation, test=test))


def test_the_seed_decides_by_name_and_not_by_position():
    def names(order, seed):
        found = split_classes("test", order, SplitChoice(seed), None)
        return {split: {order[i] for i in members} for split, members in found.items()}

    assert names(NAMES, 0) == names(NAMES[::-1], 0)
    drawn = [names(NAMES, seed) for seed in range(40)]
    for split in SPLITS:
        assert set().union(*(splits[split] for splits in drawn)) == set(NAMES)


def test_files_list_the_classes(make_image_splits):
    folder = make_image_splits(train="class 3\nclass 1\nclass 3", val="class 0", test=" class 9 \n\n")
    found = split_classes("test", NAMES, SplitChoice(files=folder), {"meta_train": NAMES})
    assert found == {"meta_train": [1, 3], "meta_validation": [0], "meta_test": [9]}


def test_files_that_are_wrong_are_named_with_their_line(make_image_splits, tmp_path):
    folder = make_image_splits(train="class 3\n\nclas 1", val="class 0", test="class 9")
    with pytest.raises(DataError, match=r"train\.txt:3 names the class 'clas 1', which is not among the 10"):
        split_classes("test", NAMES, SplitChoice(files=folder), None)
    folder = make_image_splits(train="class 3", val="\n", test="class 9")
    with pytest.raises(DataError, match=r"val\.txt lists no class"):
        split_classes("test", NAMES, SplitChoice(files=folder), None)
    with pytest.raises(DataError, match=r"tasks\.split_files must be a folder .*train\.txt cannot be read"):
        split_classes("test", NAMES, SplitChoice(files=tmp_path / "none"), None)


@pytest.mark.parametrize(
    ("setting", "choice"),
    [
        (r"tasks\.split_seed=1", SplitChoice(seed=1)),
        (r"tasks\.validation_classes=3", SplitChoice(validation=3)),
        (r"tasks\.test_classes=3", SplitChoice(test=3)),
    ],
)
def test_a_setting_that_would_decide_nothing_is_refused(setting, choice, make_image_splits):
    given_split = {"meta_train": NAMES[:4], "meta_validation": NAMES[4:7], "meta_test": NAMES[7:]}
    with pytest.raises(TaskError, match=f"{setting} decides nothing, because the data come with their split"):
        split_classes("test", NAMES, choice, given_split)
    folder = make_image_splits("class 1", "class 2", "class 3")
    with pytest.raises(TaskError, match=f"{setting} decides nothing, because tasks.split_files lists"):
        split_classes("test", NAMES, SplitChoice(choice.seed, choice.validation, choice.test, folder), None)


def test_a_published_split_of_other_classes_is_a_data_error():
    with pytest.raises(DataError, match="its split names the class 'cat', which the data do not have"):
        split_classes("test", NAMES, SplitChoice(), {"meta_train": ["cat"]})


def test_cifar_fs_has_64_16_and_20_of_the_hundred_classes():
    # The classes of https://www.cs.toronto.edu/~kriz/cifar.html, superclass by superclass, as its files spell them.
    superclasses = """
        beaver dolphin otter seal whale | aquarium_fish flatfish ray shark trout | orchid poppy rose sunflower tulip
        bottle bowl can cup plate | apple mushroom orange pear sweet_pepper | clock keyboard lamp telephone television
        bed chair couch table wardrobe | bee beetle butterfly caterpillar cockroach | bear leopard lion tiger wolf
        bridge castle house road skyscraper | cloud forest mountain plain sea
        camel cattle chimpanzee elephant kangaroo | fox porcupine possum raccoon skunk
        crab lobster snail spider worm | baby boy girl man woman
        crocodile dinosaur lizard snake turtle | hamster mouse rabbit shrew squirrel
        maple_tree oak_tree palm_tree pine_tree willow_tree | bicycle bus motorcycle pickup_truck train
        lawn_mower rocket streetcar tank tractor
    """
    hundred = superclasses.replace("|", " ").split()
    assert len(hundred) == len(set(hundred)) == 100
    assert [len(CIFAR_FS[split]) for split in SPLITS] == [64, 16, 20]
    listed = [name for split in SPLITS for name in CIFAR_FS[split]]
    assert sorted(listed) == sorted(hundred)
