from pathlib import Path

import numpy as np
import pytest

from metaopt.tracking.guarded import Guarded


class Recorder:
    """Keeps the names of the calls, and raises in those that `fails` names."""

    def __init__(self, fails=(), error=None):
        self.calls = []
        self._fails = fails
        self._error = error or RuntimeError("no\n  space   left")

    def _take(self, name):
        self.calls.append(name)
        if name in self._fails:
            raise self._error

    def log(self, record, step):
        self._take("log")

    def histograms(self, values, step):
        self._take("histograms")

    def finish(self, tables, figures, policy, report=None):
        self._take("finish")

    def close(self):
        self._take("close")


def use_all(tracker):
    tracker.log({"loss": 0.5}, 1)
    tracker.histograms({"lr": np.ones(3)}, 1)
    tracker.finish({"comparison": [{"method": "policy"}]}, [], Path("policy.safetensors"))
    tracker.close()


def failing_factory():
    raise OSError("read-only")


def test_every_call_reaches_the_tracker_inside():
    inside, warnings = Recorder(), []
    use_all(Guarded(lambda: inside, warnings.append))
    assert inside.calls == ["log", "histograms", "finish", "close"]
    assert warnings == []


@pytest.mark.parametrize("call", ["log", "histograms", "finish", "close"])
def test_the_first_failure_warns_once_and_ends_the_tracking(call):
    inside, warnings = Recorder(fails=(call,)), []
    tracker = Guarded(lambda: inside, warnings.append)
    use_all(tracker)
    use_all(tracker)
    assert len(warnings) == 1
    order = ["log", "histograms", "finish", "close"]
    assert inside.calls == [*order[: order.index(call) + 1], "close"]  # what it holds is let go of


def test_the_warning_is_one_line_with_the_error_and_the_remedy():
    warnings = []
    use_all(Guarded(lambda: Recorder(fails=("log",)), warnings.append))
    assert "RuntimeError: no space left" in warnings[0]
    assert "tracking.mode=offline" in warnings[0]
    assert "\n" not in warnings[0]


def test_an_endless_error_is_cut():
    warnings = []
    use_all(Guarded(lambda: Recorder(fails=("log",), error=ValueError("x" * 10_000)), warnings.append))
    assert len(warnings[0]) < 400


def test_a_tracker_that_cannot_be_opened_costs_a_warning_only():
    warnings = []
    use_all(Guarded(failing_factory, warnings.append))
    assert len(warnings) == 1
    assert "OSError: read-only" in warnings[0]


def test_a_close_that_fails_after_a_failure_is_not_reported_again():
    warnings = []
    use_all(Guarded(lambda: Recorder(fails=("log", "close")), warnings.append))
    assert len(warnings) == 1


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_goes_through_and_tracking_goes_on(interrupt):
    inside, warnings = Recorder(fails=("log",), error=interrupt()), []
    tracker = Guarded(lambda: inside, warnings.append)
    with pytest.raises(interrupt):
        tracker.log({}, 1)
    tracker.close()
    assert inside.calls == ["log", "close"]
    assert warnings == []
