"""Hydra around a command: overrides in, one-line errors and exit codes out."""

from __future__ import annotations

import difflib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from metaopt.commands.command_line import MULTIRUN_FLAGS, as_hydra_reads, expand_homes
from metaopt.commands.faults import FAULTS, in_words, lasting_output
from metaopt.config.families import tasks_schemas
from metaopt.errors import ConfigError, MetaoptError
from metaopt.outer.ranks import place
from metaopt.tracking.wandb_tracker import mode_of_environment

VERSION_BASE = "1.3"
SIGNALLED = 128


class _Stopped(BaseException):
    """Ends a sweep at once; no exception that Hydra would report."""


def launch(
    config_name: str,
    command: Callable[[DictConfig], int],
    overrides: Sequence[str],
    prepare: Callable[[list[str]], list[str]] = list,
) -> int:
    """Composes the configuration and runs the command, once or for every job of a `--multirun`.

    Args:
        config_name: primary configuration in `conf/`.
        command: gets the composed configuration and returns an exit code. A MetaoptError that it raises is printed in
            one line.
        overrides: the command line without the program's name.
        prepare: makes of these what Hydra composes from.

    Returns:
        The largest exit code of all jobs.
    """
    codes = [0]

    def job(raw: DictConfig) -> None:
        codes.append(attempt(config_name, command, _settled(raw)))
        if codes[-1] > SIGNALLED:  # whoever stops a job of a sweep does not want the next one
            raise _Stopped

    with lasting_output():
        try:
            return _launched(config_name, job, codes, overrides, prepare)
        except MetaoptError as error:
            return complain(error)
        except FAULTS as error:
            return complain(in_words(error, config_name))


def _launched(
    config_name: str,
    job: Callable[[DictConfig], None],
    codes: list[int],
    overrides: Sequence[str],
    prepare: Callable[[list[str]], list[str]],
) -> int:
    offer_registered()
    check_processes(config_name, overrides)
    overrides = prepare(as_hydra_reads(overrides))
    check_overrides(config_name, overrides)
    before = sys.argv
    sys.argv = [before[0], *overrides]
    try:
        with _raising():
            hydra.main(version_base=VERSION_BASE, config_path=str(config_folder()), config_name=config_name)(job)()
    except _Stopped:
        return codes[-1]
    except KeyboardInterrupt:
        say("interrupted; what the run directory holds is complete, and train_meta.py goes on with resume=RUN_DIR")
        return SIGNALLED + signal.SIGINT
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, None)) from error
    finally:
        sys.argv = before
    return max(codes)


@contextmanager
def _raising() -> Iterator[None]:
    """Hydra raises what went wrong, such as a directory of a sweep that cannot be made, instead of printing it."""
    name = "HYDRA_FULL_ERROR"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def attempt(config_name: str, command: Callable[[DictConfig], int], raw: DictConfig) -> int:
    """Runs the command once; the exit code, that of an error where one ended it, which is printed in one line."""
    try:
        return command(raw)
    except MetaoptError as error:
        return complain(error)
    except FAULTS as error:
        return complain(in_words(error, config_name, raw))


def offer_registered() -> None:
    """Makes `tasks=NAME` a choice for the families that have no file in `conf/`, with their constructors' defaults."""
    for name, schema in tasks_schemas().items():
        if not (config_folder() / "tasks" / f"{name}.yaml").exists():
            ConfigStore.instance().store(name, OmegaConf.to_container(OmegaConf.structured(schema)), group="tasks")


def complain(error: MetaoptError) -> int:
    """Prints an error in one line, and what it lists (indented by two spaces) in one each; returns its exit code."""
    say("error: " + "\n  ".join(" ".join(part.split()) for part in str(error).split("\n  ")))
    return error.exit_code


def warn(text: str) -> None:
    """Prints a warning in one line."""
    say("warning: " + " ".join(text.split()))


def say(line: str) -> None:
    """Prints a line to standard error; of torchrun's processes, which all come to say the same, only the first does."""
    try:
        rank, _ = place()
    except ConfigError:
        rank = 0
    if rank == 0:
        print(line, file=sys.stderr, flush=True)


def given_overrides() -> list[str]:
    """What was typed for the job that runs, such as `outer.lr=0.01`."""
    return list(HydraConfig.get().overrides.task)


def config_folder() -> Path:
    """`conf/`: inside the package when it was installed from a wheel, beside it in a checkout.

    Raises:
        ConfigError: neither is there.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(f"no conf/ folder in or beside {package}; install metaopt again")


def check_overrides(config_name: str, overrides: Sequence[str]) -> None:
    """Composes ahead of Hydra, whose own complaints span many lines; of a sweep, every value once.

    Other flags than `--multirun` are left to Hydra.

    Raises:
        ConfigError: an override names nothing that exists, or cannot be parsed.
    """
    words = [word for word in overrides if word not in MULTIRUN_FLAGS]
    if any(word.startswith("-") for word in words):
        return
    with initialize_config_dir(str(config_folder()), version_base=VERSION_BASE):
        try:
            for job in _jobs(words) if len(words) < len(overrides) else [words]:
                compose(config_name, overrides=job)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(_explain(error, compose(config_name))) from error


def check_processes(config_name: str, overrides: Sequence[str]) -> None:
    """Raises ConfigError where all of torchrun's processes would do the same; only a meta-training divides its work."""
    if place()[1] == 1:
        return
    if config_name != "train":
        raise ConfigError("only meta-training runs in several processes; start this one without torchrun")
    for word in overrides:
        if word in MULTIRUN_FLAGS:
            raise ConfigError(f"{word} does not go with torchrun; start each run with a torchrun of its own")


def _jobs(words: list[str]) -> list[list[str]]:
    """Jobs in which every value of every sweep comes up once: not all combinations, but all that can be mistyped."""
    choices: list[list[str]] = []
    for word, override in zip(words, OverridesParser.create().parse_overrides(words), strict=True):
        if override.is_sweep_override():
            choices.append([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([word])
    longest = max((len(values) for values in choices), default=1)
    return [[values[min(i, len(values) - 1)] for values in choices] for i in range(longest)]


def _explain(error: Exception, default: DictConfig | None) -> str:
    text = " ".join(str(error).split()).partition(" Config search path:")[0]
    if not text.startswith("Could not override '") or default is None:
        return text
    unknown = text.split("'")[1]
    return f"unknown override '{unknown}'; {_hint(unknown, _paths(OmegaConf.to_container(default, resolve=False)))}"


def _hint(unknown: str, known: list[str]) -> str:
    group, _, name = unknown.rpartition(".")
    close = difflib.get_close_matches(unknown, known, n=1, cutoff=0.8)
    close = close or [path for path in known if path.split(".")[-1] == name][:1]
    if close:
        return f"did you mean '{close[0]}'?"
    siblings = [path for path in known if group and path.rpartition(".")[0] == group]
    if siblings:
        return f"known there: {', '.join(siblings)}"
    return "--help lists the most used, --cfg job all of them"


def _paths(tree: Any, prefix: str = "") -> list[str]:
    if not isinstance(tree, dict):
        return []
    found: list[str] = []
    for key, value in tree.items():
        found += [f"{prefix}{key}", *_paths(value, f"{prefix}{key}.")]
    return found


def _settled(raw: DictConfig) -> DictConfig:
    """What is not in the YAML: home directories for ~, W&B's own switch, and for every job of a `--multirun` a run
    directory of its own below the common one."""
    expand_homes(raw)
    if "tracking" in raw and not any(word.lstrip("+").startswith("tracking.mode=") for word in given_overrides()):
        raw.tracking.mode = mode_of_environment(raw.tracking.mode)
    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN:
        raw.run_dir = settings.runtime.output_dir
    return raw
