"""What two processes are compared with one on; run as a script, it is one of the two."""

import importlib
import os
import sys
from pathlib import Path

import torch
from outer_problems import SETTINGS, make_problem, make_state, make_validation, parameters, short

from metaopt.errors import MetaTrainingError
from metaopt.inner.hypergradient import hypergradients_of
from metaopt.outer.loop import HOPELESS, meta_train, outer_step
from metaopt.outer.ranks import from_environment
from metaopt.outer.state import new_state
from metaopt.policies.policy import Policy


def steps_in_double_precision(ranks, spoilt=()):
    """Three outer steps along random hypergradients of five tasks, some of them not finite."""
    problem, settings = make_problem(), short(clip=None)
    policy = Policy(SETTINGS, problem.model.shapes, problem.model.init, problem.horizon).double()
    generator = torch.Generator().manual_seed(0)
    state = new_state(policy, settings, torch.Generator())
    with torch.no_grad():
        for group in state.optimizer.param_groups:
            group["params"][0].normal_(generator=generator)
    records = []
    for _ in range(3):
        named = state.policy.named_parameters()
        grads = {name: torch.randn(5, *p.shape, generator=generator, dtype=p.dtype) for name, p in named}
        loss, accuracy, support_loss = torch.rand(3, 5, generator=generator, dtype=torch.float64)
        for task, value in spoilt:
            grads["momentum_logit"][task] = value
        share = ranks.share(5)
        own = (values[share] for values in (loss, accuracy, support_loss))
        found = hypergradients_of({name: g[share] for name, g in grads.items()}, *own)
        records.append(outer_step(state, settings, found, ranks))
        state.iteration += 1
    return {"policy": parameters(state), "records": records, "dropped": state.dropped}


def whole_run(ranks, meta_batch=3, validation_tasks=5, **options):
    """A meta-training, and where it left the state."""
    problem, settings = make_problem(), short(meta_batch=meta_batch, checkpoint_every=100)
    state, records, saved = make_state(problem, settings), [], []
    done = meta_train(
        problem,
        settings,
        state,
        make_validation(problem, validation_tasks),
        records.append,
        lambda at: saved.append(at.iteration),
        ranks=ranks,
        **options,
    )
    return {
        "policy": parameters(state),
        "best": state.best,
        "records": records,
        "saved": saved,
        "done": done,
        "generator": state.generator.get_state(),
    }


def stopped_by_the_last(ranks):
    """Only the last process is asked to stop, and only after its fifth iteration."""
    answers = iter([ranks.rank == ranks.count - 1 and k == 5 for k in range(1, 13)])
    return whole_run(ranks, stop=lambda: next(answers))


def hopeless(ranks):
    """The error, and the iteration at which nothing finite had come for too long."""
    settings = short()
    state = make_state(make_problem(), settings)
    count = len(range(4)[ranks.share(4)])
    grads = {name: torch.full((count, *p.shape), torch.nan) for name, p in state.policy.named_parameters()}
    found = hypergradients_of(grads, *torch.rand(3, count))
    records = []
    try:
        while len(records) < HOPELESS:
            records.append(outer_step(state, settings, found, ranks))
    except MetaTrainingError as error:
        return len(records), str(error)
    return None


def conversation(ranks):
    """What the processes tell each other."""
    rows = torch.arange(12.0).reshape(3, 4)
    rows[1, 2], rows[2, 0] = torch.nan, -torch.inf
    return {
        "place": (ranks.rank, ranks.count),
        "shares": [len(range(n)[ranks.share(n)]) for n in range(6)],
        "uneven": ranks.gather(rows[ranks.share(3)], 3),
        "too_few": ranks.gather(rows[:1][ranks.share(1)], 1),
        "any": [ranks.any(flag) for flag in (False, ranks.rank == 0, ranks.rank == ranks.count - 1)],
        "texts": ranks.texts("ä" * (ranks.rank + 1)),
        # Whose sum depends on the order of its terms.
        "sum": ranks.sum(torch.tensor([0.1, 1e16, 1 / 3], dtype=torch.float64) * (1 + ranks.rank)),
    }


def scenarios(ranks):
    """All of it, by name."""
    return {
        "conversation": conversation(ranks),
        "steps": steps_in_double_precision(ranks),
        "spoilt": steps_in_double_precision(ranks, [(4, torch.nan)]),
        "share_lost": steps_in_double_precision(ranks, [(task, torch.inf) for task in (2, 3, 4)]),
        "run": whole_run(ranks),
        "few": whole_run(ranks, meta_batch=2, validation_tasks=1),
        "stopped": stopped_by_the_last(ranks),
        "hopeless": hopeless(ranks),
    }


def threads():
    """Names of this process's threads; none where the system does not tell."""
    return sorted(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))


def main(folder):
    torch.set_num_threads(1)
    ranks = from_environment()
    importlib.import_module("torch.distributed.nn.functional")  # as torch.compile does; it would keep the group
    found = scenarios(ranks)
    if ranks.rank == 1:
        torch.save(found, folder / "1.pt")
        os._exit(0)  # as a process that is killed
    try:
        ranks.sum(torch.zeros(1))
    except MetaTrainingError as error:
        found["left_alone"] = str(error)
    found["threads"] = threads()
    ranks.close()
    found["threads_of_closed"] = threads()
    torch.save(found, folder / "0.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
