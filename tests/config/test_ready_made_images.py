import pytest
from image_files import write_cifar, write_folder, write_mnist

from metaopt.config.build import build_job
from metaopt.config.load import train_config
from metaopt.tasks.images.cifar_fs import CIFAR_FS
from metaopt.types import SPLITS

FOLDER = {
    f"{part}/{name}": 7 for part, names in (("train", "abcde"), ("val", "fghij"), ("test", "klmno")) for name in names
}
HUNDRED = sorted(name for names in CIFAR_FS.values() for name in names)
CASES = {
    "image": ("fashion_mnist", (1, 28, 28), [4, 3, 3], write_mnist),
    "fashion_mnist": ("fashion_mnist", (1, 28, 28), [4, 3, 3], write_mnist),
    "mnist": ("mnist", (1, 28, 28), [4, 3, 3], lambda root: write_mnist(root, "mnist")),
    "cifar_fs": ("cifar_fs", (3, 32, 32), [64, 16, 20], lambda root: write_cifar(root, HUNDRED)),
    "mini_imagenet": ("mini_imagenet", (3, 84, 84), [5, 5, 5], lambda root: write_folder(root, FOLDER)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_job_on_ready_made_image_tasks_needs_only_their_root(tiny, tmp_path, name):
    dataset, shape, classes, write = CASES[name]
    root = tmp_path / "mini_imagenet"
    write(root)
    job = build_job(train_config(tiny(f"tasks={name}", f"tasks.root={root}")))
    family = job.problem.family
    assert (job.card.tasks, family.spec.input_shape) == (dataset, shape)
    assert [len(family.splits[split]) for split in SPLITS] == classes
    assert job.card.config["tasks"]["name"] == "image"
