import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from metaopt.report import style
from metaopt.report.first_layer import first_layer_image
from metaopt.report.learning_curves import learning_curves
from metaopt.report.strengths import strengths_by_layer
from metaopt.report.svg import MOST_POINTS, figure_svg

IDS = re.compile(r'\bid="([^"]*)"')


def test_the_same_figure_gives_the_same_text(comparison):
    assert figure_svg(learning_curves(comparison), "a") == figure_svg(learning_curves(comparison), "a")


def test_it_is_one_element_that_loads_nothing(comparison, reading):
    for figure in (learning_curves(comparison), first_layer_image(reading, "lr")):
        svg = figure_svg(figure, "key").svg
        assert ElementTree.fromstring(svg).tag == "svg"
        assert "http" not in svg
        assert "<style" not in svg  # its rules would hold for the whole page


def test_ids_are_this_figures_own_and_what_refers_to_them_finds_them(reading):
    first, second = (figure_svg(strengths_by_layer(reading, "lr"), key).svg for key in ("one", "two"))
    assert set(IDS.findall(first)).isdisjoint(IDS.findall(second))
    for svg in (first, second):
        used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
        assert used
        assert used == set(IDS.findall(svg))


def test_colours_are_variables_and_text_has_its_own(comparison):
    drawing = figure_svg(learning_curves(comparison), "key")
    blue = style.BLUE.lower()
    assert {blue, style.INK.lower()} <= drawing.colours
    assert not re.search(r"(?:fill|stroke): ?#", drawing.svg)
    label = next(part for part in drawing.svg.split("<text")[1:] if ">policy" in part)
    assert f"var(--t{blue[1:]})" in label
    assert f"var(--c{blue[1:]})" in drawing.svg


def test_names_are_text_whatever_they_look_like(make_comparison):
    names = ("<b>x</b>", "fill: #0072b2", 'a"b&c')
    losses = {"policy": [0.1, 0.2]} | {name: [0.3, 0.4 + 0.1 * k] for k, name in enumerate(names)}
    svg = figure_svg(learning_curves(make_comparison(losses)), "key").svg
    texts = [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]
    for name in names:
        assert any(text.startswith(name) for text in texts)


def test_titles_are_left_to_the_page(comparison):
    assert "Learning on" not in figure_svg(learning_curves(comparison), "key").svg


def test_many_points_become_a_picture(drawn):
    def cloud(count):
        figure = style.new_figure(4, 3)
        figure.add_subplot().scatter(np.arange(count), np.arange(count))
        return figure_svg(figure, "key").svg

    assert "<image" not in cloud(10)
    assert "<image" in cloud(MOST_POINTS + 1)
    assert len(cloud(20 * MOST_POINTS)) < 200_000


@pytest.mark.parametrize("fonttype", ["path", "none"])
def test_matplotlibs_global_state_is_left_alone(comparison, fonttype):
    with mpl.rc_context({"svg.fonttype": fonttype}):
        before = dict(mpl.rcParams)
        figure_svg(learning_curves(comparison), "key")
        assert dict(mpl.rcParams) == before
