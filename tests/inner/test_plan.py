import json
from dataclasses import asdict, replace

import hypothesis
import pytest
from hypothesis import strategies as st
from inner_plans import GIB, LONG, SMALL, planned, unmeasured

from metaopt.inner.plan import (
    FEW_STEPS,
    LONGEST_COMPILED_REVERSE,
    MANY_TASKS,
    METHODS,
    SHARE_OF_MEMORY,
    Plan,
    choose_method,
    earns_compilation,
    fastest_chunk,
    machine_memory,
    make_plan,
    quickest,
)

# The method ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("horizon", [1, FEW_STEPS])
def test_a_few_steps_go_in_reverse_mode_whatever_the_model(horizon, compiled):
    huge = replace(SMALL, horizon=horizon, carry=10**9)
    assert choose_method(huge, 16, compiled, GIB)[0] == "reverse"
    assert choose_method(replace(huge, horizon=FEW_STEPS + 1), 16, compiled, GIB)[0] != "reverse"


def test_longer_horizons_go_in_mixed_mode_where_they_are_compiled():
    for horizon in (FEW_STEPS + 1, 50, 1000):
        assert choose_method(replace(SMALL, horizon=horizon), 16, True, 4 * GIB)[0] == "mixed"


def test_what_is_not_compiled_goes_in_reverse_mode_as_long_as_the_graph_is_small():
    assert choose_method(SMALL, 16, False, 4 * GIB)[0] == "reverse"
    assert choose_method(LONG, 16, False, 4 * GIB)[0] == "mixed"
    assert choose_method(replace(SMALL, activations=10**7), 16, False, 4 * GIB)[0] == "mixed"


@pytest.mark.parametrize("compiled", [False, True])
def test_tight_memory_is_for_checkpointing(compiled):
    stored = SMALL.horizon * SMALL.carry * SMALL.itemsize * 16
    assert choose_method(SMALL, 16, compiled, stored)[0] == "mixed"
    assert choose_method(SMALL, 16, compiled, stored - 1)[0] == "checkpointing"
    assert choose_method(SMALL, 4, compiled, stored - 1)[0] == "mixed", "fewer tasks side by side need less"
    assert choose_method(replace(SMALL, itemsize=8), 16, compiled, stored)[0] == "checkpointing"


ORDER = ("reverse", "mixed", "checkpointing")


@hypothesis.given(
    st.integers(1, 2000), st.integers(1, 64), st.booleans(), st.integers(1, 10**8), st.integers(2**20, 2**36)
)
def test_less_memory_never_asks_for_a_method_that_takes_more(horizon, chunk, compiled, carry, budget):
    workload = replace(SMALL, horizon=horizon, carry=carry)
    more, less = (ORDER.index(choose_method(workload, chunk, compiled, size)[0]) for size in (budget, budget // 2))
    assert more <= less


# Compiling -----------------------------------------------------------------------------------------------------------


def test_long_runs_earn_compilation_and_short_ones_do_not():
    assert earns_compilation(LONG, "auto", 16)[0]
    assert not earns_compilation(SMALL, "auto", 16)[0]


@pytest.mark.parametrize("change", [{"iterations": 0}, {"horizon": 1, "iterations": 1}, {"tensors": 1, "horizon": 1}])
def test_a_run_of_next_to_nothing_earns_nothing(change):
    assert not earns_compilation(replace(SMALL, **change), "mixed", 1)[0]


def test_more_work_earns_compilation_sooner():
    least = next(n for n in range(1, 10_000, 10) if earns_compilation(replace(SMALL, iterations=n), "auto", 16)[0])
    for more in (replace(SMALL, horizon=100), replace(SMALL, tensors=20)):
        assert earns_compilation(replace(more, iterations=least - 10), "auto", 16)[0]
    assert earns_compilation(replace(SMALL, iterations=least - 10), "auto", 4)[0], "more groups are more work"
    assert not earns_compilation(replace(SMALL, iterations=least - 10), "auto", 16)[0]


def test_the_whole_unroll_is_compiled_for_a_short_horizon_alone():
    for horizon in (LONGEST_COMPILED_REVERSE, LONGEST_COMPILED_REVERSE + 1):
        workload = replace(LONG, horizon=horizon, iterations=10**6)
        assert earns_compilation(workload, "reverse", 16)[0] == (horizon == LONGEST_COMPILED_REVERSE)
        assert earns_compilation(workload, "mixed", 16)[0]


def test_equal_runs_decide_alike_however_fast_the_machine_is():
    plans = [planned(LONG, task_chunk=4, seconds_at=lambda _, s=s: s) for s in (1e-3, 1e3)]
    assert plans[0] == plans[1]


# Tasks side by side --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({16: 1.0, 4: 1.0, 1: 1.0}, 16),
        ({16: 1.0, 4: 0.75, 1: 0.75}, 16),
        ({16: 1.0, 4: 0.74, 1: 0.9}, 4),
        ({16: 1.0, 4: 0.74, 1: 0.6}, 4),
        ({16: 1.0, 4: 0.74, 1: 0.5}, 1),
        ({16: 1.0, 4: 0.8, 1: 0.7}, 1),
        ({16: 1.0, 4: 3.0, 1: 2.0}, 16),
    ],
)
def test_fewer_tasks_side_by_side_must_be_faster_by_a_quarter(seconds, best):
    found, reason = fastest_chunk(16, seconds.__getitem__)
    assert found == best
    for size, spent in seconds.items():
        assert f"{size}: {1000 * spent:.0f} ms" in reason


@pytest.mark.parametrize(("meta_batch", "measured"), [(2, [2, 1]), (3, [3, 1]), (4, [4, 1]), (5, [5, 4, 1])])
def test_no_more_tasks_are_measured_than_a_meta_batch_has_and_none_twice(meta_batch, measured):
    asked = []
    assert fastest_chunk(meta_batch, lambda size: asked.append(size) or 1.0)[0] == meta_batch
    assert asked == measured


def test_without_convolutions_nothing_is_measured_and_all_tasks_go_together():
    plan = planned(replace(LONG, convolutional=False), seconds_at=unmeasured)
    assert (plan.task_chunk, plan.adapt_chunk) == (16, MANY_TASKS)
    assert planned(replace(LONG, convolutional=False), task_chunk=3).task_chunk == 3


def test_a_meta_batch_of_one_task_is_not_measured():
    assert fastest_chunk(1, unmeasured)[0] == 1


def test_what_is_still_being_computed_counts(monkeypatch):
    now = []
    monkeypatch.setattr("metaopt.inner.plan.time.perf_counter", lambda: float(sum(now)))
    assert quickest(lambda: now.append(1), wait=lambda: now.append(4)) == 5.0


def test_the_quickest_of_a_few_calls_counts_and_the_first_does_not(monkeypatch):
    clock = iter([0.0, 3.0, 10.0, 11.0, 20.0, 25.0])
    monkeypatch.setattr("metaopt.inner.plan.time.perf_counter", lambda: next(clock))
    calls = []
    assert quickest(lambda: calls.append(1), repeats=3) == 1.0
    assert len(calls) == 4


# The plan ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hypergradient", METHODS)
@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_given_is_respected_and_nothing_is_measured(hypergradient, compiled):
    plan = planned(SMALL, hypergradient, 3, compiled, unmeasured)
    assert (plan.hypergradient, plan.task_chunk, plan.adapt_chunk, plan.compile) == (hypergradient, 3, 3, compiled)


def test_what_is_left_open_is_chosen():
    plan = planned(LONG)
    assert (plan.hypergradient, plan.task_chunk, plan.compile) == ("mixed", 16, True)
    plan = planned(SMALL)
    assert (plan.hypergradient, plan.task_chunk, plan.compile) == ("reverse", 16, False)
    assert planned(LONG, memory=16 * 10**6).hypergradient == "checkpointing"


def test_a_compiled_plan_is_never_reverse_mode_over_many_steps():
    for horizon in range(1, 30):
        plan = planned(replace(LONG, horizon=horizon, iterations=10**7))
        assert plan.compile
        assert plan.hypergradient != "reverse" or horizon <= LONGEST_COMPILED_REVERSE


def test_the_measured_chunk_counts_in_what_else_is_chosen():
    memory = int(LONG.horizon * LONG.carry * LONG.itemsize * 4 / SHARE_OF_MEMORY)
    quick = {16: 1.0, 4: 0.1, 1: 1.0}.__getitem__
    assert planned(LONG, seconds_at=quick, memory=memory).task_chunk == 4
    assert planned(LONG, seconds_at=quick, memory=memory).hypergradient == "mixed"
    assert planned(LONG, memory=memory).hypergradient == "checkpointing"


def test_a_chunk_beyond_the_meta_batch_takes_no_more_memory_than_the_meta_batch():
    assert planned(SMALL, task_chunk=10**6).hypergradient == planned(SMALL, task_chunk=16).hypergradient


def test_without_derivatives_many_tasks_go_together_unless_few_are_faster():
    assert planned(SMALL).adapt_chunk == MANY_TASKS
    assert planned(replace(SMALL, meta_batch=100)).adapt_chunk == 100
    assert planned(SMALL, seconds_at={16: 1.0, 4: 0.1, 1: 1.0}.__getitem__).adapt_chunk == 4


def test_the_memory_is_that_of_the_machine_where_nothing_else_is_said(monkeypatch):
    assert machine_memory() > 2**26
    monkeypatch.setattr("metaopt.inner.plan.machine_memory", lambda: 16 * 10**6)
    assert make_plan(LONG, "auto", 16, True, unmeasured).hypergradient == "checkpointing"


@hypothesis.given(
    st.sampled_from(["auto", *METHODS]),
    st.none() | st.integers(1, 70),
    st.sampled_from([None, False, True]),
    st.integers(1, 200),
    st.integers(1, 40),
    st.integers(1, 3),
)
def test_every_plan_is_one_line_and_is_read_back(hypergradient, task_chunk, compile_, horizon, meta_batch, threads):
    workload = replace(SMALL, horizon=horizon, meta_batch=meta_batch)
    plan = planned(workload, hypergradient, task_chunk, compile_, threads=threads)
    line = plan.describe()
    assert "\n" not in line
    assert plan.hypergradient in line
    assert ("not compiled" in line) == (not plan.compile)
    assert plan.why in line
    assert plan.why
    assert Plan.from_json(json.loads(json.dumps(asdict(plan)))) == plan


def test_one_task_at_a_time_is_said_in_words():
    assert "one task at a time" in planned(SMALL, task_chunk=1).describe()
    assert "7 tasks" in planned(SMALL, task_chunk=7).describe()


GOOD = asdict(Plan("mixed", 4, 64, False, "as configured"))


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "mixed",
        {},
        *[{key: value for key, value in GOOD.items() if key != left_out} for left_out in GOOD if left_out != "workers"],
        GOOD | {"hypergradient": "magic"},
        GOOD | {"hypergradient": "auto"},
        GOOD | {"hypergradient": None},
        GOOD | {"task_chunk": 0},
        GOOD | {"task_chunk": "4"},
        GOOD | {"task_chunk": 4.0},
        GOOD | {"task_chunk": True},
        GOOD | {"adapt_chunk": -1},
        GOOD | {"compile": 1},
        GOOD | {"compile": "false"},
        GOOD | {"why": None},
        GOOD | {"workers": 0},
        GOOD | {"workers": -2},
        GOOD | {"workers": "2"},
        GOOD | {"workers": 2.0},
        GOOD | {"workers": True},
        GOOD | {"workers": None},
    ],
    ids=str,
)
def test_what_is_no_plan_is_refused(data):
    assert Plan.from_json(GOOD).task_chunk == 4
    with pytest.raises((TypeError, KeyError, ValueError)):
        Plan.from_json(data)
