import gzip
import os
from pathlib import Path

import pytest
import torch
from image_files import legible, write_cifar, write_folder, write_mnist, write_svhn
from PIL import Image

from metaopt.errors import DataError, TaskError
from metaopt.tasks.images.cifar_fs import CIFAR_FS
from metaopt.tasks.images.image import DATASETS, Images
from metaopt.tasks.images.image_data import Look, treated
from metaopt.types import SPLITS, Kind

SMALL = {"n_way": 3, "support": 2, "query": 1, "test": 4}
HUNDRED = sorted(name for names in CIFAR_FS.values() for name in names)


def draw(family, split="meta_train", n=30, seed=0):
    return family.sample(split, n, torch.Generator().manual_seed(seed))


def key(image):
    return (image * 255).round().byte().numpy().tobytes()


@pytest.fixture
def fashion(tmp_path):
    write_mnist(tmp_path)
    return tmp_path


@pytest.fixture
def animals(tmp_path):
    counts = (
        {f"train/a{i}": 7 for i in range(4)} | {f"val/b{i}": 8 for i in range(3)} | {f"test/c{i}": 7 for i in range(3)}
    )
    return write_folder(tmp_path / "animals", counts)


FAMILIES = {
    "fashion_mnist": (write_mnist, {}),
    "emnist": (lambda root: write_mnist(root, "emnist"), {}),
    "svhn": (write_svhn, {}),
    "cifar_fs": (lambda root: write_cifar(root, HUNDRED), {}),
    "resized": (write_mnist, {"dataset": "fashion_mnist", "size": 56}),
    "turned": (write_mnist, {"dataset": "fashion_mnist", "rotations": True}),
}


@pytest.mark.parametrize("case", FAMILIES)
def test_no_class_and_no_image_is_on_two_sides(tmp_path, case):
    write, settings = FAMILIES[case]
    write(tmp_path)
    family = Images(**{"dataset": case, "root": str(tmp_path), **SMALL, **settings})
    labels = {split: {name.partition(" ")[0].partition("/")[0] for name in family.splits[split]} for split in SPLITS}
    seen = {split: set() for split in SPLITS}
    for split in SPLITS:
        tasks = draw(family, split, 60)
        for number in range(60):
            sets = [[key(image) for image in batch.x[number]] for batch in tasks]
            drawn = [image for images in sets for image in images]
            assert len(drawn) == len(set(drawn)) == 3 * 7, "an image comes twice in a task"
            seen[split] |= set(drawn)
    assert not seen["meta_train"] & seen["meta_validation"]
    assert not (seen["meta_train"] | seen["meta_validation"]) & seen["meta_test"]
    assert not labels["meta_train"] & labels["meta_validation"]
    assert not (labels["meta_train"] | labels["meta_validation"]) & labels["meta_test"]


def test_every_image_shows_a_class_of_its_split_under_one_label(fashion):
    family = Images(root=fashion, **SMALL)
    allowed = {split: {int(name.partition(" ")[0]) for name in family.splits[split]} for split in SPLITS}
    assert sorted(label for labels in allowed.values() for label in labels) == list(range(10))
    for split in SPLITS:
        tasks = draw(family, split)
        shown = [(batch.x[..., 0, 0, 0] * 255).round().int() for batch in tasks]
        assert set(shown[0].unique().tolist()) == allowed[split]
        for task in range(30):
            pairs = {
                (label, int(digit))
                for batch, digits in zip(tasks, shown, strict=True)
                for label, digit in zip(batch.y[task].tolist(), digits[task], strict=True)
            }
            assert len(pairs) == 3
            assert len({digit for _, digit in pairs}) == 3


def test_official_training_and_test_images_come_together(fashion):
    images = {key(image) for image in draw(Images(root=fashion, **SMALL), n=200).test.x.flatten(0, 1)}
    from_test = {image for image in images if image[-1] == legible([0])[0, 0, -1, -1] + 100}
    assert len(images) == 4 * 7
    assert len(from_test) == 4 * 2


def test_sampling_is_pure_in_the_generator(fashion):
    family = Images(root=fashion, **SMALL)
    torch.manual_seed(1)
    first = draw(family, seed=5)
    torch.manual_seed(2)
    again, other = draw(Images(root=fashion, **SMALL), seed=5), draw(family, seed=6)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)
    assert not torch.equal(first.support.x, other.support.x)


def test_the_spec_and_the_name_describe_the_tasks(tmp_path, fashion, animals):
    write_cifar(tmp_path, HUNDRED)
    cases = {
        "fashion_mnist": (Images(root=fashion, **SMALL), (1, 28, 28)),
        "cifar100": (Images("cifar100", root=tmp_path, **SMALL), (3, 32, 32)),
        "cifar_fs": (Images("cifar_fs", root=tmp_path, greyscale=True, size=28, **SMALL), (1, 28, 28)),
        "animals": (Images("image_folder", root=animals, **SMALL), (3, 20, 20)),
    }
    for name, (family, shape) in cases.items():
        assert family.name == name
        assert (family.spec.kind, family.spec.input_shape, family.spec.output_size) == (Kind.classification, shape, 3)
        assert draw(family, n=2).query.x.shape == (2, 3, *shape)


def test_colours_stay_in_their_channels(tmp_path):
    write_cifar(tmp_path, HUNDRED)
    x = draw(Images("cifar100", root=tmp_path, **SMALL)).support.x
    assert torch.allclose(x[:, :, 1] - x[:, :, 0], torch.tensor(50 / 255))
    assert torch.allclose(x[:, :, 2] - x[:, :, 1], torch.tensor(50 / 255))


def test_cifar_fs_has_its_published_split(tmp_path):
    write_cifar(tmp_path, HUNDRED)
    family = Images("cifar_fs", root=tmp_path, **SMALL)
    for split in SPLITS:
        assert {name.partition(" ")[2] for name in family.splits[split]} == set(CIFAR_FS[split])
        assert {int(name.partition(" ")[0]) for name in family.splits[split]} == set(
            map(HUNDRED.index, CIFAR_FS[split])
        )
    with pytest.raises(TaskError, match=r"tasks\.split_seed=1 decides nothing"):
        Images("cifar_fs", root=tmp_path, split_seed=1, **SMALL)


def test_the_three_parts_of_a_folder_are_the_splits(animals):
    family = Images("image_folder", root=animals, **SMALL)
    assert [sorted({name[0] for name in family.splits[split]}) for split in SPLITS] == [["a"], ["b"], ["c"]]
    first_of_split = [
        set((draw(family, s).query.x[..., 0, 0, 0] * 255).round().int().unique().tolist()) for s in SPLITS
    ]
    assert first_of_split == [set(range(4)), set(range(4, 7)), set(range(7, 10))]


def test_the_hash_changes_with_the_split_the_data_set_and_the_order_of_its_classes(tmp_path, make_image_splits):
    for dataset in ("mnist", "fashion_mnist"):
        write_mnist(tmp_path, dataset)
    write_cifar(tmp_path, HUNDRED)

    def hash_of(dataset, **settings):
        return Images(dataset, root=tmp_path, **{**SMALL, "n_way": 2, **settings}).split_hash

    folder = make_image_splits(*("\n".join(CIFAR_FS[split]) for split in SPLITS))
    hashes = [
        hash_of("mnist"),
        hash_of("fashion_mnist"),
        hash_of("fashion_mnist", split_seed=1),
        hash_of("fashion_mnist", validation_classes=2),
        hash_of("fashion_mnist", test_classes=2),
        hash_of("fashion_mnist", rotations=True),
        hash_of("cifar100"),
        hash_of("cifar_fs"),
        hash_of("cifar100", split_files=folder),
    ]
    write_cifar(tmp_path, [HUNDRED[1], HUNDRED[0], *HUNDRED[2:]])
    hashes += [hash_of("cifar100"), hash_of("cifar_fs")]
    assert len(set(hashes)) == len(hashes)


def test_the_hash_depends_on_nothing_else(fashion):
    reference = Images(root=fashion, **SMALL).split_hash
    others = {"n_way": 2, "support": 1, "size": 8, "greyscale": True, "max_per_class": 7}
    assert Images(root=fashion, **(SMALL | others)).split_hash == reference


def test_the_hash_of_a_folder_changes_with_its_classes_and_not_with_its_place(animals):
    def hash_of(root):
        return Images("image_folder", root=root, **SMALL).split_hash

    reference = hash_of(animals)
    beasts = animals.rename(animals.with_name("beasts"))
    assert hash_of(beasts) == reference
    (beasts / "train" / "a3").rename(beasts / "test" / "a3")
    assert hash_of(beasts) != reference


def test_size_and_greyscale_and_rotations_reach_the_tasks(tmp_path, fashion):
    whole, small = Images(root=fashion, **SMALL), Images(root=fashion, size=14, **SMALL)
    x, y = draw(whole).test.x, draw(small).test.x
    resized = treated((x * 255).round().byte().flatten(0, 1), Look(size=14))
    assert torch.equal((y * 255).round().byte().flatten(0, 1), resized)
    write_svhn(tmp_path)
    colour, grey = (Images("svhn", root=tmp_path, greyscale=g, **SMALL) for g in (False, True))
    luma = (draw(colour).test.x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(2, keepdim=True)
    assert (draw(grey).test.x - luma).abs().max() < 1.01 / 255
    turned = Images(root=fashion, rotations=True, **SMALL | {"n_way": 12})
    assert [len(turned.splits[split]) for split in SPLITS] == [16, 12, 12]


def test_fewer_images_per_class_are_kept_where_asked(fashion):
    family = Images(root=fashion, max_per_class=4, **SMALL | {"test": 1})
    assert len({key(image) for image in draw(family, n=200).test.x.flatten(0, 1)}) == 4 * 4
    with pytest.raises(TaskError, match=r"need 7 images per class, but the smallest class has 6"):
        Images(root=fashion, max_per_class=6, **SMALL)


def test_too_many_ways_know_the_way_out(fashion, animals):
    with pytest.raises(
        TaskError, match=r"tasks\.n_way=4 .* meta_validation has 3, .* or set tasks\.validation_classes"
    ):
        Images(root=fashion, **SMALL | {"n_way": 4})
    (animals / "val" / "b0" / "003.png").write_bytes(b"broken")
    with pytest.raises(TaskError, match=r"tasks\.n_way=4"):  # before any image is decoded
        Images("image_folder", root=animals, **SMALL | {"n_way": 4})


@pytest.mark.parametrize("dataset", ["mnist", "svhn", "emnist", "emnist_letters"])
def test_digits_and_letters_are_not_turned(dataset):
    with pytest.raises(TaskError, match=rf"{dataset}: tasks\.rotations=true would make one class look like another"):
        Images(dataset, root="nowhere", rotations=True)


def test_only_squares_are_turned(animals):
    for path in animals.glob("*/*/*.png"):
        Image.new("RGB", (20, 10)).save(path)
    with pytest.raises(TaskError, match=r"needs square images, but they are 10×20; set tasks\.size"):
        Images("image_folder", root=animals, rotations=True, **SMALL)
    assert Images("image_folder", root=animals, rotations=True, size=12, **SMALL).spec.input_shape == (3, 12, 12)


def test_settings_are_checked_before_any_data_are_looked_for():
    with pytest.raises(TaskError, match=rf"tasks\.dataset=imagenet is not known; choose one of {', '.join(DATASETS)}"):
        Images("imagenet", root="nowhere")
    with pytest.raises(TaskError, match=r"tasks\.support .* but is 0"):
        Images(root="nowhere", support=0)
    with pytest.raises(TaskError, match=r"tasks\.size .* but is 0"):
        Images(root="nowhere", size=0)


def test_missing_data_are_a_data_error():
    with pytest.raises(DataError, match=r"tasks\.root=nowhere should hold FashionMNIST/raw/.*tasks\.download=true"):
        Images(root="nowhere")


@pytest.fixture(scope="module", params=["mnist", "fashion_mnist"])
def real(request, tmp_path_factory):
    """Name and root of a real data set, from METAOPT_DATA or a folder beside the repository, extracted or not."""
    repository = Path(__file__).resolve().parents[3]
    data = Path(os.environ.get("METAOPT_DATA", repository / ".." / "shared" / "data"))
    folder = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[request.param]
    if (data / folder / "raw").is_dir():
        return request.param, data
    archives = sorted((data / request.param).glob("*.gz"))
    if len(archives) != 4:
        pytest.skip(f"the real {request.param} is not in {data}; METAOPT_DATA may say where it is")
    root = tmp_path_factory.mktemp(request.param)
    (root / folder / "raw").mkdir(parents=True)
    for archive in archives:
        (root / folder / "raw" / archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
    return request.param, root


def test_the_real_data_sets_are_complete(real):
    dataset, root = real
    family = Images(dataset, root=root, n_way=3, support=200, query=50, test=100)
    assert [len(family.splits[split]) for split in SPLITS] == [4, 3, 3]
    tasks = draw(family, n=2)
    assert tasks.support.x.shape == (2, 600, 1, 28, 28)
    assert 0.05 < tasks.support.x.mean().item() < 0.5
    assert tasks.support.x.max().item() == 1.0
    rarest = {"mnist": 6313, "fashion_mnist": 7000}[dataset]
    needed = rarest - 300
    Images(dataset, root=root, n_way=3, support=needed, query=200, test=100)
    with pytest.raises(TaskError, match=f"the smallest class has {rarest}"):
        Images(dataset, root=root, n_way=3, support=needed + 1, query=200, test=100)


def test_a_linear_rule_learns_the_real_classes(real):
    """The labels belong to the images: the nearest class mean is right far more often than one in three."""
    dataset, root = real
    tasks = draw(Images(dataset, root=root, n_way=3, support=50, query=10, test=50), n=20)
    means = tasks.support.x.flatten(2).view(20, 3, 50, -1).mean(2)
    guesses = torch.cdist(tasks.test.x.flatten(2), means).argmin(-1)
    assert (guesses == tasks.test.y).float().mean() > 0.75
