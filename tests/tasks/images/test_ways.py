from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaopt.errors import TaskError
from metaopt.tasks.images.ways import (
    ImageBank,
    ImageClass,
    WaySampler,
    WaySizes,
    class_names,
    turned,
    turned_at_once,
)
from metaopt.types import SPLITS

SUBJECTS = 15
WHITE = 255


def legible_bank(counts: torch.Tensor, channels: int = 1) -> ImageBank:
    """3×3 images that say what they are: subject in the middle, example on the edges, a mark in the top left corner.

    Further channels hold the same, and one more for each channel.
    """
    groups = []
    for subject, count in enumerate(counts.tolist()):
        images = torch.zeros(count, 1, 3, 3, dtype=torch.uint8)
        images[..., 0, 0] = 200
        images[..., 1, 1] = subject
        for row, column in ((0, 1), (1, 0), (1, 2), (2, 1)):
            images[:, 0, row, column] = torch.arange(count, dtype=torch.uint8)
        groups.append(images + torch.arange(channels, dtype=torch.uint8).view(-1, 1, 1))
    return ImageBank(torch.cat(groups), counts, WHITE)


def read(image: torch.Tensor) -> tuple[ImageClass, int]:
    """The class and the example that an image of the legible bank shows."""
    pixels = (image[0] * WHITE).round().int()
    for channel, plane in enumerate((image * WHITE).round().int()):
        assert torch.equal(plane, pixels + channel), "a channel is not that of this image, or not in its place"
    # Counter-clockwise, the top left corner goes to the bottom left first.
    corners = [int(pixels[at]) for at in ((0, 0), (2, 0), (2, 2), (0, 2))]
    assert sorted(corners) == [0, 0, 0, 200]
    return ImageClass(int(pixels[1, 1]), corners.index(200)), int(pixels[0, 1])


def thirds(turns: range) -> dict:
    """Subjects 0-4, 5-9 and 10-14 in the three splits."""
    return {split: [ImageClass(5 * i + j, t) for j in range(5) for t in turns] for i, split in enumerate(SPLITS)}


@settings(max_examples=25)
@given(data=st.data())
def test_tasks_have_distinct_classes_disjoint_images_and_labels_that_fit(data):
    sizes = WaySizes(
        data.draw(st.integers(2, 5)), *(data.draw(st.integers(1, 3), label=key) for key in ("support", "query", "test"))
    )
    least = sizes.support + sizes.query + sizes.test
    counts = torch.tensor(data.draw(st.lists(st.integers(least, least + 4), min_size=SUBJECTS, max_size=SUBJECTS)))
    classes = thirds(range(data.draw(st.integers(1, 4), label="orientations")))
    channels = data.draw(st.sampled_from((1, 3)), label="channels")
    meet = data.draw(st.booleans(), label="whether orientations of a subject meet")
    sampler = WaySampler("letters", legible_bank(counts, channels), classes, sizes, meet=meet)
    split = data.draw(st.sampled_from(SPLITS))
    n = data.draw(st.integers(1, 3), label="tasks")
    tasks = sampler.sample(split, n, torch.Generator().manual_seed(data.draw(st.integers(0, 1000), label="seed")))

    for batch, per_class in zip(tasks, (sizes.support, sizes.query, sizes.test), strict=True):
        assert batch.x.shape == (n, sizes.n_way * per_class, channels, 3, 3)
        assert batch.y.shape == (n, sizes.n_way * per_class)
        assert (batch.x.dtype, batch.y.dtype) == (torch.float32, torch.int64)
    for task in range(n):
        shown: dict[int, set[ImageClass]] = {label: set() for label in range(sizes.n_way)}
        examples: dict[int, list[int]] = {label: [] for label in range(sizes.n_way)}
        for batch in tasks:
            for image, label in zip(batch.x[task], batch.y[task].tolist(), strict=True):
                member, example = read(image)
                shown[label].add(member)
                examples[label].append(example)
        assert all(len(members) == 1 for members in shown.values()), "a label stands for two classes"
        drawn = [next(iter(members)) for members in shown.values()]
        assert len(set(drawn)) == sizes.n_way, "a class has two labels"
        assert set(drawn) <= set(classes[split]), "a class of another split"
        assert meet or len({member.subject for member in drawn}) == sizes.n_way, "a subject meets itself, turned"
        for label, member in enumerate(drawn):
            assert len(examples[label]) == len(set(examples[label])) == least, "an image comes twice"
            assert max(examples[label]) < counts[member.subject], "an image of another class"


def test_every_class_takes_every_label_and_every_image_every_role():
    counts = torch.tensor([4, 3] + [4] * (SUBJECTS - 2))
    sampler = WaySampler("letters", legible_bank(counts), thirds(range(1)), WaySizes(2, 1, 1, 1))
    tasks = sampler.sample("meta_train", 600, torch.Generator().manual_seed(0))
    for batch in tasks:
        seen = {
            (*read(image), label) for task in range(600) for image, label in zip(batch.x[task], (0, 1), strict=True)
        }
        expected = {(ImageClass(s), e, label) for s in range(5) for e in range(counts[s]) for label in (0, 1)}
        assert seen == expected


def test_orientations_that_may_not_meet_are_each_as_frequent_and_change_only_tasks_in_which_they_would():
    bank = legible_bank(torch.full((SUBJECTS,), 3))
    tasks = {}
    for meet in (True, False):
        sampler = WaySampler("letters", bank, thirds(range(4)), WaySizes(2, 1, 1, 1), meet=meet)
        support = sampler.sample("meta_train", 1000, torch.Generator().manual_seed(0)).support
        tasks[meet] = [[read(image)[0] for image in images] for images in support.x]
    met = [pair[0].subject == pair[1].subject for pair in tasks[True]]
    assert 0.1 < sum(met) / len(met) < 0.22  # 3 of 19
    for before, now, was_met in zip(tasks[True], tasks[False], met, strict=True):
        assert (before == now) is not was_met
        assert before[0] == now[0]
    counts = Counter(member for pair in tasks[False] for member in pair)
    assert len(counts) == 20
    assert all(55 < count < 145 for count in counts.values()), counts  # 100 expected, of a standard deviation below 10


def test_the_splits_of_one_sampler_share_no_image():
    sampler = WaySampler("letters", legible_bank(torch.full((SUBJECTS,), 3)), thirds(range(4)), WaySizes(5, 1, 1, 1))
    generator = torch.Generator().manual_seed(0)
    subjects = [
        {read(image)[0].subject for image in sampler.sample(split, 20, generator).query.x.flatten(0, 1)}
        for split in SPLITS
    ]
    assert subjects == [set(range(5)), set(range(5, 10)), set(range(10, 15))]


def build(sizes: WaySizes, remedy: str = "") -> WaySampler:
    return WaySampler("letters", legible_bank(torch.tensor([6, 9] * 7 + [7])), thirds(range(1)), sizes, remedy)


def test_what_just_fits_is_accepted():
    build(WaySizes(5, 1, 2, 3)).sample("meta_test", 1, torch.Generator())


def test_too_many_ways_name_the_setting_the_splits_and_the_remedy():
    with pytest.raises(TaskError) as caught:
        build(WaySizes(6, 1, 1, 1), remedy="or draw more letters")
    text = str(caught.value)
    for part in (
        "tasks.n_way=6",
        "meta_train has 5",
        "meta_validation has 5",
        "meta_test has 5",
        "or draw more letters",
    ):
        assert part in text
    assert "\n" not in text


def test_too_many_ways_where_orientations_may_not_meet_count_subjects():
    bank = legible_bank(torch.full((SUBJECTS,), 3))
    WaySampler("letters", bank, thirds(range(4)), WaySizes(5, 1, 1, 1), meet=False)
    with pytest.raises(TaskError, match=r"tasks\.n_way=6 needs 6 .*turned ones not counted.*_train has 5,.* to 5 "):
        WaySampler("letters", bank, thirds(range(4)), WaySizes(6, 1, 1, 1), meet=False)


def test_too_many_examples_name_the_settings_and_the_smallest_class():
    with pytest.raises(TaskError, match=r"tasks.support=2, tasks.query=3 and tasks.test=4 need 9 .* has 6; .* by 3"):
        build(WaySizes(2, 2, 3, 4))


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("position", range(4))
def test_a_size_that_is_not_positive_is_refused(position, value):
    sizes = [2, 1, 1, 1]
    sizes[position] = value
    with pytest.raises(TaskError, match=f"tasks.{('n_way', 'support', 'query', 'test')[position]} .* but is {value}"):
        build(WaySizes(*sizes))


def test_class_names_say_subject_and_degrees():
    names = class_names({"meta_train": [ImageClass(1, 0), ImageClass(0, 3)]}, ["a", "b"])
    assert names == {"meta_train": ["b/rot000", "a/rot270"]}


def test_images_are_kept_where_they_are_asked_to_be_if_they_are_not_too_large():
    meta, classes = torch.device("meta"), thirds(range(4))
    bank = legible_bank(torch.full((SUBJECTS,), 4))
    sampler, there = (WaySampler("letters", bank, classes, WaySizes(3, 1, 1, 2)) for _ in range(2))
    there.place(meta, most=bank.images.numel() - 1)  # a byte each
    one, other = (s.sample("meta_train", 2, torch.Generator().manual_seed(0)) for s in (sampler, there))
    assert torch.equal(one.test.x, other.test.x)
    there.place(meta, most=bank.images.numel())
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    one, other = sampler.sample("meta_train", 2, generators[0]), there.sample("meta_train", 2, generators[1])
    assert other.support.x.device == meta
    assert other.support.x.shape == one.support.x.shape
    assert other.support.y.device == meta
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


def test_a_gpu_turns_images_as_the_cpu_does():
    images = torch.randint(256, (6, 2, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    turns = torch.tensor([0, 3, 1, 2, 3, 0])
    expected = torch.stack([torch.rot90(image, int(k), (-2, -1)) for image, k in zip(images, turns, strict=True)])
    assert torch.equal(turned_at_once(images, turns), expected)
    assert torch.equal(turned(images.clone(), turns), expected)
