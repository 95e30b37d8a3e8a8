import json

import pytest
import soak
from soak import Sample


def rising(mb, turns=100):
    return [Sample(turn, 300 + mb * turn / turns, 20, 4) for turn in range(1, turns + 1)]


def test_the_second_half_alone_is_judged():
    """A process may grow while it warms up."""
    grown = [Sample(turn, 500.0 if turn >= 50 else 5.0 * turn, 20 + (turn < 40), 4) for turn in range(1, 101)]
    assert soak.verdict(grown) == {"flat": True, "rise_mb": pytest.approx(0, abs=1e-6)}


@pytest.mark.parametrize(("mb", "flat"), [(1.9 * soak.BOUND, True), (2.2 * soak.BOUND, False)])
def test_memory_may_rise_by_the_bound(mb, flat):
    assert soak.verdict(rising(mb))["flat"] is flat


@pytest.mark.parametrize("field", ["descriptors", "threads"])
def test_one_more_descriptor_or_thread_is_not_flat(field):
    samples = rising(0)
    samples[-1] = samples[-1]._replace(**{field: 21})
    assert not soak.verdict(samples)["flat"]


def leaking_memory(turns, tick):
    kept = []
    for _ in range(turns):
        kept.append(b"x" * 1_000_000)
        tick()


def leaking_descriptors(turns, tick):
    kept = []
    for _ in range(turns):
        kept.append(open("/dev/null"))  # noqa: SIM115
        tick()
    for file in kept:
        file.close()


@pytest.mark.parametrize("leak", [leaking_memory, leaking_descriptors])
def test_a_leak_is_found(leak):
    assert not soak.verdict(soak.watch(leak, 40))["flat"]


@pytest.mark.parametrize("work", [soak.train_eager, soak.fit, soak.evaluate])
def test_work_takes_as_many_turns_as_it_is_told_to(work):
    turns = []
    work(4, lambda: turns.append(None))
    assert len(turns) == 4


def test_samples_are_thinned_and_hold_the_last_turn(monkeypatch):
    monkeypatch.setattr(soak, "POINTS", 3)
    samples = soak.watch(lambda turns, tick: [tick() for _ in range(turns)], 10)
    assert [one.turn for one in samples] == [4, 8, 10]


def test_the_figure_is_drawn_from_what_the_file_holds(tmp_path):
    samples = rising(1)
    record = {"parts": {"fits": {**soak.verdict(samples), "samples": samples}}}
    soak.draw(json.loads(json.dumps(record)), tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")
