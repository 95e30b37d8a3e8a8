from dataclasses import replace

import torch
from other_device import ELSEWHERE, apart
from outer_problems import make_problem, make_state, short

from metaopt.inner.draws import take_draws
from metaopt.outer.loop import before_and_after, sample
from metaopt.trees import take_tasks


def test_a_share_without_tasks_is_scored_on_the_device_too():
    problem = replace(make_problem(), device=ELSEWHERE)
    tasks, draws = sample(problem, "meta_validation", 2, torch.Generator().manual_seed(0))
    state = make_state(make_problem(), short())
    state.policy.to(ELSEWHERE)
    with apart():
        none, two = (
            before_and_after(problem, state.policy, take_tasks(tasks, some), take_draws(draws, some))
            for some in (slice(0, 0), slice(0, 2))
        )
    assert none.shape == (0, 4)
    assert (none.device, none.dtype) == (two.device, two.dtype) == (ELSEWHERE, torch.float64)
