import os
import shutil
import tarfile
from pathlib import Path

import pytest
import torch

from metaopt.errors import TaskError
from metaopt.tasks.images.omniglot import Omniglot
from metaopt.tasks.images.omniglot_data import decode, find_drawings
from metaopt.types import SPLITS

SMALL = {"n_way": 2, "support": 1, "query": 2, "test": 3}


def characters_of(names):
    return {name.rsplit("/", 1)[0] for name in names}


def test_tasks_show_the_drawings_of_their_split(omniglot_root, split_folder):
    family = Omniglot(omniglot_root, **SMALL, split_files=split_folder)
    listing = find_drawings(omniglot_root, download=False)
    class_of = {}
    for name, drawings in zip(listing.characters, torch.from_numpy(decode(listing)), strict=True):
        for turn in range(4):
            for drawing in torch.rot90(drawings, turn, (1, 2)):
                class_of[drawing.numpy().tobytes()] = f"{name}/rot{90 * turn:03d}"
    for split in SPLITS:
        tasks = family.sample(split, 40, torch.Generator().manual_seed(0))
        assert [tuple(batch.x.shape) for batch in tasks] == [(40, 2 * k, 1, 28, 28) for k in (1, 2, 3)]
        seen = {
            class_of[(image * 255).round().byte().numpy().tobytes()]
            for batch in tasks
            for image in batch.x.flatten(0, 1)
        }
        assert seen == set(family.splits[split])
    assert (family.spec.input_shape, family.spec.output_size) == ((1, 28, 28), 2)


def test_resized_drawings_show_the_same(omniglot_root, split_folder):
    whole, small = (Omniglot(omniglot_root, **SMALL, size=size, split_files=split_folder) for size in (None, 14))
    assert small.spec.input_shape == (1, 14, 14)
    assert small.split_hash == whole.split_hash
    large, little = (f.sample("meta_train", 5, torch.Generator().manual_seed(0)).test for f in (whole, small))
    assert little.x.shape == (5, 6, 1, 14, 14)
    assert torch.equal(little.y, large.y)
    halved = torch.nn.functional.interpolate(large.x.flatten(0, 1), (14, 14), mode="bilinear", antialias=True)
    torch.testing.assert_close(little.x.flatten(0, 1), halved, rtol=0, atol=1.01 / 255)
    with pytest.raises(TaskError, match=r"tasks\.size must be 1 or more"):
        Omniglot(omniglot_root, **SMALL, size=0, split_files=split_folder)


def test_rotations_are_further_classes_on_the_side_of_their_character(omniglot_root, split_folder):
    turned = Omniglot(omniglot_root, **SMALL, split_files=split_folder)
    upright = Omniglot(omniglot_root, **SMALL, split_files=split_folder, rotations=False)
    for split in SPLITS:
        assert len(turned.splits[split]) == 4 * len(upright.splits[split])
        assert characters_of(turned.splits[split]) == characters_of(upright.splits[split])
    assert turned.split_hash != upright.split_hash


def test_rotations_of_a_character_meet_in_a_task_only_if_they_are_asked_to(omniglot_root, split_folder):
    sizes = SMALL | {"n_way": 3}
    with pytest.raises(TaskError, match=r"tasks\.n_way=3 .*meta_validation has 2.*or set tasks\.rotations_meet=true"):
        Omniglot(omniglot_root, **sizes, split_files=split_folder)
    family = Omniglot(omniglot_root, **sizes, split_files=split_folder, rotations_meet=True)
    assert family.sample("meta_validation", 1, torch.Generator()).support.x.shape[1] == 3


def test_the_hash_changes_with_the_split_files(omniglot_root, split_folder):
    reference = Omniglot(omniglot_root, **SMALL, split_files=split_folder).split_hash
    assert Omniglot(omniglot_root, **SMALL | {"query": 1}, split_files=split_folder).split_hash == reference
    train, val = split_folder / "train.txt", split_folder / "val.txt"
    lines = train.read_text().split()
    train.write_text("\n".join(lines[1:]))
    val.write_text(val.read_text() + lines[0])
    assert Omniglot(omniglot_root, **SMALL, split_files=split_folder).split_hash != reference


def test_a_character_in_two_splits_is_a_leak_in_whatever_rotation(omniglot_root, make_splits):
    folder = make_splits("Greek/character01/rot000 Greek/character02", "Latin/character01", "Greek/character01/rot180")
    with pytest.raises(TaskError, match="Greek/character01 lies in both meta_train and meta_test"):
        Omniglot(omniglot_root, **SMALL, split_files=folder)


def test_tasks_that_are_too_large_are_refused(omniglot_root, split_folder):
    with pytest.raises(TaskError, match=r"tasks\.n_way=3 .*meta_validation has 2.*tasks\.rotations=true"):
        Omniglot(omniglot_root, **SMALL | {"n_way": 3}, split_files=split_folder, rotations=False)
    with pytest.raises(TaskError, match=r"tasks\.support=2.* need 7 .* has 6"):
        Omniglot(omniglot_root, **SMALL | {"support": 2}, split_files=split_folder)
    with pytest.raises(TaskError, match=r"tasks\.query .* but is 0"):
        Omniglot("nowhere", query=0)


@pytest.fixture(scope="module")
def real_root(tmp_path_factory):
    """A copy of the real data set, from METAOPT_DATA or a folder beside the repository: extracted or as an archive."""
    repository = Path(__file__).resolve().parents[3]
    data = Path(os.environ.get("METAOPT_DATA", repository / ".." / "shared" / "data"))
    root = tmp_path_factory.mktemp("real")
    archive = data / "omniglot" / "omniglot-py.tar.xz"
    if (data / "omniglot-py").is_dir():
        shutil.copytree(data / "omniglot-py", root / "omniglot-py", ignore=shutil.ignore_patterns("*.npz", "*.zip"))
    elif archive.is_file():
        with tarfile.open(archive) as content:
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # which Python 3.11 has from 3.11.4
            content.extractall(root, **safely)
    else:
        pytest.skip(f"the real Omniglot is not in {data}; METAOPT_DATA may say where it is")
    return root


def test_the_real_data_set_is_complete_and_its_cache_is_exact(real_root):
    fresh = Omniglot(real_root)
    assert [len(fresh.splits[split]) for split in SPLITS] == [4400, 400, 1692]
    again = Omniglot(real_root)
    assert again.split_hash == fresh.split_hash
    first, second = (f.sample("meta_test", 4, torch.Generator().manual_seed(0)) for f in (fresh, again))
    assert torch.equal(first.test.x, second.test.x)
    assert first.support.x.shape == (4, 5, 1, 28, 28)
    assert first.query.x.shape == (4, 50, 1, 28, 28)
    assert 0.03 < first.query.x.mean().item() < 0.2, "strokes cover a small part of the paper"
