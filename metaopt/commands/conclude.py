"""How a run of meta-training ends: with the policy file, the comparison on held-out tasks, and pictures."""

from __future__ import annotations

from rich.console import Console

from metaopt.commands.held_out import Terms, evaluate_policy
from metaopt.commands.publish import Published, publish
from metaopt.commands.run import Run
from metaopt.commands.run_dir import read_seconds
from metaopt.commands.searching import Searched, search_beside
from metaopt.evaluation.records import Comparison
from metaopt.outer.metrics import read_metrics
from metaopt.outer.mixture import Part, parts_of
from metaopt.policies.file import save_policy
from metaopt.report.figures import save_figure
from metaopt.report.training import meta_training_curves
from metaopt.search.records import Cost
from metaopt.tracking.tracker import Tracker


def conclude(run: Run, tracker: Tracker, console: Console) -> None:
    """The policy file first, so that nothing that follows can cost it; then the comparison and all that is shown."""
    job, files = run.job, run.files
    policy = job.state.policy
    policy.load_state_dict(job.state.best)
    save_policy(files.policy, job.state.best, run.card)
    published = Published()
    facts = {"Meta-training": f"{job.state.iteration} iterations of {job.card.policy.name}, seed {run.config.seed}"}
    for part in parts_of(job.whole, policy):
        comparisons: list[Comparison] = []
        searched = None
        if run.config.evaluation.n_tasks:
            comparisons = evaluate_policy(part.problem, part.policy, _terms(run), console)
            searched = _searched(run, part, comparisons[0], console)
        where = files.of_part(part.name)
        publish(comparisons, searched, part.problem, part.policy, where, console, published, facts)
    curves = save_figure(meta_training_curves(read_metrics(files.metrics)), files.training_figure)
    tracker.finish(published.tables, [*published.figures, curves], files.policy, published.report)
    report = "" if published.report is None else f"Report: {published.report}\n"
    console.print(
        f"Policy: {files.policy}\nFigures: {files.figures}\n{report}{_upload_words(run)}"
        f"On other tasks: python evaluate.py checkpoint={files.folder}",
        highlight=False,
        soft_wrap=True,
    )


def _searched(run: Run, part: Part, comparison: Comparison, console: Console) -> Searched | None:
    config = run.config
    if not config.search.methods:
        return None
    return search_beside(
        config.search,
        part.problem,
        part.policy,
        comparison,
        console,
        dtype=config.inner.dtype,
        fresh=config.evaluation.baseline_init == "fresh",
        cost=Cost(run.spent, read_seconds(run.files.folder)),
    )


def _upload_words(run: Run) -> str:
    offline = run.config.tracking.name == "wandb" and run.config.tracking.mode == "offline"
    kept = run.files.folder / "wandb"
    return f"Weights & Biases, kept offline: wandb sync {kept}/offline-run-*\n" if offline and kept.exists() else ""


def _terms(run: Run) -> Terms:
    evaluation, search = run.config.evaluation, run.config.search
    return Terms(
        split="meta_test",
        n_tasks=evaluation.n_tasks,
        baselines=tuple(evaluation.baselines),
        baseline_init=evaluation.baseline_init,
        trials=search.trials,
        tasks_per_trial=search.tasks_per_trial,
        budget=run.spent,
        seed=run.config.seed,
        batch_statistics=evaluation.batch_statistics,
    )
