import hypothesis
import pytest
import torch
from hypothesis import strategies as st

from metaopt.layout import Layout, leaves, mapped

SHAPES = {"b": torch.Size([2, 3]), "a": {"x": torch.Size([]), "y": {"z": torch.Size([4])}}, "none": {}}
shapes = st.recursive(
    st.lists(st.integers(0, 3), max_size=3).map(torch.Size),
    lambda below: st.dictionaries(st.sampled_from("abcd"), below, max_size=3),
    max_leaves=6,
)


def numbered(tree, *batch):
    """A tree of such shapes in which every number occurs once."""
    count = iter(range(10**6))

    def tensor(shape):
        size = (*batch, *shape)
        return torch.tensor([next(count) for _ in range(torch.Size(size).numel())], dtype=torch.float64).view(size)

    return mapped(tree, tensor)


def turned_round(tree):
    """The same tree with its keys in another order."""
    return {key: turned_round(tree[key]) for key in reversed(tree)} if isinstance(tree, dict) else tree


def assert_equal(found, expected):
    if not isinstance(expected, dict):
        assert found.shape == expected.shape
        assert torch.equal(found, expected)
        return
    assert list(found) == list(expected)
    for key in expected:
        assert_equal(found[key], expected[key])


@hypothesis.given(tree=shapes, batch=st.lists(st.integers(1, 3), max_size=2))
def test_what_is_packed_is_what_is_unpacked(tree, batch):
    hypothesis.assume(leaves(tree))
    layout, values = Layout(tree), numbered(tree, *batch)
    flat = layout.pack(values, len(batch))
    assert flat.shape == (*batch, layout.size)
    assert layout.size == sum(shape.numel() for shape in leaves(tree))
    assert_equal(layout.unpack(flat), values)


@hypothesis.given(tree=shapes)
def test_the_order_of_the_keys_does_not_matter(tree):
    hypothesis.assume(leaves(tree))
    layout, values = Layout(tree), numbered(tree)
    assert torch.equal(layout.pack(turned_round(values)), layout.pack(values))


def test_the_order_of_the_vector_is_that_of_the_layout():
    values = {"b": torch.arange(6.0).view(2, 3), "a": {"x": torch.tensor(6.0), "y": {"z": torch.arange(7.0, 11.0)}}}
    layout = Layout(SHAPES)
    assert layout.size == 11
    assert layout.pack(values | {"none": {}}).tolist() == list(range(11))


def test_leading_dimensions_are_left_alone():
    values = numbered(SHAPES, 5, 2)
    flat = Layout(SHAPES).pack(values, 2)
    one = Layout(SHAPES).pack(mapped(values, lambda tensor: tensor[3, 1]))
    assert torch.equal(flat[3, 1], one)


def test_the_layout_of_a_tree_is_that_of_its_shapes():
    values = numbered(SHAPES)
    assert torch.equal(Layout.of(values).pack(values), Layout(SHAPES).pack(values))


def test_a_single_tensor_is_a_tree():
    layout = Layout(torch.Size([2, 3]))
    values = torch.arange(6.0).view(2, 3)
    assert layout.pack(values).tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(layout.unpack(layout.pack(values)), values)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_what_is_unpacked_looks_into_the_vector(batch):
    layout = Layout(SHAPES)
    flat = torch.zeros(*batch, layout.size)
    tree = layout.unpack(flat)
    flat += 1
    for leaf in leaves(tree):
        assert torch.equal(leaf, torch.ones(leaf.shape))
        assert leaf.untyped_storage().data_ptr() == flat.untyped_storage().data_ptr()


@pytest.mark.parametrize("tree", [SHAPES, {"alone": torch.Size([4])}], ids=["many", "one"])
def test_what_is_packed_does_not_look_into_the_tree(tree):
    layout, values = Layout(tree), numbered(tree)
    flat = layout.pack(values)
    before = flat.clone()
    for leaf in leaves(values):
        leaf.zero_()
    assert torch.equal(flat, before)


def test_a_tensor_that_lies_otherwise_is_packed_row_by_row():
    layout = Layout({"w": torch.Size([3, 2]), "b": torch.Size([1])})
    w = torch.arange(6.0).view(2, 3).T
    assert layout.pack({"w": w, "b": torch.tensor([9.0])}).tolist() == [0, 3, 1, 4, 2, 5, 9]


def test_derivatives_go_both_ways():
    layout = Layout(SHAPES)
    values = numbered(SHAPES)

    def energy(flat):
        tree = layout.unpack(flat)
        return sum((i + 1) * leaf.square().sum() for i, leaf in enumerate(leaves(tree))) / 2

    flat = layout.pack(values)
    weights = torch.cat([torch.full((size,), i + 1.0) for i, size in enumerate((6, 1, 4))]).double()
    torch.testing.assert_close(torch.func.grad(lambda v: energy(layout.pack(layout.unpack(v))))(flat), weights * flat)


def test_a_missing_tensor_is_an_error():
    with pytest.raises(KeyError):
        Layout(SHAPES).pack({"b": torch.zeros(2, 3)})


def test_leaves_come_in_order_and_are_mapped_in_place():
    tree = {"b": 1, "a": {"y": 2, "x": 3}}
    assert leaves(tree) == [1, 2, 3]
    assert mapped(tree, lambda leaf: 10 * leaf) == {"b": 10, "a": {"y": 20, "x": 30}}
    assert leaves(5) == [5]
