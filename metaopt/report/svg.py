"""A figure as SVG that is part of a page: themed by CSS variables, without ids that clash, and the same each time."""

from __future__ import annotations

import io
import re
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from metaopt.report.colours import variable

WIDTH = 5.0
"""In inches: narrow, so that what is written in it is still read where the page is scaled to a phone's width."""
MOST_POINTS = 3000
"""A cloud with more becomes a picture within the SVG, or the page would get slow and large."""
DPI = 200
SCALE = 1.5
"""Most pixels of the page for each point of a figure."""


class Drawing(NamedTuple):
    """A figure on a page.

    Attributes:
        svg: the element `<svg>…</svg>`.
        colours: the colours `#rrggbb` that occur in it, as CSS variables (see `colours.declarations`).
    """

    svg: str
    colours: frozenset[str]


def figure_svg(figure: Figure, key: str) -> Drawing:
    """Draws a figure for a page.

    Titles are left out, because the page writes its own. Text stays text.

    Args:
        figure: it is narrowed to the page's width, and should not be used otherwise any more.
        key: tells its ids from those of other figures; letters, digits and hyphens.

    Returns:
        The drawing; the same for the same figure and key.
    """
    _fit(figure)
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": key, "path.simplify_threshold": 0.25}
    file = io.StringIO()
    with mpl.rc_context(settings):
        figure.savefig(file, format="svg", dpi=DPI, metadata={"Date": None}, transparent=True)
    return _themed(_bare(file.getvalue(), key))


def _fit(figure: Figure) -> None:
    width, height = figure.get_size_inches()
    if width > WIDTH:
        figure.set_size_inches(WIDTH, height)
    if figure.get_suptitle():
        figure.suptitle("")
    for axes in figure.axes:
        axes.set_title("", loc="left")
        axes.set_xlabel(axes.get_xlabel().replace("   ", "\n"))
        for cloud in axes.collections:
            if isinstance(cloud, PathCollection) and len(cloud.get_offsets()) > MOST_POINTS:  # pyright: ignore[reportArgumentType]
                cloud.set_rasterized(True)


def _bare(text: str, key: str) -> str:
    """The element alone: no prologue, no metadata, no rules for the whole page, and ids that only this figure has."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"', "", text)
    text = re.sub(r"<svg([^>]*)>", _scaling, text, count=1)
    text = text.replace("xlink:href=", "href=")
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(href="|url\()#', rf"\g<1>#{key}-", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)  # the page has a font of its own
    text = re.sub(r"font: [^;\"]*?([0-9.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", text)
    text = re.sub(r' (?:d|x|y)="[^"]*"', _rounded, text)
    return re.sub(r">\s+<", ">\n<", text)


def _scaling(element: re.Match[str]) -> str:
    """As wide as the page has room for, up to a width at which what is written is as large as the page's text."""
    attributes = re.sub(r' (?:width|height)="[^"]*"', "", element[1])
    box = re.search(r'viewBox="0 0 ([0-9.]+) ', attributes)
    assert box is not None, "matplotlib writes figures with a viewBox"
    return f'<svg style="max-width: {float(box[1]) * SCALE:.0f}px" aria-hidden="true"{attributes}>'


def _rounded(attribute: re.Match[str]) -> str:
    """Places on the page to a tenth of a point, which is less than a pixel of any screen."""
    short = re.sub(r"[0-9]+\.[0-9]{2,}", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), attribute[0])
    return re.sub(r"\s+", " ", re.sub(r"\s*([MLCQz])\s*", r"\1", short))


def _themed(text: str) -> Drawing:
    """Colours in the styles of elements become variables; what people have written stands between elements."""
    colours: set[str] = set()

    def themed(element: re.Match[str]) -> str:
        is_text = element[0].startswith(("<text", "<tspan"))

        def named(colour: re.Match[str]) -> str:
            colours.add(colour[2].lower())
            return f"{colour[1]}var({variable(colour[2], is_text)})"

        return re.sub(r"((?:fill|stroke): ?)(#[0-9a-fA-F]{6})\b", named, element[0])

    return Drawing(re.sub(r"<[a-z]+ [^>]*>", themed, text), frozenset(colours))
