"""What is kept during a sweep, counted: no process's memory and no time."""

import gc
import math
import weakref
from collections import Counter

import pytest
import torch
from inner_checkpoints import fewest_trainings
from inner_problems import make_problem, mlp_problem, tiny_mlp
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metaopt.inner.binomial import slots_for_two_trainings
from metaopt.inner.checkpointing import Checkpointing
from metaopt.inner.compile import Eager
from metaopt.inner.forward import Forward
from metaopt.inner.mixed import Mixed
from metaopt.inner.reverse import Reverse
from metaopt.inner.truncated import Truncated
from metaopt.policies.settings import InitSettings, PolicySettings, StrengthSettings

CARRIED = ("enter", "advance")
"""Functions that return what tasks carry."""


class Watching(Eager):
    """Leaves functions as they are, and counts their calls and what of their results is alive.

    Attributes:
        calls: how often each was called.
        most_carried: what tasks carry that was alive at once, at most.
        most_stored: the same at the beginning of a call, without what the call takes.
    """

    def __init__(self):
        self.calls = Counter()
        self.most_carried = 0
        self.most_stored = 0
        self._carried = []

    def __call__(self, function):
        name = function.__name__.strip("_")

        def watched(*arguments):
            self.calls[name] += 1
            taken = {StorageWeakRef(a.untyped_storage()).cdata for a in arguments if isinstance(a, torch.Tensor)}
            stored = [carried for carried in self._carried if not carried.expired() and carried.cdata not in taken]
            self.most_stored = max(self.most_stored, len(stored))
            results = function(*arguments)
            for result in results if isinstance(results, tuple) else (results,):
                assert not result.requires_grad, f"{name} keeps a graph"
                if name in CARRIED and result.dim() > 1:
                    self._carried.append(StorageWeakRef(result.untyped_storage()))
            self._carried = [reference for reference in self._carried if not reference.expired()]
            self.most_carried = max(self.most_carried, len(self._carried))
            return results

        return watched

    @property
    def still_carried(self):
        return sum(not reference.expired() for reference in self._carried)


def small_problem(horizon, n_tasks=2, batch_size=3):
    """A policy of as many numbers whatever the horizon."""
    settings = PolicySettings(lr=StrengthSettings("learned", 0.1, "tensor"), init=InitSettings("scaled"))
    return make_problem(settings, tiny_mlp(), horizon=horizon, n_tasks=n_tasks, batch_size=batch_size)


def watched(method, horizon, n_tasks=2, **options):
    watching = Watching()
    small_problem(horizon, n_tasks).hypergradients(method(compiler=watching, **options))
    assert watching.still_carried == 0
    return watching


horizons = pytest.mark.parametrize("horizon", [1, 2, 3, 16, 17, 50])
seconds = pytest.mark.parametrize("second", ["reverse", "forward", "none"])


@horizons
@seconds
def test_mixed_mode_trains_once_and_stores_each_step(second, horizon):
    found = watched(Mixed, horizon, second=second)
    assert found.calls == {"enter": 1, "advance": horizon, "finish": 1, "back": horizon, "leave": 1}
    assert found.most_carried == horizon + 1
    assert found.most_stored == horizon


def assert_stored_and_trained(found, horizon, slots):
    assert found.calls["advance"] == fewest_trainings(horizon + 1, slots)
    assert found.calls["back"] == horizon
    assert found.calls["enter"] == found.calls["finish"] == found.calls["leave"] == 1
    assert found.most_stored == min(slots, horizon)
    # Beside them, what the running step takes and what it gives.
    assert found.most_carried <= min(slots + 2, horizon + 1)


@horizons
@seconds
def test_checkpointing_trains_at_most_twice_and_stores_as_little_as_that_allows(second, horizon):
    found = watched(Checkpointing, horizon, second=second)
    slots = slots_for_two_trainings(horizon)
    assert_stored_and_trained(found, horizon, slots)
    assert found.calls["advance"] <= 2 * horizon
    assert slots <= math.sqrt(2 * horizon)


@pytest.mark.parametrize("stored", [1, 2, 3, 5, 100])
@horizons
def test_checkpointing_stores_no_more_than_it_is_told_and_trains_as_little_as_that_allows(horizon, stored):
    assert_stored_and_trained(watched(Checkpointing, horizon, stored=stored), horizon, stored)


def test_a_fixed_number_of_stored_steps_is_memory_that_does_not_grow():
    few, many = (most_alive(Checkpointing(stored=3), horizon) for horizon in (10, 80))
    assert many == few


@pytest.mark.parametrize("stored", [None, 1, 2, 4, 100])
@pytest.mark.parametrize("horizon", [1, 2, 7, 30])
def test_storing_less_changes_no_bit(horizon, stored):
    problem = mlp_problem("from_scratch", "tensor", horizon=horizon)
    found, expected = (problem.hypergradients(method) for method in (Checkpointing(stored), Mixed()))
    for name in ("flat", "loss", "accuracy", "support_loss"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("window", [1, 4, 100])
@horizons
def test_truncation_trains_once_and_stores_the_steps_of_a_window(horizon, window):
    found = watched(Truncated, horizon, window=window)
    assert found.calls["advance"] == found.calls["back"] == horizon
    assert found.calls["finish"] == math.ceil(horizon / window)
    assert found.most_carried == min(window, horizon) + 1


class Alive(TorchDispatchMode):
    """Bytes of all results that are alive at once, at most."""

    def __init__(self):
        super().__init__()
        self.most = 0
        self._alive = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, torch.Tensor):
                storage = result.untyped_storage()
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._alive = {key: kept for key, kept in self._alive.items() if not kept[0].expired()}
        self.most = max(self.most, sum(size for _, size in self._alive.values()))
        return results


def most_alive(method, horizon):
    problem = small_problem(horizon, batch_size=None)  # the order of minibatches is longer for more steps
    problem.hypergradients(method)  # makes what is kept for the policy
    with Alive() as alive:
        problem.hypergradients(method)
    return alive.most


def test_forward_mode_stores_nothing():
    few, many = (most_alive(Forward(), horizon) for horizon in (5, 40))
    assert many == few


def test_the_graph_of_reverse_mode_grows_and_checkpoints_grow_less():
    grown = {method: most_alive(method(), 40) / most_alive(method(), 5) for method in (Reverse, Checkpointing)}
    assert grown[Reverse] > 5
    assert grown[Checkpointing] < 2


@pytest.mark.parametrize("method", [Mixed, Checkpointing, Truncated])
def test_one_group_of_tasks_is_gone_before_the_next_begins(method):
    one, many = (watched(method, 9, n_tasks=n, chunk=2) for n in (2, 6))
    assert many.most_carried == one.most_carried
    assert many.calls["advance"] == 3 * one.calls["advance"]


@pytest.mark.parametrize("method", [Reverse, Mixed, Checkpointing, Truncated, Forward])
def test_policies_that_were_used_do_not_pile_up(method):
    used = method()
    policies = []
    for seed in range(3):
        problem = mlp_problem("few_shot", "tensor", seed=seed)
        problem.hypergradients(used)
        policies.append(weakref.ref(problem.policy))
    del problem
    gc.collect()
    assert sum(policy() is not None for policy in policies) <= 1
