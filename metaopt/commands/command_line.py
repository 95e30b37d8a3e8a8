"""Words of a command line: as people type them, as Hydra reads them, and as they can be pasted into a shell."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

PATHS = (
    "run_dir", "resume", "checkpoint", "picture", "outer.start", "tasks.path", "tasks.root", "tasks.split_files",
)  # fmt: skip
"""Settings that name a file or a folder. Whatever stands behind their = is the name, and ~ is a home directory."""
MULTIRUN_FLAGS = ("-m", "--multirun")
_WITH_VALUE = {
    "--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
    "--experimental-rerun",
}  # fmt: skip
_FUNCTION = re.compile(r"\w+\(.*\)", re.DOTALL)
"""What Hydra makes several values of, such as `glob(*)`."""
_PART = re.compile(r"""(?:^|(?<=,))(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,]*)""", re.DOTALL)
"""One of several values, between commas that are in no quotes."""
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def as_hydra_reads(words: Iterable[str]) -> list[str]:
    """Words as typed, with flags first, which Hydra takes nowhere else, and paths quoted as its grammar wants them.

    A path that is quoted already or holds `${` is left as it is. In a sweep, commas part paths.
    """
    flags, overrides = _sorted(list(words))
    many = any(flag in MULTIRUN_FLAGS for flag in flags)
    return [*flags, *(_quoted(word, many) for word in overrides)]


def value_of(words: Iterable[str], key: str) -> str | None:
    """What a setting is given among words that Hydra reads; None: it is not given, or not once, or not as a text."""
    found = [word for word in words if word.partition("=")[0] == key]
    if len(found) != 1:
        return None
    try:
        value = OverridesParser.create().parse_override(found[0]).value()
    except HydraException:
        return None
    return value if isinstance(value, str) else None


def as_command(script: str, **settings: object) -> str:
    """A command that can be pasted into a shell, such as `python train_meta.py resume=RUN`.

    Args:
        script: that is run.
        settings: paths, by the name of their setting.
    """
    words = [f"{key}={_protected(str(value))}" for key, value in settings.items()]
    return shlex.join(["python", script, *words])


def expand_homes(raw: DictConfig) -> None:
    """Puts home directories in the place of ~ in all paths of a composed configuration."""
    for key in PATHS:
        value = OmegaConf.select(raw, key, throw_on_missing=False)
        if isinstance(value, str) and value.startswith("~"):
            OmegaConf.update(raw, key, os.path.expanduser(value))


def _sorted(words: list[str]) -> tuple[list[str], list[str]]:
    """Flags with their values, and overrides, each in their order."""
    flags: list[str] = []
    overrides: list[str] = []
    rest: Iterator[str] = iter(words)
    for word in rest:
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flags.append(word)
        follows = words[len(flags) + len(overrides)] if len(flags) + len(overrides) < len(words) else None
        if follows is not None and (word in _WITH_VALUE or (word in ("--info", "-i") and follows in _INFO)):
            flags.append(next(rest))
    return flags, overrides


def _quoted(word: str, many: bool) -> str:
    key, equals, value = word.partition("=")
    if key.lstrip("+") not in PATHS or not equals:
        return word
    if many and _FUNCTION.fullmatch(value):
        return word
    parts = _PART.findall(value) if many else [value]
    return f"{key}={','.join(map(_quoted_path, parts))}"


def _quoted_path(path: str) -> str:
    if path in ("", "null", "???") or path[0] in "'\"" or "${" in path:
        return path
    return _as_text(os.path.expanduser(path))


def _protected(path: str) -> str:
    """A path whose beginning, or whose `${`, would be taken for more than a name."""
    if "${" in path:
        return _as_text(re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", path))
    return _as_text(path) if path[:1] in ("'", '"', "~") or path in ("null", "???") else path


def _as_text(value: str) -> str:
    """A text in the quotes of Hydra's grammar, in which backslashes count before quotes only."""
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", value)
    tail = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{escaped[len(escaped) - tail :]}'"
