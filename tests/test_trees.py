import pytest
import torch

from metaopt.trees import (
    cast,
    cast_tasks,
    cloned,
    count_tasks,
    detached,
    on_cpu,
    row,
    stacked,
    take_tasks,
)
from metaopt.types import Batch, TaskBatch


@pytest.fixture
def tree():
    generator = torch.Generator().manual_seed(0)
    return {"a": torch.randn(3, 2, 4, generator=generator), "b": torch.randn(3, generator=generator)}


@pytest.fixture
def tasks():
    def batch(n):
        return Batch(torch.rand(3, n, 2), torch.arange(3 * n).reshape(3, n))

    return TaskBatch(batch(4), batch(5), batch(6))


def test_a_clone_is_out_of_reach_and_a_detached_tree_is_not(tree):
    leaf = {"p": torch.ones(2, requires_grad=True)}
    copy, view = cloned(leaf), detached(leaf)
    with torch.no_grad():
        leaf["p"] += 1
    assert copy["p"].tolist() == [1.0, 1.0]
    assert view["p"].tolist() == [2.0, 2.0]
    assert not copy["p"].requires_grad
    assert not view["p"].requires_grad


def test_stacking_undoes_taking_apart(tree):
    rows = [{name: t[i] for name, t in tree.items()} for i in range(3)]
    for name, t in stacked(rows).items():
        assert torch.equal(t, tree[name])


def test_casting_leaves_integers_alone(tasks):
    found = cast({"x": torch.ones(2), "n": torch.ones(2, dtype=torch.int64)}, torch.float64)
    assert (found["x"].dtype, found["n"].dtype) == (torch.float64, torch.int64)
    for batch in cast_tasks(tasks, torch.float64):
        assert (batch.x.dtype, batch.y.dtype) == (torch.float64, torch.int64)
    regression = TaskBatch(*(Batch(batch.x, batch.x) for batch in tasks))
    assert cast_tasks(regression, torch.float64).query.y.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_inputs_that_are_ids_stay_whole_numbers(dtype):
    large = torch.tensor([[[2**24 + 1, 0]]]).to(dtype)
    tasks = TaskBatch(*(Batch(large, torch.zeros(1, 1, dtype=torch.int64)) for _ in range(3)))
    for batch in cast_tasks(tasks, torch.float32, torch.device("cpu")):
        assert batch.x.dtype == dtype
        assert torch.equal(batch.x, large)


def test_taking_tasks_takes_the_same_ones_of_each_set(tasks):
    assert count_tasks(tasks) == 3
    index = torch.tensor([2, 0])
    for one, some, chosen, whole in zip(
        take_tasks(tasks, 1), take_tasks(tasks, slice(1, 3)), take_tasks(tasks, index), tasks, strict=True
    ):
        assert torch.equal(one.x, whole.x[1])
        assert torch.equal(one.y, whole.y[1])
        assert torch.equal(some.y, whole.y[1:])
        assert torch.equal(chosen.x, whole.x[[2, 0]])


def test_a_row_is_the_same_by_an_int_and_by_a_scalar_tensor(tree):
    for name, tensor in tree.items():
        assert torch.equal(row(tensor, 2), tensor[2]), name
        assert torch.equal(row(tensor, torch.tensor(2)), tensor[2]), name


def test_tasks_are_moved_with_their_labels(tasks):
    moved = cast_tasks(tasks, torch.float64, torch.device("meta"))
    for batch in moved:
        assert (batch.x.device.type, batch.y.device.type) == ("meta", "meta")
        assert (batch.x.dtype, batch.y.dtype) == (torch.float64, torch.int64)
    stay = cast_tasks(moved, torch.float64)
    assert {tensor.device.type for batch in stay for tensor in batch} == {"meta"}


def test_a_tree_on_the_cpu_keeps_its_tensors_and_its_other_values():
    tensor = torch.ones(2)
    tree = {"a": [tensor, {"b": tensor}], "c": (1, 2), "d": 0.5, "e": None}
    found = on_cpu(tree)
    assert found.keys() == tree.keys()
    assert found["a"][0] is found["a"][1]["b"] is tensor
    assert (found["c"], found["d"], found["e"]) == ((1, 2), 0.5, None)
