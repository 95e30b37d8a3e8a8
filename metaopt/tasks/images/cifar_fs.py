"""CIFAR-FS: how CIFAR-100's classes are split for few-shot classification."""

from __future__ import annotations

from metaopt.types import Split

_META_TRAIN = (
    "apple aquarium_fish bear bee bottle bowl boy bridge bus can castle caterpillar chair clock cloud cockroach "
    "couch cup dinosaur dolphin elephant forest girl hamster house kangaroo keyboard lawn_mower lion lizard "
    "lobster mountain mouse mushroom oak_tree orange orchid palm_tree pear pine_tree plate porcupine possum "
    "rabbit raccoon ray road seal shrew skunk skyscraper snake spider squirrel streetcar sunflower tank tiger "
    "train trout tulip turtle willow_tree wolf"
)
_META_VALIDATION = (
    "beaver beetle butterfly camel cattle crab crocodile flatfish lamp maple_tree motorcycle otter sea shark "
    "television tractor"
)
_META_TEST = (
    "baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose snail sweet_pepper table "
    "telephone wardrobe whale woman worm"
)

CIFAR_FS: dict[Split, tuple[str, ...]] = {
    "meta_train": tuple(_META_TRAIN.split()),
    "meta_validation": tuple(_META_VALIDATION.split()),
    "meta_test": tuple(_META_TEST.split()),
}
"""The published split of 64, 16 and 20 classes.

L. Bertinetto, J. Henriques, P. Torr, A. Vedaldi. Meta-learning with differentiable closed-form solvers. ICLR 2019. The
classes are those of the authors' split files ("bertinetto"), as Torchmeta (datasets/assets/cifar100/cifar-fs) and N.
Simard's improving-fs-ssl (mcp/data/dataset/cifar.py) hold them; the two agree.
"""
