"""YAML of any origin: bounded before anything is made of it."""

from __future__ import annotations

import yaml
from omegaconf import DictConfig, OmegaConf

LONGEST = 2**18
"""Characters; a configuration has some five thousand."""
LONGEST_SCALAR = 2**13
MOST_VALUES = 2**12
"""A configuration has some two hundred, besides lists of names."""
DEEPEST = 32
"""Lists and mappings within each other."""

_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(text: str) -> DictConfig:
    """What a text of YAML says: a mapping of plain values, without aliases, tags or interpolations.

    Raises:
        ValueError: it is none, or larger or deeper than the limits above.
    """
    if len(text) > LONGEST:
        raise ValueError(f"{len(text)} characters; at most {LONGEST} are read")
    try:
        _check(text)
        found = OmegaConf.create(text)
    except ValueError:
        raise
    except Exception as error:  # PyYAML's and OmegaConf's, which have many ways to fail
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    if not isinstance(found, DictConfig):
        raise ValueError("no mapping")
    return found


def _check(text: str) -> None:
    """Looks at the text's events, which cost no more than its length."""
    depth = values = 0
    for event in yaml.parse(text, Loader=_LOADER):
        values += isinstance(event, yaml.NodeEvent)
        if values > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError("an anchor or alias (& or *), of which a few lines can mean more than fits into memory")
        if getattr(event, "tag", None) is not None:
            raise ValueError(f"the tag {event.tag[:40]!r}")
        if isinstance(event, yaml.ScalarEvent):
            if len(event.value) > LONGEST_SCALAR:
                raise ValueError(f"a value of {len(event.value)} characters; at most {LONGEST_SCALAR} are read")
            if "${" in event.value:
                raise ValueError(
                    f"the interpolation {event.value[:40]!r}, which a finished configuration does not have"
                )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"lists and mappings nested deeper than {DEEPEST}")
