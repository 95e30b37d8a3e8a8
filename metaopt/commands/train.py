"""`train_meta.py` and `metaopt-train`: meta-train a policy, then compare it on held-out tasks."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from metaopt.commands.command_line import as_command
from metaopt.commands.conclude import conclude
from metaopt.commands.interrupt import stop_on_signals
from metaopt.commands.launch import given_overrides, launch, warn
from metaopt.commands.lock import DirectoryLock
from metaopt.commands.progress import MetaTrainingProgress, make_console, show_tables
from metaopt.commands.run import Run
from metaopt.commands.run_dir import (
    RunFiles,
    check_free,
    claim,
    existing_run,
    read_plan,
    read_seconds,
    tidy,
    write_plan,
    write_seconds,
)
from metaopt.commands.same_run import begun_with, check_same_card, record_of
from metaopt.commands.together import check_devices, check_shares, first_alone, together
from metaopt.config.build import Job, build_job, build_tracker
from metaopt.config.device import on_gpu, use_device
from metaopt.config.load import read_config, to_yaml, train_config
from metaopt.config.schema import TrackingConfig, TrainConfig
from metaopt.config.start import with_lineage
from metaopt.errors import ConfigError, PolicyFileError
from metaopt.inner.plan import Plan
from metaopt.outer.loop import meta_train
from metaopt.outer.metrics import MetricsFile, Record, kept_bytes
from metaopt.outer.mixture import counts_of
from metaopt.outer.problem import horizons_in_words
from metaopt.outer.ranks import Ranks, from_environment
from metaopt.outer.state import MetaState, load_checkpoint, restore_state, save_state
from metaopt.policies.policy import Policy
from metaopt.policies.reading import PolicyReading, read_policy
from metaopt.tracking.none import NoTracker
from metaopt.tracking.tracker import Tracker, policy_histograms
from metaopt.tracking.wandb_tracker import mode_of_environment


def main() -> None:
    """The console script."""
    sys.exit(launch("train", train, sys.argv[1:]))


def train(raw: DictConfig) -> int:
    """Runs or resumes one run; under torchrun in several processes, of which the first writes and evaluates.

    Args:
        raw: the composed configuration.

    Returns:
        Exit code: 0, or 128 + signal number where a signal ended it early.
    """
    with closing(from_environment()) as ranks:
        return _train(raw, ranks)


def _train(raw: DictConfig, ranks: Ranks) -> int:
    with ExitStack() as held:
        return _run(_resumed_run(raw, ranks, held) if raw.resume is not None else _new_run(raw, ranks, held), ranks)


def _run(run: Run, ranks: Ranks) -> int:
    is_first = ranks.rank == 0
    console = make_console(quiet=not is_first)
    check_devices(run.job.problem.device.type, ranks)
    check_shares(min(counts_of(run.job.whole, run.job.outer.meta_batch)), ranks)
    if _is_complete(run):
        told = f"{run.files.folder} is complete already; it holds {run.files.policy.name}"
        console.print(told, highlight=False, soft_wrap=True)
        return 0
    show_tables([part.family for part in run.job.parts.values()], console)
    console.print(_opening(run, ranks.count), highlight=False, soft_wrap=True)
    tracker: Tracker = NoTracker()
    if is_first:
        tracker = build_tracker(run.config.tracking, run.files.folder, _as_record(run.config), warn)
    try:
        signal_code = _meta_train(run, tracker, console, ranks) if is_first else _meta_train_unseen(run, ranks)
        if signal_code:
            ranks.any(False)  # torchrun ends all when one has ended: nobody leaves before the checkpoint is written
            console.print(
                f"stopped after iteration {run.job.state.iteration}; go on with: "
                f"{as_command('train_meta.py', resume=run.files.folder)}",
                highlight=False,
                soft_wrap=True,
            )
            return signal_code
        if is_first:
            conclude(run, tracker, console)
    finally:
        tracker.close()
    return 0


def _new_run(raw: DictConfig, ranks: Ranks, held: ExitStack) -> Run:
    def prepared(first_plan: str) -> tuple[TrainConfig, Job]:
        config = train_config(raw)
        check_shares(config.outer.meta_batch, ranks)
        if ranks.rank == 0:
            check_free(Path(config.run_dir))
        device = _set_up(config)
        plan = Plan.from_json(json.loads(first_plan)) if first_plan else None
        return config, build_job(config, plan, warn, device)

    # A plan depends on measured times; that of process 0 is kept, and all follow it.
    config, job = first_alone(ranks, prepared, lambda of_first: json.dumps(asdict(of_first[1].plan)))
    config.run_dir = ranks.texts(config.run_dir)[0]  # the time in the name is that of each process
    folder = Path(config.run_dir)
    files = together(ranks, lambda: RunFiles(folder) if ranks.rank else claim(folder, to_yaml(config)))
    lock = _locked(files, ranks, held)
    if ranks.rank == 0:
        write_plan(files, job.plan)
    return Run(config, job, files, lock)


def _resumed_run(raw: DictConfig, ranks: Ranks, held: ExitStack) -> Run:
    return first_alone(ranks, lambda _: _where_it_stopped(raw, ranks, held))


def _locked(files: RunFiles, ranks: Ranks, held: ExitStack) -> DirectoryLock | None:
    """The directory, held by process 0 until the run is over, and rid of what killed writers left half-done."""
    if ranks.rank:
        return None
    lock = held.enter_context(closing(DirectoryLock(files.folder, warn)))
    tidy(files.folder)
    return lock


def _where_it_stopped(raw: DictConfig, ranks: Ranks, held: ExitStack) -> Run:
    others = [word for word in given_overrides() if word.lstrip("+").partition("=")[0] not in ("resume", "device")]
    if others:
        raise ConfigError(
            f"resume= goes on with the run's own configuration, but {others[0]} is given too; only "
            "device= may be, so leave it out, or start a new run"
        )
    files = existing_run(Path(str(raw.resume)))
    lock = _locked(files, ranks, held)
    config, plan = read_config(files.config), read_plan(files)
    if any(word.lstrip("+").startswith("device=") for word in given_overrides()):
        config = replace(config, device=str(raw.device))  # for this time; the directory keeps what the run began with
    if config.tracking.mode != "disabled":  # which may have been typed, and stays so
        config = replace(config, tracking=replace(config.tracking, mode=mode_of_environment(config.tracking.mode)))
    check_shares(config.outer.meta_batch, ranks)
    if not files.checkpoint.exists():
        if files.policy.exists():
            raise PolicyFileError(f"{files.folder} holds a policy but no checkpoint.pt to go on from; start a new run")
        job = build_job(config, plan, warn, _set_up(config))
        return _planned(Run(config, job, files, lock), ranks)
    content, card = load_checkpoint(files.checkpoint)
    plan = begun_with(files, content["config"], _as_record(config), plan)
    # What the run began with is in its checkpoint, so that its file may be gone by now.
    job = build_job(replace(config, outer=replace(config.outer, start=None)), plan, warn, _set_up(config))
    job = replace(job, card=with_lineage(job.card, card))
    check_same_card(files, card, job.card)
    restore_state(job.state, content, files.checkpoint, job.outer)
    kept_bytes(files.metrics, job.state.metrics)
    return _planned(Run(config, job, files, lock), ranks)


def _planned(run: Run, ranks: Ranks) -> Run:
    if ranks.rank == 0 and not run.files.plan.exists():
        write_plan(run.files, run.job.plan)
    return run


def _set_up(config: TrainConfig) -> torch.device:
    """Sets what holds for the whole process, and says where it computes."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    return use_device(config.device)


def _is_complete(run: Run) -> bool:
    return run.files.policy.exists() and run.files.training_figure.exists()  # which is written last


def _opening(run: Run, processes: int) -> str:
    config, job = run.config, run.job
    outer = config.outer
    begun = f", from iteration {job.state.iteration}" if job.state.iteration else ""
    horizons = horizons_in_words(job.problem.horizons or (config.inner.horizon,))
    where = on_gpu(job.problem.device) + (f", in {processes} processes" if processes > 1 else "")
    return (
        f"Meta-training {job.card.policy.name} on {job.card.tasks} with {job.card.model['name']}: "
        f"{outer.iterations} iterations of {outer.meta_batch} tasks, {horizons}{where}{begun}."
        f"{' ' + job.begins if job.begins else ''}\n{job.plan.describe()}\nRun directory: {run.files.folder}"
    )


def _as_record(config: TrainConfig) -> dict[str, Any]:
    record = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(record, dict)
    return {str(key): value for key, value in record.items()}


def _meta_train(run: Run, tracker: Tracker, console: Console, ranks: Ranks) -> int:
    """Returns 0 when meta-training is over, else the exit code of the signal that ended it."""
    job, state = run.job, run.job.state
    metrics = MetricsFile(run.files.metrics, state.metrics)
    record = record_of(_as_record(run.config), job.plan)

    began, before = time.monotonic(), read_seconds(run.files.folder) or 0.0

    def save(at: MetaState) -> None:
        _check_there(run)
        at.metrics = metrics.sync()
        save_state(run.files.checkpoint, at, run.card, record)
        write_seconds(run.files, before + time.monotonic() - began, run.spent)

    try:
        with (
            stop_on_signals() as stop,
            MetaTrainingProgress(console, job.outer.iterations, state.iteration) as progress,
        ):
            track = _tracking(tracker, run.config.tracking, lambda: _read(job, state.policy))

            def log(record: Record) -> None:
                _check_there(run)
                metrics.write(record)
                progress(record)
                track(record)

            done = meta_train(job.whole, job.outer, state, job.validations, log, save, stop, ranks)
    finally:
        metrics.close()
    return 0 if done else stop.exit_code


def _check_there(run: Run) -> None:
    if run.lock is not None:
        run.lock.check()


def _meta_train_unseen(run: Run, ranks: Ranks) -> int:
    """The same in a process that only computes."""
    job = run.job
    with stop_on_signals(quiet=True) as stop:
        done = meta_train(job.whole, job.outer, job.state, job.validations, _ignore, _ignore, stop, ranks)
    return 0 if done else stop.exit_code


def _ignore(_: Record | MetaState) -> None:
    pass


def _tracking(
    tracker: Tracker, config: TrackingConfig, reading: Callable[[], PolicyReading]
) -> Callable[[Record], None]:
    """Passes on every meta-validation, and of meta-training every k-th record and those with dropped tasks."""

    def track(record: Record) -> None:
        iteration = record["iteration"]
        if record["kind"] != "meta_train" or record["dropped"] or iteration % config.log_every == 0:
            tracker.log(record, iteration)
        if record["kind"] == "meta_train" and iteration % config.histograms_every == 0:
            tracker.histograms(policy_histograms(reading()), iteration)

    return track


def _read(job: Job, policy: Policy) -> PolicyReading:
    return read_policy(policy, job.problem.family.spec.input_shape)
