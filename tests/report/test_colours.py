import pytest

from metaopt.report import colours, style

HUES = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.SKY, style.RED, style.GREY, style.INK)
MODES = ("light", "dark")


def test_contrast_is_as_wcag_defines_it():
    assert colours.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert colours.contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)
    assert colours.contrast("#123456", "#123456") == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("colour", [*HUES, "#440154", "#fde725", "#000000", "#fefefe"])
def test_text_has_contrast_in_both_modes_wherever_it_stands(colour, mode):
    shown = colours.themed(colour, mode, text=True)
    for ground in (colours.PAPER, colours.CARD):
        assert colours.contrast(shown, ground[mode]) >= 4.5


@pytest.mark.parametrize("colour", [*HUES, "#440154"])
def test_shapes_are_seen_in_the_dark_and_stay_as_drawn_in_the_light(colour):
    assert colours.contrast(colours.themed(colour, "dark", text=False), colours.PAPER["dark"]) >= 3
    if colour.lower() not in colours.FIXED:
        assert colours.themed(colour, "light", text=False) == colour.lower()


def test_hues_stay_apart_in_the_dark():
    shown = {colours.themed(colour, "dark", text=True) for colour in HUES}
    assert len(shown) == len(HUES)


def test_every_variable_that_a_figure_may_name_is_declared():
    text = colours.declarations(["#0072b2"], "dark")
    for is_text in (True, False):
        assert f"{colours.variable('#0072B2', is_text)}: " in text
