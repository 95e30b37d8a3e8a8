"""The figures' colours in light and in dark mode, as CSS variables."""

from __future__ import annotations

from collections.abc import Iterable

from metaopt.report import style

PAPER = {"light": "#ffffff", "dark": "#15181e"}
"""What lies behind everything."""
CARD = {"light": "#f4f6f8", "dark": "#1e232b"}
"""What lies behind rows of tables that stand out; text is read on it, too."""
FIXED = {
    style.INK.lower(): {"light": "#26292e", "dark": "#e7e9ec"},
    style.GREY.lower(): {"light": "#5c6066", "dark": "#a3a9b2"},
    style.FAINT.lower(): {"light": "#dddddd", "dark": "#3a414c"},
    "#ffffff": PAPER,
}
"""Colours that have a meaning rather than a hue."""
TEXT_CONTRAST, SHAPE_CONTRAST = 4.5, 3.0
"""What WCAG 2 asks for at level AA, of text and of shapes that carry meaning."""


def variable(colour: str, text: bool) -> str:
    """The CSS variable for a figure's colour `#rrggbb`; text has one of its own, because it needs more contrast."""
    return f"--{'t' if text else 'c'}{colour.removeprefix('#').lower()}"


def declarations(colours: Iterable[str], mode: str) -> str:
    """CSS declarations of the variables of these colours.

    Args:
        colours: `#rrggbb`, each once.
        mode: "light" or "dark".

    Returns:
        `--name: value;` for each colour, as text and as a shape.
    """
    lines = []
    for colour in colours:
        lines.append(f"{variable(colour, text=True)}: {themed(colour, mode, text=True)};")
        lines.append(f"{variable(colour, text=False)}: {themed(colour, mode, text=False)};")
    return " ".join(lines)


def themed(colour: str, mode: str, text: bool) -> str:
    """A figure's colour as it is shown: as it is, or as much darker or lighter as it takes to be seen.

    Shapes keep their colour in light mode, in which the figures are drawn; labels and dashes tell them apart, too.
    """
    colour = colour.lower()
    if colour in FIXED:
        return FIXED[colour][mode]
    if mode == "light" and not text:
        return colour
    return readable(colour, mode, TEXT_CONTRAST if text else SHAPE_CONTRAST)


def readable(colour: str, mode: str, least: float) -> str:
    """`colour`, mixed with black (light mode) or white (dark mode) until it has that contrast to page and cards."""
    towards = (0, 0, 0) if mode == "light" else (255, 255, 255)
    mixed = colour
    for percent in range(0, 101, 4):
        mixed = _hex([round(c + (t - c) * percent / 100) for c, t in zip(_rgb(colour), towards, strict=True)])
        if min(contrast(mixed, PAPER[mode]), contrast(mixed, CARD[mode])) >= least:
            break
    return mixed


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours `#rrggbb`, from 1 to 21, as WCAG 2 defines it."""
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    channels = [c / 255 for c in _rgb(colour)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _rgb(colour: str) -> tuple[int, int, int]:
    value = int(colour.removeprefix("#"), 16)
    return value >> 16, value >> 8 & 255, value & 255


def _hex(channels: list[int]) -> str:
    return "#" + "".join(f"{c:02x}" for c in channels)
