"""`python -m metaopt.tasks describe`: the data card of a family."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from metaopt.commands.launch import given_overrides, launch
from metaopt.commands.progress import make_console, show_tables
from metaopt.config.families import build_family
from metaopt.config.load import describe_config, parts_config
from metaopt.errors import ConfigError
from metaopt.report.example_tasks import SPLIT_TITLES, example_tasks
from metaopt.report.figures import save_figure
from metaopt.tasks.family import OfMembers, TaskFamily
from metaopt.types import SPLITS, Kind, Split, TaskBatch

EXAMPLES = 3
"""Tasks of each split in the picture."""
MOST_NAMES = 6


def main() -> None:
    """The command line, of which the first word says what to do."""
    words = sys.argv[1:]
    if words[:1] != ["describe"]:
        print("usage: python -m metaopt.tasks describe tasks=NAME [FIELD=VALUE ...]", file=sys.stderr)
        sys.exit(0 if words[:1] in (["--help"], ["-h"]) else 2)
    sys.exit(launch("describe", describe, words[1:]))


def describe(raw: DictConfig) -> int:
    """Prints the data card of a family, or of each part of a mixture, and saves its picture.

    Args:
        raw: the composed configuration.

    Returns:
        Exit code 0.
    """
    console = make_console()
    config = describe_config(raw)
    if any(word.lstrip("+").startswith("run_dir=") for word in given_overrides()):
        raise ConfigError("run_dir is where runs write; a description writes a picture only: give picture=PATH")
    for name, tasks in parts_config(config.tasks).configs.items():
        family = build_family(tasks)
        batches: dict[Split, TaskBatch] = {split: _sample(family, split, config.seed) for split in SPLITS}
        show_tables([family], console)
        for shown in _card(family, batches["meta_train"]):
            console.print(shown)
        if config.picture is not None:
            _picture(console, family, batches, _path(config.picture, name), config.seed)
    return 0


def _card(family: TaskFamily, example: TaskBatch) -> list[RenderableType]:
    """The card, top to bottom."""
    spec = family.spec
    kind = "regression" if spec.kind is Kind.regression else "classification"
    shape = " × ".join(map(str, spec.input_shape))
    most = "up to " if spec.padded else ""
    several = "classes" if spec.kind is Kind.classification else "targets" if spec.output_size > 1 else "target"
    outputs = f"{most if several == 'classes' else ''}{spec.output_size} {several}"
    sets = ", ".join(f"{name} {part.x.shape[1]}" for name, part in zip(example._fields, example, strict=True))
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for key, value in (
        ("family", family.name),
        ("kind", f"{kind}, {outputs}"),
        ("inputs", f"{most}{shape}"),
        ("examples of a task", sets),
        ("hash of the splits", family.split_hash),
    ):
        facts.add_row(Text(key, "bold"), value)
    splits = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("Split", "Members", "Such as"):
        splits.add_column(title, justify="right" if title == "Members" else "left")
    for split in SPLITS:
        members = family.splits[split]
        more = f", and {len(members) - MOST_NAMES} more" if len(members) > MOST_NAMES else ""
        splits.add_row(SPLIT_TITLES[split], str(len(members)), ", ".join(members[:MOST_NAMES]) + more)
    return [facts, splits]


def _picture(console: Console, family: TaskFamily, batches: dict[Split, TaskBatch], path: Path, seed: int) -> None:
    names: dict[Split, list[str]] = {}
    if isinstance(family, OfMembers):
        names = {split: family.members_of(split, EXAMPLES, _generator(seed, split)) for split in SPLITS}
    save_figure(example_tasks(batches, family.spec, names), path)
    console.print(f"Picture: {path}", highlight=False, soft_wrap=True)


def _sample(family: TaskFamily, split: Split, seed: int) -> TaskBatch:
    return family.sample(split, EXAMPLES, _generator(seed, split))


def _generator(seed: int, split: Split) -> torch.Generator:
    return torch.Generator().manual_seed(seed * len(SPLITS) + SPLITS.index(split))


def _path(picture: str, part: str) -> Path:
    """The picture's file; each part of a mixture has its own."""
    path = Path(picture)
    return path.with_name(f"{path.stem}-{part}{path.suffix}") if part else path
