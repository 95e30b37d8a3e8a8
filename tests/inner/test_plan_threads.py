from dataclasses import asdict, replace

import hypothesis
import pytest
from hypothesis import strategies as st
from inner_plans import LONG, SMALL, planned

from metaopt.inner.plan import MANY_TASKS, SHARE_OF_MEMORY, Plan


@pytest.mark.parametrize(
    ("threads", "given", "chunk", "workers"),
    [
        (1, None, 16, 1),
        (2, None, 8, 2),
        (3, None, 6, 3),
        (64, None, 1, 16),
        (1, 4, 4, 1),
        (2, 4, 4, 2),
        (3, 4, 4, 3),
        (8, 4, 4, 4),
        (2, 16, 16, 1),
        (3, 15, 15, 2),
        (3, 100, 100, 1),
    ],
)
def test_threads_train_tasks_of_their_own_where_the_steps_are_compiled(threads, given, chunk, workers):
    plan = planned(SMALL, "mixed", given, True, threads=threads)
    assert (plan.task_chunk, plan.workers) == (chunk, workers)
    assert plan.adapt_chunk == (given or MANY_TASKS), "nothing is differentiated, and all threads are at one chunk"


@pytest.mark.parametrize("given", [None, 4])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("hypergradient", "compiled"), [("mixed", False), ("auto", False), ("forward", True)])
def test_what_is_python_s_work_goes_on_in_one_thread(hypergradient, compiled, threads, given):
    plan = planned(SMALL, hypergradient, given, compiled, threads=threads)
    assert plan == planned(SMALL, hypergradient, given, compiled)
    assert plan.workers == 1


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_meta_batch_of_one_task_is_for_one_thread(threads):
    plan = planned(replace(SMALL, meta_batch=1), compile_=True, threads=threads)
    assert (plan.task_chunk, plan.workers) == (1, 1)


def test_threads_are_used_where_compiling_is_chosen_and_the_measured_chunk_is_cut_where_it_is_larger():
    assert planned(LONG, threads=2).workers == 2
    assert planned(SMALL, threads=2).workers == 1
    plan = planned(LONG, seconds_at={16: 1.0, 4: 0.1, 1: 1.0}.__getitem__, threads=2)
    assert (plan.task_chunk, plan.adapt_chunk, plan.workers) == (4, 4, 2)
    plan = planned(LONG, seconds_at={16: 1.0, 4: 0.1, 1: 1.0}.__getitem__, threads=8)
    assert (plan.task_chunk, plan.adapt_chunk, plan.workers) == (2, 4, 8)


@pytest.mark.parametrize(("given", "threads", "at_once"), [(4, 1, 4), (4, 2, 8), (4, 8, 16), (None, 2, 16), (5, 8, 16)])
def test_the_memory_is_that_of_all_threads_together(given, threads, at_once):
    stored = LONG.horizon * LONG.carry * LONG.itemsize * at_once
    enough = int(stored / SHARE_OF_MEMORY)
    assert planned(LONG, task_chunk=given, compile_=True, memory=enough, threads=threads).hypergradient == "mixed"
    plan = planned(LONG, task_chunk=given, compile_=True, memory=enough - 4, threads=threads)
    assert plan.hypergradient == "checkpointing"


@hypothesis.given(st.integers(1, 70), st.none() | st.integers(1, 70), st.integers(1, 20))
def test_every_thread_has_tasks_to_train(meta_batch, given, threads):
    plan = planned(replace(SMALL, meta_batch=meta_batch), "mixed", given, True, threads=threads)
    assert 1 <= plan.workers <= threads
    assert (plan.workers - 1) * plan.task_chunk < meta_batch
    assert given is None or plan.task_chunk == given
    assert given is not None or plan.workers * plan.task_chunk >= meta_batch, "one round is enough"


def test_threads_are_told_where_there_are_several():
    plan = planned(SMALL, task_chunk=3, compile_=True, threads=2)
    assert "3 tasks side by side in each of 2 threads" in plan.describe()
    assert "one task at a time in each of 5 threads" in replace(plan, task_chunk=1, workers=5).describe()
    assert "thread" not in replace(plan, workers=1).describe()


def test_a_plan_from_before_there_were_threads_has_one():
    several = asdict(Plan("mixed", 4, 64, True, "as configured", workers=3))
    assert Plan.from_json(several).workers == 3
    del several["workers"]
    assert Plan.from_json(several).workers == 1
