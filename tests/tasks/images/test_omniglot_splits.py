import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaopt.errors import DataError
from metaopt.tasks.images.omniglot_splits import default_splits, read_splits
from metaopt.tasks.images.ways import ImageClass
from metaopt.types import SPLITS

ALL = [f"Alphabet{i // 40:02d}/character{i % 40 + 1:02d}" for i in range(1623)]
FEW = ["Greek/character01", "Greek/character02", "Old_Church_(Slavonic)/character01"]


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.booleans())
def test_the_default_split_takes_every_character_once_in_all_its_rotations(seed, rotations):
    splits = default_splits(ALL, rotations, seed)
    subjects = {split: {member.subject for member in splits[split]} for split in SPLITS}
    assert [len(subjects[split]) for split in SPLITS] == [1100, 100, 423]
    assert set().union(*subjects.values()) == set(range(1623))
    for split in SPLITS:
        turns = range(4 if rotations else 1)
        assert sorted(splits[split]) == [ImageClass(s, t) for s in sorted(subjects[split]) for t in turns]


def test_the_default_split_belongs_to_names_and_seed():
    def names(characters, seed):
        splits = default_splits(characters, False, seed)
        return {split: {characters[member.subject] for member in members} for split, members in splits.items()}

    assert names(ALL, 0) == names(ALL[::-1], 0)
    assert names(ALL, 0) != names(ALL, 1)


def test_an_incomplete_data_set_gets_no_default_split():
    with pytest.raises(DataError, match=r"expected 1623 characters.*hold 1622.*tasks\.split_files"):
        default_splits(ALL[:-1], True, 0)


def test_a_line_with_a_rotation_is_that_class_and_a_line_without_is_all(make_splits):
    folder = make_splits("Greek/character01", "Greek/character02/rot090", "Old_Church_(Slavonic)/character01/rot270")
    splits = read_splits(folder, FEW, rotations=True)
    assert splits["meta_train"] == [ImageClass(0, turn) for turn in range(4)]
    assert splits["meta_validation"] == [ImageClass(1, 1)]
    assert splits["meta_test"] == [ImageClass(2, 3)]


def test_without_rotations_only_upright_lines_count(make_splits):
    train = "Greek/character01/rot000 Greek/character01/rot090"
    folder = make_splits(train, "Greek/character02", "Old_Church_(Slavonic)/character01/rot000")
    splits = read_splits(folder, FEW, rotations=False)
    assert list(splits.values()) == [[ImageClass(0, 0)], [ImageClass(1, 0)], [ImageClass(2, 0)]]


def test_blank_lines_repetitions_and_windows_line_ends_do_no_harm(make_splits):
    folder = make_splits("Greek/character01/rot000", "Greek/character02", "Greek/character01")
    (folder / "train.txt").write_bytes(b"\r\nGreek/character01/rot000\r\nGreek/character01/rot000  \r\n\r\n")
    assert read_splits(folder, FEW, rotations=True)["meta_train"] == [ImageClass(0, 0)]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("Greek/character07", r"val\.txt:1 names the character 'Greek/character07'.* 3 in the data"),
        ("Greek/character01/rot045", r"val\.txt:1 must be .*but is 'Greek/character01/rot045'"),
        ("character01", r"val\.txt:1 must be Alphabet/characterNN"),
        ("", r"val\.txt must list at least one class"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(make_splits, line, complaint):
    with pytest.raises(DataError, match=complaint) as caught:
        read_splits(make_splits("Greek/character01", line, "Greek/character02"), FEW, rotations=True)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(make_splits):
    folder = make_splits("Greek/character01", "Greek/character02", "Greek/character02")
    (folder / "val.txt").unlink()
    with pytest.raises(DataError, match=r"train\.txt, val\.txt, test\.txt, but .*val\.txt cannot be read"):
        read_splits(folder, FEW, rotations=True)
