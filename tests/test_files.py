import pytest

from metaopt.files import replacing, write_new_text, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "results.json"
    write_text(path, "old")

    def write_half():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "figures" / "curve.png"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_never_replaces_one(tmp_path, links, monkeypatch):
    def refuse(*_):
        raise PermissionError("no links here")

    if not links:
        monkeypatch.setattr("os.link", refuse)
    path = tmp_path / "run" / "config.yaml"
    write_new_text(path, "first")
    with pytest.raises(FileExistsError):
        write_new_text(path, "second")
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_text_is_written_as_it_is(tmp_path):
    path = tmp_path / "tasks.csv"
    write_text(path, "σ\nθ₀\r\n")
    assert path.read_bytes() == "σ\nθ₀\r\n".encode()
