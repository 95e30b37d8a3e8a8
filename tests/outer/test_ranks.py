import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks_worker import scenarios

from metaopt.errors import ConfigError
from metaopt.outer.ranks import Alone, from_environment

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def alone():
    return scenarios(Alone())


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each of two processes found, over gloo on this machine."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    path = os.pathsep.join((str(HERE.parents[1]), str(HERE)))
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "ranks_worker.py"), str(folder)],
            env=os.environ | common | {"RANK": str(rank), "PYTHONPATH": path},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def assert_close(found, expected, rtol):
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=rtol, atol=rtol, msg=lambda text, n=name: f"{n}: {text}")


def assert_records_close(found, expected, rel):
    assert len(found) == len(expected)
    for record, other in zip(found, expected, strict=True):
        assert record["kind"] == other["kind"]
        numbers, expected_numbers = ({key: v for key, v in r.items() if key != "kind"} for r in (record, other))
        assert numbers == pytest.approx(expected_numbers, rel=rel, nan_ok=True)


def test_processes_share_all_tasks_and_talk(both, alone):
    first, second = (result["conversation"] for result in both)
    assert (first["place"], second["place"]) == ((0, 2), (1, 2))
    assert [a + b for a, b in zip(first["shares"], second["shares"], strict=True)] == list(range(6))
    assert all(abs(a - b) <= 1 for a, b in zip(first["shares"], second["shares"], strict=True))
    for result in (first, second):
        assert result["any"] == [False, True, True]
        assert result["texts"] == ["ä", "ää"]
        for name in ("uneven", "too_few"):
            torch.testing.assert_close(result[name], alone["conversation"][name], rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(result["sum"], 3 * alone["conversation"]["sum"])


@pytest.mark.parametrize("name", ["steps", "spoilt", "share_lost"])
def test_outer_steps_are_those_of_one_process(name, both, alone):
    expected = alone[name]
    assert expected["dropped"] == {"steps": 0, "spoilt": 3, "share_lost": 9}[name]
    for found in (result[name] for result in both):
        assert_close(found["policy"], expected["policy"], 1e-12)
        assert_records_close(found["records"], expected["records"], 1e-12)
        assert found["dropped"] == expected["dropped"]


@pytest.mark.parametrize("name", ["run", "few"])
def test_a_run_is_that_of_one_process(name, both, alone):
    """Three tasks, and then a single meta-validation task, divided in two."""
    expected = alone[name]
    for found in (result[name] for result in both):
        assert_close(found["policy"], expected["policy"], 1e-4)
        assert_close(found["best"], expected["best"], 1e-4)
        assert_records_close(found["records"], expected["records"], 1e-3)
        assert torch.equal(found["generator"], expected["generator"])
        assert found["done"]


@pytest.mark.parametrize("name", ["steps", "spoilt", "share_lost", "run", "few", "stopped"])
def test_the_processes_agree_to_the_bit(name, both):
    first, second = (result[name] for result in both)
    for key, values in first["policy"].items():
        assert torch.equal(values, second["policy"][key]), key
    assert repr(first["records"]) == repr(second["records"])


def test_one_process_that_is_asked_to_stop_stops_all_after_the_same_iteration(both):
    for found in (result["stopped"] for result in both):
        assert found["saved"] == [5]
        assert not found["done"]


def test_all_give_up_together(both, alone):
    assert alone["hopeless"] is not None
    assert both[0]["hopeless"] == both[1]["hopeless"] == alone["hopeless"]


def test_a_process_that_is_gone_is_an_error_and_no_wait(both):
    assert "one of the 2 processes is gone" in both[0]["left_alone"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not tell its threads")
def test_closing_ends_the_threads_that_talk(both):
    assert any("gloo" in name for name in both[0]["threads"])
    assert not any("gloo" in name for name in both[0]["threads_of_closed"])


def test_without_torchrun_a_process_is_alone(monkeypatch):
    for variables in ({}, {"WORLD_SIZE": "1", "RANK": "0"}):
        for name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert isinstance(from_environment(), Alone)


@pytest.mark.parametrize(("count", "rank"), [("2", None), ("2", "2"), ("many", "0"), ("0", "0"), ("2", "-1")])
def test_half_an_environment_is_refused(count, rank, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", count)
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    with pytest.raises(ConfigError, match=rf"WORLD_SIZE is '{count}'.*unset WORLD_SIZE"):
        from_environment()
