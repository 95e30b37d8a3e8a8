import json
import pickle
import random
from dataclasses import replace

import pytest
import torch
from policy_helpers import HORIZON, fixed, learned
from safetensors.torch import load_file, save_file

from metaopt.errors import PolicyFileError
from metaopt.models.mlp import mlp
from metaopt.policies.file import PolicyCard, load_policy_file, save_policy
from metaopt.policies.fitting import fit_policy
from metaopt.policies.policy import Policy
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings
from metaopt.types import Kind, TaskSpec

TASK = TaskSpec(Kind.classification, (3,), 2)
MODEL = mlp(TASK, [4])
SETTINGS = PolicySettings(
    lr=learned(0.1, "element"),
    l2=learned(0.01, "global"),
    momentum=MomentumSettings("learned"),
    schedule="step_tensor",
    init=InitSettings("scaled"),
)
CARD = PolicyCard(
    policy=SETTINGS,
    horizon=HORIZON,
    model=MODEL.spec,
    parameters={name: tuple(shape) for name, shape in MODEL.shapes.items()},
    tasks="digits",
    split_hash="0123456789abcdef",
    config={"tasks": {"n_way": 5}, "seed": 0, "rate": 0.1, "nothing": None},
)


@pytest.fixture
def tensors():
    policy = Policy(SETTINGS, MODEL.shapes, MODEL.init, HORIZON)
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(p.shape, generator=generator) for name, p in policy.named_parameters()}


@pytest.fixture
def path(tmp_path, tensors):
    path = tmp_path / "policy.safetensors"
    save_policy(path, tensors, CARD)
    return path


def restored(path, model=MODEL):
    return fit_policy(*load_policy_file(path), model, path).policy


def assert_refused(path, words, model=MODEL):
    with pytest.raises(PolicyFileError, match=words) as caught:
        restored(path, model)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def rewrite(path, tensors=None, **changes):
    """The same file with other tensors or another card."""
    plain = CARD.to_json() | changes
    save_file(load_file(path) if tensors is None else tensors, path, metadata={"metaopt": json.dumps(plain)})


def test_what_was_saved_is_loaded(path, tensors):
    found, card = load_policy_file(path)
    assert card == CARD
    assert found.keys() == tensors.keys()
    for name, t in tensors.items():
        assert torch.equal(found[name], t), name
    for name, p in restored(path).named_parameters():
        assert torch.equal(p, tensors[name]), name
        assert p.requires_grad


def test_equal_contents_give_equal_bytes(path, tensors):
    other = path.with_name("other.safetensors")
    shuffled = dict(sorted(tensors.items(), reverse=True))
    save_policy(other, shuffled, replace(CARD, config=dict(reversed(CARD.config.items()))))
    assert other.read_bytes() == path.read_bytes()
    save_policy(other, tensors, replace(CARD, tasks="sinusoid"))
    assert other.read_bytes() != path.read_bytes()


def test_a_policy_without_tensors_of_one_kind_survives(tmp_path):
    settings = PolicySettings(lr=fixed(0.1), schedule="step")
    policy = Policy(settings, MODEL.shapes, MODEL.init, HORIZON)
    path = tmp_path / "policy.safetensors"
    save_policy(path, dict(policy.named_parameters()), replace(CARD, policy=settings))
    assert restored(path).settings == settings


def test_a_missing_file_says_what_to_give(tmp_path):
    assert_refused(tmp_path / "policy.safetensors", "no policy file at.*give checkpoint=")


def test_a_folder_is_not_a_policy(tmp_path):
    assert_refused(tmp_path, "is not a policy file")


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, -1])
def test_a_truncated_file_is_refused(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    assert_refused(path, "is not a policy file, or is truncated")


def test_a_file_that_can_run_code_is_refused_and_runs_none(path):
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("code from the file was run",)

    path.write_bytes(pickle.dumps(Bomb()))
    assert_refused(path, "is not a policy file")
    torch.save({"weight": torch.zeros(2)}, path)
    assert_refused(path, "is not a policy file")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"metaopt": "[]"}, {"metaopt": "{}"}, {"metaopt": ""}])
def test_tensors_of_another_make_are_refused(path, metadata):
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
    assert_refused(path, "carries no metaopt policy")


@pytest.mark.parametrize("text", ["{", "nonsense", "[" * 100_000, '{"format": ' + "1" * 5000 + "}"])
def test_metadata_that_is_no_json_is_refused(path, text):
    save_file(load_file(path), path, metadata={"metaopt": text})
    assert_refused(path, "is not a policy file")


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_format_version_is_refused(path, version):
    rewrite(path, format=version)
    assert_refused(path, "has policy format")


@pytest.mark.parametrize(
    "changes",
    [
        {"horizon": "5"},
        {"horizon": 0},
        {"horizon": -3},
        {"horizon": True},
        {"horizon": 5.0},
        {"horizon": 10**15},  # a schedule of that length would not fit in memory
        {"horizon": 10**30},
        {"model": []},
        {"parameters": {"hidden0.weight": "43"}},
        {"parameters": {"hidden0.weight": [4.0, 3]}},
        {"parameters": []},
        {"tasks": None},
        {"split_hash": 7},
        {"config": "none"},
        {"policy": {}},
        {"policy": SETTINGS.to_json() | {"schedule": "sometimes"}},
        {"policy": SETTINGS.to_json() | {"lr": {"mode": "learned", "value": -1, "granularity": "tensor"}}},
        {"policy": SETTINGS.to_json() | {"lr": {"mode": "fixed", "value": 10**400, "granularity": "tensor"}}},
    ],
    ids=str,
)
def test_damaged_metadata_is_refused(path, changes):
    rewrite(path, **changes)
    assert_refused(path, "damaged")


def test_a_missing_entry_is_refused(path):
    for key in CARD.to_json().keys() - {"roles", "mixed"}:  # which older files do not have
        plain = {name: value for name, value in CARD.to_json().items() if name != key}
        save_file({"weight": torch.zeros(2)}, path, metadata={"metaopt": json.dumps(plain)})
        assert_refused(path, "carries no metaopt policy" if key == "format" else f"damaged.*{key}")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_tensors_that_are_no_numbers_are_refused(path, tensors, value):
    tensors["log_strengths.lr.hidden0/weight"][1, 2] = value
    rewrite(path, tensors)
    assert_refused(path, "no finite floats")


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bool, torch.complex64])
def test_tensors_of_other_types_are_refused(path, tensors, dtype):
    rewrite(path, tensors | {"momentum_logit": torch.zeros((), dtype=dtype)})
    assert_refused(path, "no finite floats")


def test_wrong_tensors_are_refused_by_name(path, tensors):
    rewrite(path, tensors | {"momentum_logit": torch.zeros(1)})
    assert_refused(path, r"'momentum_logit' should be of shape \(\) but is of shape \(1,\)")
    rewrite(path, tensors | {"extra": torch.zeros(1)})
    assert_refused(path, "'extra' should be absent")
    rewrite(path, {name: t for name, t in tensors.items() if name != "momentum_logit"})
    assert_refused(path, "'momentum_logit' should be .* but is absent")


def test_whatever_happens_to_a_file_it_is_a_sound_policy_or_refused(path, tensors):
    # There is no checksum: what changes a tensor's value or a word of the card can leave a policy, but a sound one.
    original = path.read_bytes()
    rng = random.Random(0)
    refused = []
    for trial in range(300):
        path.write_bytes(_mutated(original, rng))
        try:
            policy = restored(path)
        except PolicyFileError as error:
            refused.append(str(error))
        else:
            for name, p in policy.named_parameters():
                assert p.shape == tensors[name].shape, (trial, name)
                assert p.isfinite().all(), (trial, name)
    assert 150 < len(refused) < 300
    assert not [text for text in refused if "\n" in text]


def _mutated(data, rng):
    """Bytes flipped, overwritten, cut out, doubled, or cut off; half of the time within the metadata."""
    changed = bytearray(data)
    header = 8 + int.from_bytes(data[:8], "little")
    at = rng.randrange(header if rng.random() < 0.5 else len(data))
    match rng.randrange(6):
        case 0:
            changed[at] ^= 1 << rng.randrange(8)
        case 1:
            changed[at] = rng.randrange(256)
        case 2:
            changed[at] = rng.choice(b'0123456789{}[]",:.-etfn')
        case 3:
            del changed[at : at + rng.randrange(1, 9)]
        case 4:
            changed[at:at] = changed[at : at + rng.randrange(1, 9)]
        case 5:
            del changed[at:]
    return bytes(changed)
