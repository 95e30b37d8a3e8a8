import os
import pickle
import warnings
from functools import partial

import numpy as np
import pytest
import torch
import torchvision.datasets
from image_files import FOLDERS, write_cifar, write_mnist, write_svhn

from metaopt.errors import DataError
from metaopt.tasks.images.cifar_fs import CIFAR_FS
from metaopt.tasks.images.image_data import Look
from metaopt.tasks.images.image_pickle import load_plain
from metaopt.tasks.images.image_sources import SOURCES, find_source

HUNDRED = sorted(name for names in CIFAR_FS.values() for name in names)
TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
WRITERS = {
    **{name: partial(write_mnist, dataset=name) for name in ("mnist", "fashion_mnist", "kmnist")},
    **{name: partial(write_mnist, dataset=name) for name in ("emnist", "emnist_letters")},
    "svhn": write_svhn,
    "cifar10": partial(write_cifar, names=TEN, batches=5),
    "cifar100": partial(write_cifar, names=HUNDRED),
    "cifar_fs": partial(write_cifar, names=HUNDRED),
}


def found(dataset, root):
    return find_source(dataset, root, False, Look())


def by_class(parts):
    """The images of both parts class by class, in the order of the files."""
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return torch.from_numpy(np.concatenate([images[labels == label] for label in range(labels.max() + 1)]))


def test_every_data_set_is_tested():
    assert set(WRITERS) == set(SOURCES)


@pytest.mark.parametrize("dataset", WRITERS)
def test_both_official_parts_are_read_class_by_class(tmp_path, dataset):
    parts = WRITERS[dataset](tmp_path)
    images = found(dataset, tmp_path)
    assert torch.equal(images.read().images, by_class(parts))
    assert images.counts.tolist() == [7] * len(images.classes)
    assert len(set(images.classes)) == len(images.classes)


def test_gzipped_files_serve_too(tmp_path):
    parts = write_mnist(tmp_path, zipped=True)
    assert torch.equal(found("fashion_mnist", tmp_path).read().images, by_class(parts))


@pytest.mark.parametrize("dataset", WRITERS)
def test_torchvision_reads_the_same_files_in_the_same_way(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    monkeypatch.setattr(torchvision.datasets.svhn, "check_integrity", lambda *_: True)
    WRITERS[dataset](tmp_path)
    source = SOURCES[dataset]
    kind = getattr(torchvision.datasets, source.torchvision)
    parts = [{"split": "train"}, {"split": "test"}] if dataset == "svhn" else [{"train": True}, {"train": False}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, about what old pickles ask of it
        theirs = [kind(str(tmp_path), **(source.parts[0] | part)) for part in parts]
    images = found(dataset, tmp_path)
    expected = [[] for _ in images.classes]
    for part in theirs:
        for image, label in part:
            upright = np.asarray(image).T if dataset.startswith("emnist") else np.asarray(image)
            pixels = upright[None] if upright.ndim == 2 else upright.transpose(2, 0, 1)
            expected[label - (dataset == "emnist_letters")].append(torch.tensor(pixels))
    assert torch.equal(images.read().images, torch.stack([image for group in expected for image in group]))
    if hasattr(theirs[0], "classes"):
        names = [name for name in theirs[0].classes if name != "N/A"]
        ours = [f"{name} - {word.partition(' - ')[2]}" for name, word in zip(images.classes, names, strict=True)]
        assert names == (ours if dataset == "mnist" else list(images.classes))


@pytest.mark.parametrize(("dataset", "folder"), [*FOLDERS.items(), ("cifar100", "cifar-100-python")])
def test_missing_data_name_the_root_the_first_file_and_the_remedy(tmp_path, dataset, folder):
    with pytest.raises(DataError) as caught:
        found(dataset, tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{dataset}: tasks.root={tmp_path} should hold {folder}/")
    assert "tasks.download=true" in text
    assert "\n" not in text


def test_one_missing_file_is_named(tmp_path):
    write_cifar(tmp_path, HUNDRED)
    (tmp_path / "cifar-100-python" / "meta").unlink()
    with pytest.raises(DataError, match=r"should hold cifar-100-python/meta, but does not"):
        found("cifar100", tmp_path)


def test_only_what_is_missing_is_fetched(tmp_path, monkeypatch):
    calls = []

    def fetch(root, download, split):
        calls.append((download, split))
        if split == "test":
            write_svhn(tmp_path)

    monkeypatch.setattr(torchvision.datasets, "SVHN", fetch)
    for _ in range(2):
        assert len(find_source("svhn", tmp_path, True, Look()).classes) == 10
    assert calls == [(True, "train"), (True, "test")]


def test_a_failed_download_is_a_data_error_in_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("Error downloading x.gz:\nTried y, got:\nno route to host")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fail)
    with pytest.raises(DataError, match=r"could not fetch .* \(Error downloading x.gz:\)"):
        find_source("fashion_mnist", tmp_path, True, Look())


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def empty(path):
    path.write_bytes(b"")


def foreign(path):
    path.write_text("<html>404 not found</html>", encoding="utf-8")


@pytest.mark.parametrize("damage", [truncate, empty, foreign])
@pytest.mark.parametrize("dataset", ["fashion_mnist", "emnist", "svhn", "cifar10", "cifar100"])
def test_each_broken_file_is_named(tmp_path, dataset, damage):
    WRITERS[dataset](tmp_path)
    for name in SOURCES[dataset].files:
        path = tmp_path / name
        before = path.read_bytes()
        damage(path)
        with pytest.raises(DataError) as caught:
            found(dataset, tmp_path)
        assert str(path) in str(caught.value)
        assert "tasks.download=true" in str(caught.value)
        path.write_bytes(before)


def test_a_broken_gzip_is_named(tmp_path):
    write_mnist(tmp_path, zipped=True)
    path = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte.gz"
    truncate(path)
    with pytest.raises(DataError, match=path.name):
        found("fashion_mnist", tmp_path)


def test_labels_that_do_not_fit_the_images_or_the_classes_are_refused(tmp_path):
    write_mnist(tmp_path)
    raw = tmp_path / "FashionMNIST" / "raw"
    labels = raw / "t10k-labels-idx1-ubyte"
    content = labels.read_bytes()
    labels.write_bytes(content[:-1] + b"\x0a")
    with pytest.raises(DataError, match=r"labels from 0 to 10, but .* 10 classes begin at 0"):
        found("fashion_mnist", tmp_path)
    labels.write_bytes((raw / "train-labels-idx1-ubyte").read_bytes())
    with pytest.raises(DataError, match="70 images, but 100 labels"):
        found("fashion_mnist", tmp_path)


class Evil:
    """Makes a file named by METAOPT_EVIL when it is unpickled."""

    def __reduce__(self):
        return os.system, ('touch "$METAOPT_EVIL"',)


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_a_foreign_batch_cannot_run_code(tmp_path, name, monkeypatch):
    mark = tmp_path / "it ran"
    monkeypatch.setenv("METAOPT_EVIL", str(mark))
    write_cifar(tmp_path, HUNDRED)
    path = tmp_path / "cifar-100-python" / name
    path.write_bytes(pickle.dumps({"data": Evil()}, protocol=2))
    with pytest.raises(DataError, match=rf"{name} cannot be read \(it asks for \w+\.system"):
        found("cifar100", tmp_path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists(), "the file would have been harmless anyway"


@pytest.mark.parametrize(
    "asked", ["builtins.eval", "builtins.getattr", "os.system", "numpy.load", "numpy.fromfile", "torch.load", "io.open"]
)
def test_nothing_but_arrays_can_be_named(asked):
    module, name = asked.rsplit(".", 1)
    with pytest.raises(ValueError, match=f"it asks for {asked}"):
        load_plain(f"c{module}\n{name}\n.".encode())


def test_an_array_of_objects_is_refused():
    with pytest.raises(ValueError, match=r"array of (O8|\|O)"):
        load_plain(pickle.dumps(np.array([{}], dtype=object), protocol=2))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_batches_that_python_3_pickled_are_read_too(protocol):
    content = {"data": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": [1, 2, 300], "text": "ü", "none": None}
    read = load_plain(pickle.dumps(content, protocol=protocol))
    assert np.array_equal(read.pop("data"), content.pop("data"))
    assert read == content


def test_columns_first_arrays_keep_their_order():
    array = np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    assert np.array_equal(load_plain(pickle.dumps(array, protocol=2)), array)
