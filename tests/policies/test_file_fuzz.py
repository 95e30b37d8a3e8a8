"""Damaged files, ten thousand of them at night: each is loaded as it was, or refused with one error."""

import json
import random
import tracemalloc
from collections import Counter
from typing import NamedTuple

import pytest
import torch
from file_mutations import mutated
from policy_files import card_in
from policy_helpers import learned

from metaopt.errors import PolicyFileError
from metaopt.models.mlp import mlp
from metaopt.policies.file import PolicyCard, load_policy_file, save_policy
from metaopt.policies.fitting import fit_policy
from metaopt.policies.policy import Policy
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings
from metaopt.policies.sharpened import sharpened
from metaopt.types import Kind, TaskSpec

MODEL = mlp(TaskSpec(Kind.classification, (3,), 2), [4, 3])
CONFIG = {
    "tasks": {"name": "digits", "n_way": 5, "noise": 0.1, "root": None, "parts": {"a": {"weights": [0.5, 0.5]}}},
    "model": {"name": "mlp", "widths": [4, 3]},
    "inner": {"horizon": 5, "dtype": "float32", "compile": False},
    "meta_training_inner_steps": 1200,
    "seed": 0,
}
MOMENTUM = MomentumSettings("learned")
POLICIES = {
    "role": PolicySettings("role", learned(0.1, "role"), momentum=MOMENTUM, schedule="step_role", schedule_knots=3),
    "per_parameter": PolicySettings("per_parameter", l2=learned(0.01, "element"), schedule="step_tensor"),
    "adaptive": PolicySettings("adaptive", learned(0.1, "role"), rule="adaptive"),
    "learned_init": PolicySettings("learned_init", momentum=MOMENTUM, init=InitSettings("learned")),
    "sharpened": PolicySettings("directions", learned(0.1, "tensor"), momentum=MOMENTUM, rule="directions"),
    "curvature": PolicySettings("curvature", learned(0.1, "global"), preconditioner="curvature"),
}
SEEDS, FILES = range(10), 1000


class Original(NamedTuple):
    data: bytes
    tensors: dict[str, torch.Tensor]
    card: PolicyCard


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    path = tmp_path_factory.mktemp("originals") / "policy.safetensors"
    found = []
    for number, settings in enumerate(POLICIES.values()):
        generator = torch.Generator().manual_seed(number)
        policy = Policy(settings, MODEL.shapes, MODEL.init, 5, generator, MODEL.roles)
        policy = (sharpened(policy) or (policy,))[0]
        with torch.no_grad():
            for p in policy.parameters():
                p.add_(torch.randn(p.shape, generator=generator))
        shapes = {name: tuple(shape) for name, shape in MODEL.shapes.items()}
        card = PolicyCard(
            policy.settings, 5, MODEL.spec, shapes, "digits", "0123abcd", CONFIG, MODEL.roles, policy.mixed
        )
        save_policy(path, dict(policy.named_parameters()), card)
        found.append(Original(path.read_bytes(), *load_policy_file(path)))
    assert [original.card.mixed for original in found if original.card.mixed]
    return found


def bits(tensors):
    return {name: (tuple(t.shape), t.dtype, t.detach().numpy().tobytes()) for name, t in tensors}


def outcome(path, original):
    """`equal` or the first words of the error; anything else that is loaded fails.

    A file that came to say it is of format 1, and has no digest, is another file: it is `format 1` if it is sound.
    """
    try:
        tensors, card = load_policy_file(path)
        policy = fit_policy(tensors, card, MODEL, path).policy
    except PolicyFileError as error:
        text = str(error)
        assert "\n" not in text
        assert str(path) in text
        assert len(text) < 2000
        return text.replace(str(path), "").strip()[:20]
    assert all(p.isfinite().all() for p in policy.parameters())
    if card_in(path.read_bytes())["format"] == 1:
        return "format 1"
    assert json.dumps(card.to_json(), sort_keys=True) == json.dumps(original.card.to_json(), sort_keys=True)
    assert bits(tensors.items()) == bits(original.tensors.items())
    assert bits(policy.named_parameters()) == bits(original.tensors.items())
    return "equal"


def measured(path, original):
    """`outcome`, and the bytes that it took at most."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    result = outcome(path, original)
    return result, tracemalloc.get_traced_memory()[1] - before


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=pytest.mark.nightly) if seed else seed for seed in SEEDS])
def test_whatever_happens_to_a_file_it_is_loaded_as_it_was_or_refused(originals, tmp_path, seed):
    rng = random.Random(seed)
    found = Counter()
    for original in originals:  # what is imported and cached at first is not the file's
        path = tmp_path / "policy.safetensors"
        path.write_bytes(original.data)
        assert outcome(path, original) == "equal"
    tracemalloc.start()
    try:
        for trial in range(FILES):
            original = originals[trial % len(originals)]
            data = mutated(original.data, rng)
            path = tmp_path / f"{trial}.safetensors"  # writing over a file takes many times longer
            path.write_bytes(data)
            bound = 10 * len(data) + 2**18  # of what Python allocates; see test_file_bombs.py for the rest
            result, taken = measured(path, original)
            if taken >= bound:  # by the file, each time; by something else here (a thread, a finalizer), once
                result, taken = measured(path, original)
            assert taken < bound, trial
            found[result] += 1
            path.unlink()
    finally:
        tracemalloc.stop()
    assert found["format 1"] <= 5, found
    assert 10 <= found["equal"] <= 200, found
    assert found["is damaged: its cont"] > 100, found
    assert found["has damaged metadata"] > 100, found
    assert sum(found.values()) == FILES
