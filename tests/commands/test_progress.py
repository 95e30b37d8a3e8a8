import io

import pytest
from rich.console import Console

from metaopt.commands import progress


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when it is told to: a list of one number."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def written(clock, steps, **kinds):
    """What a bar of ten writes to a file, for steps of (seconds, number done)."""
    file = io.StringIO()
    with progress.progress_bar(Console(file=file, **kinds), "held-out tasks", 10) as advance:
        for seconds, n in steps:
            clock[0] += seconds
            advance(n)
    return file.getvalue()


def test_a_log_file_gets_a_line_with_the_time_that_is_left_now_and_then(clock):
    text = written(clock, [(8, 1), (4, 1), (1, 1), (3, 1), (8, 1)])
    assert text.splitlines() == ["held-out tasks 2/10: 48 s left", "held-out tasks 5/10: 24 s left"]


def test_what_is_done_in_seconds_leaves_no_line(clock):
    assert not written(clock, [(1, 5), (1, 5)])


def test_where_nothing_is_to_be_seen_nothing_is(clock):
    assert not written(clock, [(20, 5), (20, 5)], quiet=True, force_terminal=False)


def test_a_terminal_has_the_bar_and_no_lines(clock):
    assert "s left" not in written(clock, [(20, 5), (20, 4)], force_terminal=True)


def test_meta_training_counts_from_where_it_goes_on_and_ends_with_a_line(clock):
    file = io.StringIO()
    record = {"kind": "meta_train", "loss": 0.5, "dropped": 0}
    with progress.MetaTrainingProgress(Console(file=file), 30, 10) as bar:
        clock[0] += 12
        bar(record | {"iteration": 14})
        bar(record | {"iteration": 30})
        bar({"kind": "meta_validation", "loss": 0.25, "iteration": 30})
    assert file.getvalue().splitlines() == [
        "meta-training 14/30: loss 0.500, 48 s left",
        "meta-training 30/30: loss 0.500, validation 0.250, 0 s left",
    ]
