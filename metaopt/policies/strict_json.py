"""JSON of any origin: bounded before it is parsed, and with nothing in it that JSON does not know."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

LONGEST = 2**20
"""Bytes of a text. The header of a policy with values of its own for each tensor of a network of a hundred layers has
some 300 kB."""
MOST_CONTAINERS = 2**15
MOST_VALUES = 2**16
"""Of lists and objects, and of all values: in memory they take up to 30 times what they take in the text."""
DEEPEST = 32
"""Lists and objects within each other."""
LONGEST_NUMBER = 40
"""Characters; Python takes quadratic time for long ones."""
LARGEST_INTEGER = 2**63


def parse(text: bytes) -> Any:
    """What a text of UTF-8 says.

    It may take memory of about ten times its length, and a few MB whatever its length.

    Raises:
        ValueError: no JSON, larger or deeper than the limits above, the same key twice in an object, a number that is
            not finite or beyond 64 bits, or half of a character.
    """
    containers = text.count(b"{") + text.count(b"[")
    values = containers + text.count(b",")
    if len(text) > LONGEST or containers > MOST_CONTAINERS or values > MOST_VALUES:
        raise ValueError(
            f"metadata of {len(text)} bytes with {values} values in {containers} lists and objects; at most {LONGEST}, "
            f"{MOST_VALUES} and {MOST_CONTAINERS} are read"
        )
    try:
        data = json.loads(
            text.decode(),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except RecursionError:
        raise ValueError(f"metadata nested deeper than {DEEPEST}") from None
    _check(data, 0)
    return data


def one_line(words: object, most: int = 200) -> str:
    """What comes from a file, for an error message: on one line, printable, and no longer than anybody reads."""
    text = str(words)[: 4 * most]
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= most else f"{text[:most]}…"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{one_line(next(key for key in keys if keys.count(key) > 1), 40)}' twice")
    return found


def _integer(text: str) -> int:
    value = int(text) if len(text) <= LONGEST_NUMBER else LARGEST_INTEGER
    if abs(value) >= LARGEST_INTEGER:
        raise ValueError(f"the integer {one_line(text, LONGEST_NUMBER)}, which is beyond 64 bits")
    return value


def _float(text: str) -> float:
    value = float(text) if len(text) <= LONGEST_NUMBER else math.inf
    if not math.isfinite(value):
        raise ValueError(f"the number {one_line(text, LONGEST_NUMBER)}, which is not finite or too long")
    return value


def _constant(text: str) -> NoReturn:
    raise ValueError(f"the number {text}, which JSON does not know")


def _check(value: Any, depth: int) -> None:
    """Raises ValueError for what is too deep, and for halves of characters, which no text can hold."""
    if depth > DEEPEST:
        raise ValueError(f"metadata nested deeper than {DEEPEST}")
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, list):
        for entry in value:
            _check(entry, depth + 1)
    elif isinstance(value, dict):
        for key, entry in value.items():
            key.encode()
            _check(entry, depth + 1)
