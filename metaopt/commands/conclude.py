"""How a run of meta-training ends: with the policy file, the comparison on held-out tasks, and pictures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace

from rich.console import Console

from metaopt.commands.command_line import as_command
from metaopt.commands.held_out import Terms, evaluate_policy
from metaopt.commands.publish import Published, publish
from metaopt.commands.run import Run
from metaopt.commands.run_dir import read_seconds
from metaopt.commands.searching import Searched, search_beside
from metaopt.config.engine import build_objective
from metaopt.config.start import lineage_notes
from metaopt.evaluation.records import Comparison
from metaopt.models.variant import variant
from metaopt.outer.metrics import MetricsFile, read_metrics
from metaopt.outer.mixture import Part, parts_of
from metaopt.outer.problem import InnerProblem
from metaopt.outer.sharpening import Sharpening, sharpen
from metaopt.policies.file import PolicyCard, save_policy
from metaopt.report.figures import save_figure
from metaopt.report.training import meta_training_curves
from metaopt.search.records import Cost
from metaopt.tracking.tracker import Tracker


def conclude(run: Run, tracker: Tracker, console: Console) -> None:
    """The policy file first, so that nothing that follows can cost it; then the comparison and all that is shown."""
    job, files = run.job, run.files
    policy = job.state.policy
    policy.load_state_dict(job.state.best)
    sharpening = sharpen(job.whole, policy, job.validations, lambda problem, names: _rebuilt(run, problem, names))
    whole, card, notes = job.whole, run.card, ()
    if sharpening is not None:
        whole, policy, notes = sharpening.problem, sharpening.policy, (sharpening.describe(),)
        card = _told(run, sharpening, tracker, console)
    save_policy(files.policy, dict(policy.named_parameters()), card)
    published = Published()
    facts = {"Meta-training": f"{job.state.iteration} iterations of {job.card.policy.name}, seed {run.config.seed}"}
    for part in parts_of(whole, policy):
        comparisons: list[Comparison] = []
        searched = None
        if run.config.evaluation.n_tasks:
            told = (*lineage_notes(card, part.problem.family), *notes)
            comparisons = evaluate_policy(part.problem, part.policy, _terms(run, told), console)
            searched = _searched(run, part, comparisons[0], console)
        where = files.of_part(part.name)
        publish(comparisons, searched, part.problem, part.policy, where, console, published, facts)
    curves = save_figure(meta_training_curves(read_metrics(files.metrics)), files.training_figure)
    tracker.finish(published.tables, [*published.figures, curves], files.policy, published.report)
    report = "" if published.report is None else f"Report: {published.report}\n"
    console.print(
        f"Policy: {files.policy}\nFigures: {files.figures}\n{report}{_upload_words(run)}"
        f"On other tasks: {as_command('evaluate.py', checkpoint=files.folder)}",
        highlight=False,
        soft_wrap=True,
    )


def _told(run: Run, sharpening: Sharpening, tracker: Tracker, console: Console) -> PolicyCard:
    """Says what sharpening cost, in the metrics too; the card of the policy of one choice."""
    state = run.job.state
    record = sharpening.record(state.iteration)
    metrics = MetricsFile(run.files.metrics, state.metrics)  # what an earlier attempt to conclude wrote goes
    metrics.write(record)
    metrics.close()
    tracker.log(record, state.iteration)
    told = sharpening.describe()
    console.print(told[0].upper() + told[1:], highlight=False, soft_wrap=True)
    model = parts_of(sharpening.problem, sharpening.policy)[0].problem.model
    return replace(
        run.card,
        policy=sharpening.policy.settings,
        model=model.spec,
        parameters={name: tuple(shape) for name, shape in model.shapes.items()},
        roles=model.roles,
        mixed=sharpening.policy.mixed,
        config=run.card.config | {"model": run.card.config["model"] | _of_model(record["choices"])},
    )


def _rebuilt(run: Run, problem: InnerProblem, names: Mapping[str, str]) -> InnerProblem:
    """The problem with a model of the choices."""
    changes = _of_model(names)
    if not changes:
        return problem
    spec, aim = problem.family.spec, run.config.outer.objective
    model = variant(problem.model, spec, changes)
    return replace(problem, model=model, objective=build_objective(model, spec, run.config.inner.dtype, aim))  # type: ignore[arg-type]


def _of_model(names: Mapping[str, str]) -> dict[str, str]:
    """Those of the choices that are settings of the model."""
    return {what: name for what, name in names.items() if what == "activation"}


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
    if not (offline and kept.exists()):
        return ""
    return f"Weights & Biases, kept offline: wandb sync {shlex.quote(str(kept))}/offline-run-*\n"


def _terms(run: Run, notes: tuple[str, ...]) -> Terms:
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
        notes=notes,
        batch_statistics=evaluation.batch_statistics,
    )
