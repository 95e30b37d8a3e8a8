"""`evaluate.py` and `metaopt-evaluate`: what a policy is worth on tasks that it has never seen."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor

from metaopt.commands.command_line import MULTIRUN_FLAGS, value_of
from metaopt.commands.held_out import Terms, evaluate_policy
from metaopt.commands.launch import given_overrides, launch, warn
from metaopt.commands.progress import make_console, show_tables
from metaopt.commands.publish import Published, publish
from metaopt.commands.run_dir import RunFiles, check_free, claim, policy_path, read_seconds
from metaopt.commands.searching import search_beside
from metaopt.config.build import build_problem, build_tracker
from metaopt.config.build_search import check_search
from metaopt.config.device import on_gpu, use_device
from metaopt.config.load import (
    checkpoint_path,
    evaluate_config,
    model_config,
    parts_config,
    tasks_config,
    to_yaml,
    typed,
)
from metaopt.config.schema import EvaluateConfig, InnerConfig
from metaopt.config.start import lineage_notes
from metaopt.errors import ConfigError, PolicyFileError
from metaopt.outer.problem import InnerProblem, horizons_in_words
from metaopt.outer.state import load_best
from metaopt.policies.file import PolicyCard
from metaopt.policies.fitting import fit_policy
from metaopt.policies.policy import Policy
from metaopt.search.records import Cost
from metaopt.types import Split


def main() -> None:
    """The console script."""
    sys.exit(launch("evaluate", evaluate, sys.argv[1:], prepare=with_groups_of_checkpoint))


def evaluate(raw: DictConfig) -> int:
    """Evaluates one policy.

    Args:
        raw: the composed configuration.

    Returns:
        Exit code 0.
    """
    console = make_console()
    source = load_source(checkpoint_path(raw))
    config = evaluate_config(_completed(raw, source))
    check_free(Path(config.run_dir))
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = use_device(config.device)
    inner = source.inner if config.horizon is None else replace(source.inner, horizon=config.horizon)
    parts = parts_config(config.tasks).configs
    problems = {
        name: build_problem(tasks, config.model, inner, source.card.policy, device) for name, tasks in parts.items()
    }
    fits = {
        name: fit_policy(source.tensors, source.card, problem.model, source.path, problem.horizon)
        for name, problem in problems.items()
    }
    for problem in problems.values():
        check_search(config.search, problem, source.card.policy, config.batch_statistics, config.evaluate.fallback)
    notes = {name: _notes(source.card, problem, fits[name].note, len(parts) > 1) for name, problem in problems.items()}
    for note in dict.fromkeys(note for of_part in notes.values() for note in of_part):
        warn(note)
    files = claim(Path(config.run_dir), to_yaml(config))
    show_tables([problem.family for problem in problems.values()], console)
    record = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(record, dict), "a configuration is a dictionary"
    with closing(build_tracker(config.tracking, files.folder, {str(k): v for k, v in record.items()}, warn)) as tracker:
        published = Published()
        for name, problem in problems.items():
            policy = fits[name].policy.to(device, problem.dtype)
            _evaluate_part(config, source, problem, policy, notes[name], files.of_part(name), console, published)
        tracker.finish(published.tables, published.figures, None, published.report)
    return 0


def _evaluate_part(
    config: EvaluateConfig,
    source: Source,
    problem: InnerProblem,
    policy: Policy,
    notes: tuple[str, ...],
    files: RunFiles,
    console: Console,
    into: Published,
) -> None:
    console.print(
        f"Evaluating {source.card.policy.name} on {problem.family.name} with {problem.model.spec['name']}: "
        f"{config.n_tasks} tasks of {config.split}, horizon {problem.horizon}{on_gpu(problem.device)}.",
        highlight=False,
        soft_wrap=True,
    )
    comparisons = evaluate_policy(problem, policy, _terms(config, source, notes), console)
    searched = search_beside(
        config.search,
        problem,
        policy,
        comparisons[0],
        console,
        dtype=source.inner.dtype,
        fresh=config.baseline_init == "fresh",
        cost=Cost(source.budget, read_seconds(source.path.parent)),
        fallback=config.evaluate.fallback,
    )
    known = len(into.results)
    publish(comparisons, searched, problem, policy, files, console, into, _facts(source))
    results = " and ".join(map(str, into.results[known:]))
    console.print(
        f"Results: {results}\nFigures: {files.figures}\nReport: {files.report}", highlight=False, soft_wrap=True
    )


def _facts(source: Source) -> dict[str, str]:
    seconds = read_seconds(source.path.parent)
    spent = f"{source.budget} inner steps" + ("" if seconds is None else f", {seconds:.0f} seconds")
    return {"Policy": f"{source.card.policy.name}, {source.path}", "Meta-training": f"on {source.card.tasks}: {spent}"}


def _notes(card: PolicyCard, problem: InnerProblem, fit: str, in_mixture: bool) -> tuple[str, ...]:
    """What a reader must know; that a part of a mixture is not the whole of it is known."""
    known = in_mixture and card.tasks != problem.family.name
    return (*([fit] if fit and not known else []), *([] if known else differences(card, problem)))


@dataclass(frozen=True)
class Source:
    """A policy as a file gave it.

    Attributes:
        tensors: its parameters.
        card: what the file says of it.
        inner: the inner loop that it was meta-trained in.
        budget: inner steps that meta-training spent.
        path: the file.
    """

    tensors: dict[str, Tensor]
    card: PolicyCard
    inner: InnerConfig
    budget: int
    path: Path


def load_source(checkpoint: Path) -> Source:
    """Reads `checkpoint=`: a run directory, a policy.safetensors or a checkpoint.pt (of which the best policy so far).

    Raises:
        PolicyFileError: it is none of these, or is damaged.
    """
    path = policy_path(checkpoint)
    tensors, card = load_best(path)
    try:
        inner = typed(OmegaConf.create(card.config["inner"]), InnerConfig, "inner")
        budget = card.config["meta_training_inner_steps"]
        if isinstance(budget, bool) or not isinstance(budget, int):
            raise TypeError(f"meta_training_inner_steps is {budget!r}")
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise PolicyFileError(f"{path} has damaged metadata ({error}); train the policy again") from error
    return Source(tensors, card, inner, budget, path)


def with_groups_of_checkpoint(overrides: list[str]) -> list[str]:
    """Puts the task family and model of `checkpoint=` first, so that their fields can be overridden one by one."""
    checkpoint = value_of(overrides, "checkpoint")
    if checkpoint is None or any(word in MULTIRUN_FLAGS for word in overrides):
        return overrides
    card = load_source(Path(checkpoint)).card
    groups = [
        f"{group}={name}"
        for group in ("tasks", "model")
        if isinstance(name := _settings(card, group).get("name"), str)
        and name.isidentifier()
        and not any(word.startswith(f"{group}=") for word in overrides)
    ]
    return [*groups, *overrides]


def differences(card: PolicyCard, problem: InnerProblem) -> tuple[str, ...]:
    """What a reader must know where evaluation differs from meta-training, a sentence each."""
    found = []
    trained = problem.horizons or (card.horizon,)
    if problem.horizon not in trained:
        words = horizons_in_words(trained)
        found.append(f"the policy was meta-trained for {words} and is evaluated at {problem.horizon}")
    if problem.family.name != card.tasks:
        found.append(
            f"the policy was meta-trained on {card.tasks} and is evaluated on {problem.family.name}; a search behind "
            f"'tuned' sees meta-train tasks of {problem.family.name}"
        )
    elif problem.family.split_hash != card.split_hash:
        found.append(
            f"the splits of {card.tasks} are not those of meta-training (hash {problem.family.split_hash} instead of "
            f"{card.split_hash}): held-out tasks may have been trained on"
        )
    return (*found, *lineage_notes(card, problem.family))


def _completed(raw: DictConfig, source: Source) -> DictConfig:
    """`tasks` and `model` as in meta-training unless others were asked for, with the fields that were overridden."""
    given = given_overrides()
    for group, check in (("tasks", tasks_config), ("model", model_config)):
        known = _settings(source.card, group)
        chosen = [word.partition("=")[2] for word in given if word.startswith(f"{group}=")]
        if chosen and chosen[-1] != known.get("name"):
            continue
        fields = [word.partition("=")[0].partition(".")[2] for word in given if word.startswith(f"{group}.")]
        try:
            as_trained = asdict(check(known))
        except (ConfigError, ValueError) as error:
            raise PolicyFileError(f"{source.path} has damaged metadata ({error}); train the policy again") from error
        # A file from someone else must not make this machine fetch anything.
        as_trained |= {"download": False} if "download" in as_trained else {}
        raw[group] = OmegaConf.merge(as_trained, {field: raw[group][field] for field in fields})
    return raw


def _settings(card: PolicyCard, group: str) -> dict[str, Any]:
    settings = card.config.get(group)
    return settings if isinstance(settings, dict) else {}


def _terms(config: EvaluateConfig, source: Source, notes: tuple[str, ...]) -> Terms:
    split: Split = config.split  # type: ignore[assignment]
    # Searches are held against it, and a fallback needs something to fall back on.
    mapped = config.search.methods or (config.evaluate.fallback and "tuned" not in config.baselines)
    return Terms(
        split=split,
        n_tasks=config.n_tasks,
        baselines=tuple(dict.fromkeys([*config.baselines, *(["mapped"] if mapped else [])])),
        baseline_init=config.baseline_init,
        trials=config.search.trials,
        tasks_per_trial=config.search.tasks_per_trial,
        budget=source.budget,
        seed=config.seed,
        notes=notes,
        batch_statistics=config.batch_statistics,
    )
