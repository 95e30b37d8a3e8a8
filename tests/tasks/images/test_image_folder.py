import numpy as np
import pytest
import torch
from image_files import legible, write_folder
from PIL import Image

from metaopt.errors import DataError, TaskError
from metaopt.tasks.images import image_folder
from metaopt.tasks.images.image_data import Look
from metaopt.tasks.images.image_folder import find_images

CLASSES = {"cat": 3, "dog": 4, "ant": 2}
DIVIDED = {"train/cat": 3, "train/ant": 2, "val/dog": 2, "test/emu": 4}


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    return tmp_path / "user-cache"


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "animals", CLASSES)


@pytest.fixture
def decodings(monkeypatch):
    """Grows by one entry whenever the images are decoded."""
    calls, decode = [], image_folder._decode

    def counted(*arguments):
        calls.append(arguments)
        return decode(*arguments)

    monkeypatch.setattr(image_folder, "_decode", counted)
    return calls


def read(root, cache=True, **look):
    return find_images(root, Look(**look), cache).read().images


def test_classes_and_images_come_in_alphabetical_order_with_their_colours(root):
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "cat" / ".hidden.png").write_bytes(b"")
    (root / ".git").mkdir()
    (root / "readme.md").write_text("no class")
    images = find_images(root, Look(), cache=False)
    assert images.classes == images.spelled == ("ant", "cat", "dog")
    assert images.counts.tolist() == [2, 3, 4]
    assert images.splits is None
    labels = {"ant": 2, "cat": 0, "dog": 1}
    expected = [legible([labels[name]] * CLASSES[name], side=20, channels=3) for name in images.classes]
    assert torch.equal(images.read().images, torch.from_numpy(np.concatenate(expected)))


def test_three_parts_are_the_splits(tmp_path):
    images = find_images(write_folder(tmp_path / "parts", DIVIDED), Look(), cache=False)
    assert images.splits == {"meta_train": ["ant", "cat"], "meta_validation": ["dog"], "meta_test": ["emu"]}
    assert images.classes == ("ant", "cat", "dog", "emu")
    assert images.counts.tolist() == [2, 3, 2, 4]
    assert images.read().images[:, 0, 0, 0].tolist() == [1] * 2 + [0] * 3 + [2] * 2 + [3] * 4


def test_a_class_in_two_parts_is_a_leak(tmp_path):
    root = write_folder(tmp_path / "parts", DIVIDED | {"test/cat": 1})
    with pytest.raises(TaskError, match="cat lies in both meta_train and meta_test"):
        find_images(root, Look(), cache=False)


def test_a_part_that_is_missing_is_named(tmp_path):
    root = write_folder(tmp_path / "parts", {"train/cat": 1, "test/dog": 1})
    with pytest.raises(DataError, match=r"divided into train and test, but has no val"):
        find_images(root, Look(), cache=False)


def test_classes_may_be_called_like_parts(tmp_path):
    root = write_folder(tmp_path / "vehicles", {"train": 2, "bus": 2})
    assert find_images(root, Look(), cache=False).classes == ("bus", "train")


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "bmp", "webp", "ppm", "tif"])
def test_other_formats_are_read(tmp_path, ending):
    images = read(write_folder(tmp_path / "animals", CLASSES, ending=ending))
    assert images.shape == (9, 3, 20, 20)
    exact = legible([0], side=20, channels=3)[0]
    assert (images[2].int() - torch.from_numpy(exact).int()).abs().float().mean() < 12, "colours in another order"


def test_grey_images_become_three_equal_channels_unless_greyscale_is_asked_for(tmp_path):
    (tmp_path / "a").mkdir()
    pixels = legible([7], side=12)[0, 0]
    Image.fromarray(pixels).save(tmp_path / "a" / "0.png")
    assert torch.equal(read(tmp_path, cache=False), torch.from_numpy(pixels).expand(1, 3, 12, 12))
    assert torch.equal(read(tmp_path, cache=False, greyscale=True), torch.from_numpy(pixels).expand(1, 1, 12, 12))


def test_different_sizes_need_a_size(root):
    Image.new("RGB", (30, 10)).save(root / "dog" / "002.png")
    with pytest.raises(DataError, match=r"cat.*|ant.* has 20×20 and .*dog.002.png has 10×30; set tasks\.size"):
        read(root)
    assert read(root, size=8).shape == (9, 3, 8, 8)


def test_the_second_start_reads_the_cache(root, decodings, user_cache):
    first, second = read(root, size=8), read(root, size=8)
    assert len(decodings) == 1
    assert torch.equal(first, second)
    assert [path.name for path in root.glob("*.npz")] == ["metaopt-8-rgb.npz"]
    assert not user_cache.exists()
    assert find_images(root, Look(), cache=True).classes == ("ant", "cat", "dog")


def test_each_look_has_its_own_images(root, decodings):
    looks = [{}, {"size": 8}, {"greyscale": True}, {"size": 8, "greyscale": True}, {"max_per_class": 2}]
    shapes = [(9, 3, 20, 20), (9, 3, 8, 8), (9, 1, 20, 20), (9, 1, 8, 8), (6, 3, 20, 20)]
    assert [read(root, **look).shape for look in looks] == shapes
    assert len(decodings) == 5
    assert [read(root, **look).shape for look in looks[1:4]] == shapes[1:4]
    assert len(decodings) == 5


@pytest.mark.parametrize("change", ["content", "more", "fewer", "class", "damage"])
def test_a_stale_or_broken_cache_is_rebuilt(root, decodings, change):
    read(root)
    if change == "content":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)).save(root / "cat" / "000.png")
    elif change == "more":
        Image.new("RGB", (20, 20)).save(root / "cat" / "x.png")
    elif change == "fewer":
        (root / "cat" / "000.png").unlink()
    elif change == "class":
        (root / "cat").rename(root / "zebra")
    else:
        place = root / "metaopt-original-rgb.npz"
        place.write_bytes(place.read_bytes()[:-100])
    images = read(root)
    assert len(decodings) == 2
    assert torch.equal(images, read(root, cache=False))


def test_where_the_folder_cannot_be_written_the_user_cache_serves(root, decodings, user_cache, tmp_path, monkeypatch):
    beside, user = image_folder.cache_places(root, "images", "original-rgb")
    assert (beside.parent, user.parent) == (root, user_cache / "metaopt")
    # A folder of that name: no file can take its place. It cannot lie in the root, where it would be a class.
    (tmp_path / "blocked").mkdir()
    monkeypatch.setattr(image_folder, "cache_places", lambda *_: (tmp_path / "blocked", user))
    assert torch.equal(read(root), read(root))
    assert len(decodings) == 1
    assert user.is_file()


def test_without_a_cache_nothing_is_written(root):
    read(root, cache=False)
    assert not list(root.glob("*.npz"))


def test_a_missing_folder_and_an_empty_one_say_what_should_be_there(tmp_path, root):
    with pytest.raises(DataError, match=r"tasks\.root=.*nowhere should be a folder with a sub-folder for each class"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has none; sort the images"):
        read(tmp_path / "empty")
    (root / "gnu").mkdir()
    with pytest.raises(DataError, match=r"gnu holds no image \(\.png"):
        read(root)


def test_an_unreadable_image_is_named(root):
    path = root / "dog" / "001.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"001\.png cannot be decoded"):
        read(root)
    assert not list(root.glob("*.npz"))


def test_sixteen_bits_are_refused_because_they_would_be_cut_off(root):
    Image.fromarray(np.full((20, 20), 1000, np.uint16)).save(root / "ant" / "000.png")
    with pytest.raises(DataError, match=r"8 bits per channel, but .*000\.png has more"):
        read(root)
