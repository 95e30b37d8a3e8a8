import json
import pickle

import pytest
import torch
from outer_problems import make_card, make_problem, make_state, make_validation, parameters, short

from metaopt.errors import PolicyFileError, RunDirError
from metaopt.outer.loop import meta_train
from metaopt.outer.metrics import MetricsFile
from metaopt.outer.state import load_checkpoint, restore_state, save_state
from metaopt.outer.torch_file import content_digest
from metaopt.policies.file import save_policy
from metaopt.policies.settings import PolicySettings, StrengthSettings


class Run:
    """A run directory as the command line keeps it."""

    def __init__(self, folder, settings, resume=False):
        folder.mkdir(exist_ok=True)
        self.folder, self.settings = folder, settings
        self.problem = make_problem()
        self.card = make_card(self.problem)
        self.state = make_state(self.problem, settings)
        if resume:
            content, card = load_checkpoint(folder / "checkpoint.pt")
            assert card == self.card
            restore_state(self.state, content, folder / "checkpoint.pt", settings)
        self.metrics = MetricsFile(folder / "metrics.jsonl", self.state.metrics)

    def save(self, state):
        state.metrics = self.metrics.sync()
        save_state(self.folder / "checkpoint.pt", state, self.card)

    def go(self, stop_after=None, die_after=None):
        stop = (lambda: self.state.iteration == stop_after) if stop_after else (lambda: False)

        def log(record):
            self.metrics.write(record)
            if record["kind"] == "meta_train" and record["iteration"] == die_after:
                raise KeyboardInterrupt

        validation = make_validation(self.problem)
        finished = meta_train(self.problem, self.settings, self.state, validation, log, self.save, stop)
        self.metrics.close()
        if finished:
            save_policy(self.folder / "policy.safetensors", self.state.best, self.card)
        return finished

    def files(self):
        return {name: (self.folder / name).read_bytes() for name in ("metrics.jsonl", "policy.safetensors")}


SHORT = short(iterations=12, validate_every=4, checkpoint_every=5)


@pytest.mark.parametrize("k", [1, 4, 5, 7, 12])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, k):
    whole, parts = Run(tmp_path / "whole", SHORT), Run(tmp_path / "parts", SHORT)
    assert whole.go()
    assert not parts.go(stop_after=k)
    resumed = Run(tmp_path / "parts", SHORT, resume=True)
    assert resumed.state.iteration == k
    assert resumed.go()
    assert resumed.files() == whole.files()
    assert torch.equal(resumed.state.generator.get_state(), whole.state.generator.get_state())


@pytest.mark.parametrize("k", [6, 11])
def test_a_run_that_died_goes_on_from_its_checkpoint_to_the_same_bytes(tmp_path, k):
    whole, parts = Run(tmp_path / "whole", SHORT), Run(tmp_path / "parts", SHORT)
    whole.go()
    with pytest.raises(KeyboardInterrupt):
        parts.go(die_after=k)
    parts.metrics.close()
    resumed = Run(tmp_path / "parts", SHORT, resume=True)
    assert resumed.state.iteration == 5 * (k // 5)
    assert resumed.go()
    assert resumed.files() == whole.files()


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    run = Run(tmp_path / "run", SHORT)
    run.go()
    before = run.files()
    again = Run(tmp_path / "run", SHORT, resume=True)
    assert again.state.finished
    assert again.go()
    assert again.files() == before


@pytest.fixture
def checkpoint(tmp_path):
    run = Run(tmp_path / "run", SHORT)
    run.go(stop_after=6)
    return tmp_path / "run" / "checkpoint.pt"


def test_everything_comes_back(checkpoint):
    content, card = load_checkpoint(checkpoint)
    problem = make_problem()
    assert card == make_card(problem)
    state = make_state(problem, SHORT, seed=5)
    state.iteration = 6
    restore_state(state, content, checkpoint, SHORT)
    assert (state.iteration, state.best_iteration, state.finished) == (6, content["best_iteration"], False)
    assert state.metrics_bytes == checkpoint.with_name("metrics.jsonl").stat().st_size
    for name, p in parameters(state).items():
        assert torch.equal(p, content["policy"][name]), name
        assert torch.equal(state.best[name], content["best"][name]), name
    assert torch.equal(state.generator.get_state(), content["generator"])
    # Later steps must not reach into the best policy.
    with torch.no_grad():
        for p in state.policy.parameters():
            p.add_(1)
    for name, best in state.best.items():
        assert torch.equal(best, content["best"][name]), name


def assert_refused(path, words):
    with pytest.raises(PolicyFileError, match=words) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_missing_checkpoint_says_what_to_give(tmp_path):
    assert_refused(tmp_path / "checkpoint.pt", "no checkpoint at.*give a run directory")


@pytest.mark.parametrize("keep", [0, 1, 4, 100, 2000, -1])
def test_a_truncated_checkpoint_is_refused(checkpoint, keep):
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    assert_refused(checkpoint, "not a checkpoint, or is truncated")


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("code from the file was run",)


@pytest.mark.parametrize(
    "data", [b"garbage", b"PK\x03\x04", b"\x80\x02", b"\n" * 50, pickle.dumps(Bomb())], ids=lambda data: repr(data)[:12]
)
def test_garbage_is_refused(tmp_path, data):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(data)
    assert_refused(path, "not a checkpoint")


@pytest.mark.parametrize("content", [{}, [1, 2], {"state_dict": {}}, Bomb()], ids=["empty", "list", "foreign", "bomb"])
def test_files_of_another_make_are_refused(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path)
    assert_refused(path, "checkpoint")


def test_a_policy_file_is_no_checkpoint(tmp_path):
    problem = make_problem()
    path = tmp_path / "policy.safetensors"
    save_policy(path, parameters(make_state(problem, SHORT)), make_card(problem))
    assert_refused(path, "expected a checkpoint.pt")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 1}, "has checkpoint format 1"),
        ({"kind": "other"}, "no checkpoint of metaopt"),
        ({"card": "{"}, "damaged"),
        ({"card": None}, "damaged"),
        ({"card": "[" * 100_000}, "damaged"),
        ({"card": '{"format": ' + "1" * 5000 + "}"}, "damaged"),
        ({"card": json.dumps({"format": 1})}, "damaged"),
        ({"card": json.dumps({"format": 9})}, "policy format 9"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_damaged_checkpoints_are_refused(checkpoint, changes, words):
    write_signed(checkpoint, changes)
    assert_refused(checkpoint, words)


def write_signed(path, changes):
    """Changes a checkpoint as somebody would who knows of the digest."""
    content = torch.load(path, weights_only=True) | changes
    del content["digest"]
    torch.save(content | {"digest": content_digest(content)}, path)


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": {}},
        {"optimizer": {}},
        {"generator": torch.zeros(3)},
        {"best": None},
        {"best": {}},
        {"best": {"momentum_logit": torch.zeros(2)}},
        {"iteration": "many"},
        {"stale": None},
    ],
    ids=str,
)
def test_contents_of_another_run_are_refused(checkpoint, changes):
    content, _ = load_checkpoint(checkpoint)
    state = make_state(make_problem(), SHORT)
    with pytest.raises(PolicyFileError, match="not from this run's configuration") as caught:
        restore_state(state, content | changes, checkpoint, SHORT)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_policy_is_refused(checkpoint):
    content, _ = load_checkpoint(checkpoint)
    other = PolicySettings(lr=StrengthSettings("learned", 0.1, "global"))
    with pytest.raises(PolicyFileError, match="not from this run's configuration"):
        restore_state(make_state(make_problem(), SHORT, other), content, checkpoint, SHORT)


def adam(content, **changes):
    state = {index: moments | changes for index, moments in content["optimizer"]["state"].items()}
    return {"optimizer": content["optimizer"] | {"state": state}}


def moments(content):
    return content["optimizer"]["state"][0]["exp_avg_sq"].clone()


@pytest.mark.parametrize(
    "change",
    [
        lambda _: {"iteration": -5},
        lambda _: {"iteration": 10**9},
        lambda _: {"best_iteration": 7},
        lambda _: {"stale": -1},
        lambda _: {"dropped": 10**6},
        lambda _: {"metrics_bytes": -1},
        lambda _: {"inner_steps": -1},
        lambda _: {"best_loss": float("nan")},
        lambda content: {"optimizer": content["optimizer"] | {"state": {}}},
        lambda content: adam(content, exp_avg=torch.zeros(10**5)),
        lambda content: adam(content, exp_avg=torch.zeros(3)),
        lambda content: adam(content, exp_avg=moments(content).double()),
        lambda content: adam(content, exp_avg=moments(content) * float("nan")),
        lambda content: adam(content, exp_avg_sq=-moments(content) - 1),
        lambda content: adam(content, step=torch.tensor(7.0)),
        lambda content: adam(content, step=torch.tensor(0.5)),
        lambda content: adam(content, step=torch.tensor([1.0])),
        lambda content: adam(content, more=torch.tensor(1.0)),
        lambda content: {"generator": torch.zeros_like(content["generator"])},
        lambda content: {"best": dict(reversed(content["best"].items()))},
        lambda content: {"policy": {name: t.double() for name, t in content["policy"].items()}},
    ],
)
def test_no_value_is_used_that_the_run_cannot_have_come_to(checkpoint, change):
    write_signed(checkpoint, change(load_checkpoint(checkpoint)[0]))
    content, _ = load_checkpoint(checkpoint)
    state = make_state(make_problem(), SHORT)
    before = {name: p.clone() for name, p in parameters(state).items()}
    with pytest.raises(PolicyFileError, match="not from this run's configuration"):
        restore_state(state, content, checkpoint, SHORT)
    assert all(torch.equal(p, before[name]) for name, p in parameters(state).items()), "nothing is used by halves"


@pytest.mark.parametrize(
    "change",
    [
        lambda _: {"iteration": True},
        lambda _: {"iteration": 6.0},
        lambda _: {"finished": 1},
        lambda _: {"more": 1},
        lambda content: {"policy": {name: t * float("nan") for name, t in content["policy"].items()}},
        lambda content: {"best": {name: t.long() for name, t in content["best"].items()}},
        lambda content: {"best": {7: next(iter(content["best"].values()))}},
    ],
)
def test_no_value_of_another_type_is_read(checkpoint, change):
    write_signed(checkpoint, change(load_checkpoint(checkpoint)[0]))
    assert_refused(checkpoint, "is damaged")


def test_a_checkpoint_loads_as_plain_values_with_torch_alone(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    assert content.pop("digest") == content_digest(content)
    assert content["iteration"] == 6


def test_metrics_are_held_against_the_checkpoint(tmp_path):
    run = Run(tmp_path / "run", SHORT)
    run.go(stop_after=6)
    path = tmp_path / "run" / "metrics.jsonl"
    whole = path.read_bytes()
    for damaged, words in ((whole[:-1], "has .* bytes, but"), (b" " + whole, "digest differs"), (None, "is missing")):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        with pytest.raises(RunDirError, match=words) as caught:
            Run(tmp_path / "run", SHORT, resume=True)
        assert "\n" not in str(caught.value)
        assert (path.read_bytes() if path.exists() else None) == damaged, "it is left as it was"
    path.write_bytes(whole + b'{"half a rec')
    assert Run(tmp_path / "run", SHORT, resume=True).go()
