import pytest
from omniglot_files import write_omniglot, write_splits


@pytest.fixture
def omniglot_root(tmp_path, monkeypatch):
    """Nine characters with six drawings each; the user's cache folder is redirected too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    return write_omniglot(tmp_path / "data")


@pytest.fixture
def make_splits(tmp_path):
    """The function that writes split files, into a folder of this test."""
    return lambda train, val, test: write_splits(tmp_path / "splits", train, val, test)


@pytest.fixture
def split_folder(make_splits):
    """Splits of the small folder: 4, 2 and 3 characters, in all rotations."""
    return make_splits(
        train="Greek/character01 Greek/character02 Greek/character03 Latin/character01",
        val="Latin/character02 Latin/character03",
        test="Tengwar/character01 Tengwar/character02 Tengwar/character03",
    )


@pytest.fixture
def make_image_splits(tmp_path):
    """The function that writes split files of classes with spaces in their names, the lines as they are given."""

    def write(train, val, test):
        folder = tmp_path / "image-splits"
        folder.mkdir(exist_ok=True)
        for name, text in (("train", train), ("val", val), ("test", test)):
            (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        return folder

    return write
