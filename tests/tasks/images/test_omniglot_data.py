import shutil

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from metaopt.errors import DataError
from metaopt.tasks.images import omniglot_cache
from metaopt.tasks.images.omniglot_cache import cache_places, load_images
from metaopt.tasks.images.omniglot_data import decode, find_drawings


@pytest.fixture
def decodings(monkeypatch):
    """Grows by one entry whenever the drawings are decoded."""
    calls = []

    def counted(listing):
        calls.append(listing)
        return decode(listing)

    monkeypatch.setattr(omniglot_cache, "decode", counted)
    return calls


def load(root, cache=True):
    return load_images(root, find_drawings(root, download=False), cache)


def first_drawing(root):
    return sorted((root / "omniglot-py" / "images_background" / "Greek" / "character01").iterdir())[0]


def test_characters_are_listed_in_a_fixed_order_without_any_zip(omniglot_root):
    (omniglot_root / "omniglot-py" / "images_background" / ".hidden").mkdir()
    listing = find_drawings(omniglot_root, download=False)
    alphabets = ("Greek", "Latin", "Tengwar")
    assert listing.characters == tuple(f"{a}/character{c:02d}" for a in alphabets for c in (1, 2, 3))
    assert all(files == tuple(sorted(files)) and len(files) == 6 for files in listing.files)
    assert listing == find_drawings(omniglot_root, download=True), "nothing is fetched where nothing is missing"


def test_strokes_are_bright_and_stay_in_place(omniglot_root):
    images = decode(find_drawings(omniglot_root, download=False))
    assert (images.shape, images.dtype) == ((9, 6, 28, 28), np.uint8)
    with Image.open(first_drawing(omniglot_root)) as original:
        ink = np.asarray(original.convert("L")) == 0
    small = images[0, 0] / 255
    assert small.max() > 0.95
    assert np.median(small) == 0
    assert small.sum() * (105 / 28) ** 2 == pytest.approx(ink.sum(), rel=0.05)
    for axis in (0, 1):
        centre = (np.arange(105) + 0.5) @ ink.sum(1 - axis) / ink.sum() / 105
        assert (np.arange(28) + 0.5) @ small.sum(1 - axis) / small.sum() / 28 == pytest.approx(centre, abs=0.01)


def test_the_second_start_reads_the_cache(omniglot_root, decodings):
    first, second = load(omniglot_root), load(omniglot_root)
    assert len(decodings) == 1
    assert np.array_equal(first, second)
    assert cache_places(omniglot_root)[0].is_file()
    assert not cache_places(omniglot_root)[1].exists()


def test_without_a_cache_nothing_is_read_or_written(omniglot_root, decodings):
    load(omniglot_root, cache=False)
    assert not any(place.exists() for place in cache_places(omniglot_root))
    load(omniglot_root)
    load(omniglot_root, cache=False)
    assert len(decodings) == 3


def truncate(place):
    place.write_bytes(place.read_bytes()[:-500])


def flip_a_bit(place):
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(bytes(content))


def drop_a_character(place):
    with np.load(place) as content:
        np.savez(place, images=content["images"][1:], fingerprint=content["fingerprint"])


def pickle_in_it(place):
    with np.load(place) as content:
        np.savez(place, images=np.array([{}]), fingerprint=content["fingerprint"])


@pytest.mark.parametrize(
    "damage",
    [truncate, flip_a_bit, drop_a_character, pickle_in_it, lambda p: p.write_bytes(b""), lambda p: p.write_text("no")],
    ids=["truncated", "bit flipped", "character dropped", "pickled", "empty", "foreign"],
)
def test_a_broken_cache_is_rebuilt(omniglot_root, decodings, damage):
    images = load(omniglot_root)
    damage(cache_places(omniglot_root)[0])
    assert np.array_equal(load(omniglot_root), images)
    assert np.array_equal(load(omniglot_root), images)
    assert len(decodings) == 2


def test_a_stale_cache_is_rebuilt(omniglot_root, decodings):
    load(omniglot_root)
    Image.new("L", (105, 105), 255).save(first_drawing(omniglot_root))
    assert load(omniglot_root)[0, 0].max() == 0
    shutil.rmtree(omniglot_root / "omniglot-py" / "images_background" / "Latin")
    assert len(load(omniglot_root)) == 6
    assert len(decodings) == 3


def test_where_the_root_cannot_be_written_the_user_cache_serves(omniglot_root, decodings):
    beside, user = cache_places(omniglot_root)
    beside.mkdir()  # a folder of that name: no file can take its place
    assert np.array_equal(load(omniglot_root), load(omniglot_root))
    assert len(decodings) == 1
    assert user.is_file()
    assert cache_places(omniglot_root / "elsewhere")[1] != user


def test_where_nothing_can_be_written_it_still_works_and_says_so(omniglot_root, decodings, capsys):
    for place in cache_places(omniglot_root):
        place.mkdir(parents=True)
    assert load(omniglot_root).shape == (9, 6, 28, 28)
    assert "decode again" in capsys.readouterr().err
    assert not list(omniglot_root.glob("**/.metaopt*")), "a temporary file was left behind"


def test_missing_data_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"images_background and images_evaluation in .*tasks\.download=true"):
        find_drawings(tmp_path, download=False)


def test_a_missing_half_is_named(omniglot_root):
    shutil.rmtree(omniglot_root / "omniglot-py" / "images_evaluation")
    with pytest.raises(DataError, match=r"found no images_evaluation; set tasks\.download=true"):
        find_drawings(omniglot_root, download=False)


def test_only_what_is_missing_is_downloaded(omniglot_root, monkeypatch):
    away = omniglot_root / "away"
    (omniglot_root / "omniglot-py" / "images_evaluation").rename(away)
    fetched = []

    def fetch(root, background, download):
        fetched.append((background, download))
        away.rename(omniglot_root / "omniglot-py" / "images_evaluation")

    monkeypatch.setattr(torchvision.datasets, "Omniglot", fetch)
    assert len(find_drawings(omniglot_root, download=True).characters) == 9
    assert fetched == [(False, True)]


def test_a_failed_download_is_a_data_error(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "Omniglot", fail)
    with pytest.raises(DataError, match=r"could not fetch images_background .*no route to host"):
        find_drawings(tmp_path, download=True)


def test_an_unfinished_extraction_is_noticed(omniglot_root):
    first_drawing(omniglot_root).unlink()
    with pytest.raises(DataError, match=r"expected 6 drawings .* Greek/character01 .* has 5"):
        find_drawings(omniglot_root, download=False)


def test_an_unreadable_drawing_is_named(omniglot_root):
    path = first_drawing(omniglot_root)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=path.name):
        load(omniglot_root)
    assert not cache_places(omniglot_root)[0].exists()
