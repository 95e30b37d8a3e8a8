import struct
import sys

import matplotlib as mpl
import numpy as np

from metaopt.report.figures import DPI, save_figures

EVERYTHING = [
    "learning_curves.png",
    "task_differences.png",
    "strengths_lr.png",
    "strengths_l2.png",
    "first_layer_lr.png",
    "first_layer_l2.png",
    "schedule.png",
]


def size(path):
    """Width and height of a PNG, from its header."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", data[16:24])


def test_all_figures_are_saved_under_the_names_promised(comparison, reading, tmp_path):
    saved = save_figures(comparison, reading, tmp_path / "new" / "figures")
    assert [path.name for path in saved] == EVERYTHING
    assert sorted(path.name for path in (tmp_path / "new" / "figures").iterdir()) == sorted(EVERYTHING)
    for path in saved:
        width, height = size(path)
        assert 3 * DPI < width < 12 * DPI
        assert 2 * DPI < height < 12 * DPI


def test_the_same_figures_are_the_same_bytes(comparison, reading, tmp_path):
    first = save_figures(comparison, reading, tmp_path / "first")
    second = save_figures(comparison, reading, tmp_path / "second")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_an_account_of_searches_adds_its_figures(comparison, reading, searches, tmp_path):
    saved = save_figures(comparison, reading, tmp_path, searches)
    added = ["regret.png", "trials_to_match.png"]
    assert [path.name for path in saved] == [*EVERYTHING[:2], *added, *EVERYTHING[2:]]
    for path in saved[2:4]:
        assert size(path)[0] > 3 * DPI


def test_without_a_comparison_only_the_policy_is_shown(reading, tmp_path):
    assert [path.name for path in save_figures(None, reading, tmp_path)] == EVERYTHING[2:]


def test_what_there_is_not_is_not_saved(make_comparison, make_reading, tmp_path):
    bare = make_reading({"lr": {"w": 0.1}}, input_shape=(1,))
    saved = save_figures(make_comparison({"policy": [0.1, 0.2]}), bare, tmp_path)
    assert [path.name for path in saved] == ["learning_curves.png", "strengths_lr.png"]


def test_drawing_leaves_matplotlibs_global_state_alone(comparison, reading, tmp_path):
    with mpl.rc_context():
        mpl.rcdefaults()  # undoes what an earlier test's figures may have set
        settings = dict(mpl.rcParams)
        save_figures(comparison, reading, tmp_path)
        assert dict(mpl.rcParams) == settings
    pyplot = sys.modules.get("matplotlib.pyplot")  # another test's plugin may have imported it
    assert pyplot is None or pyplot.get_fignums() == []


def test_a_users_own_matplotlib_settings_do_not_break_the_figures(comparison, reading, tmp_path):
    with mpl.rc_context({"axes.formatter.use_locale": True, "font.size": 20, "axes.grid": True}):
        assert len(save_figures(comparison, reading, tmp_path)) == len(EVERYTHING)


def test_drawing_takes_nothing_from_numpys_global_generator(comparison, reading, tmp_path):
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    save_figures(comparison, reading, tmp_path)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
