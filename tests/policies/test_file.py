import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from policy_files import arrays_in, arrays_of, card_in, digest_of, file_of, signed
from policy_helpers import HORIZON, fixed, learned
from safetensors.torch import load_file, save_file

from metaopt.errors import ConfigError, PolicyFileError
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
    """The same file with other tensors or another card, and with the digest of these."""
    arrays = arrays_of(load_file(path) if tensors is None else tensors)
    path.write_bytes(file_of(arrays, json.dumps(signed(CARD.to_json() | changes, arrays))))


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


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"metaopt": "[]"}, {"metaopt": "{}"}, {"metaopt": ""}])
def test_tensors_of_another_make_are_refused(path, metadata):
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
    assert_refused(path, "carries no metaopt policy")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting property name"),
        ("nonsense", "Expecting value"),
        ("\ufeff{}", "Unexpected UTF-8 BOM"),
        ("[" * 30_000, "nested deeper than 32"),
        ('{"a":' * 33 + "0" + "}" * 33, "nested deeper than 32"),
        ("[" * 100_000, r"in 1000\d\d lists and objects; at most"),
        ('{"format": ' + "1" * 5000 + "}", "beyond 64 bits"),
        ('{"format": 9223372036854775808}', "beyond 64 bits"),
        ('{"format": 1.' + "1" * 5000 + "}", "not finite or too long"),
        ('{"format": 1e999}', "not finite or too long"),
        ('{"format": NaN}', "NaN, which JSON does not know"),
        ('{"format": -Infinity}', "-Infinity, which JSON does not know"),
        ('{"format": 2, "format": 2}', "'format' twice"),
        ('{"format": 2, "model": {"a": 1, "b": 2, "a": 1}}', "'a' twice"),
        ("{1: 2}", "Expecting property name"),
        ('{"\\ud800": 0}', "surrogates not allowed"),
        ('{"a": ["\\udfff"]}', "surrogates not allowed"),
    ],
    ids=lambda value: value[:30],
)
def test_metadata_that_is_no_json_or_more_is_refused(path, text, words):
    path.write_bytes(file_of(arrays_in(path.read_bytes()), text))
    assert_refused(path, f"(damaged metadata|not a policy file).*{words}")


@pytest.mark.parametrize("version", [0, 3, "1", "2", None, [1], True, 1.0, 2.0])
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


def test_the_digest_is_that_of_the_documentation(path, tensors):
    assert card_in(path.read_bytes()) == signed(CARD.to_json(), arrays_of(tensors))


def test_a_change_anywhere_does_not_match_the_digest(path, tensors):
    original = path.read_bytes()
    arrays, card = arrays_in(original), card_in(original)
    path.write_bytes(file_of(arrays, json.dumps(dict(reversed(card.items())), indent=1)))
    assert load_policy_file(path)[1] == CARD  # other spaces and another order are no change
    for key in card.keys() - {"format"}:
        changed = {"digest": "0" * 64, "horizon": 6, "tasks": "sinusoid"}.get(key, card[key])
        entries = [{name: value for name, value in card.items() if name != key}]
        entries += [card | {key: changed}] if changed != card[key] else []
        for other in entries:
            path.write_bytes(file_of(arrays, json.dumps(other)))
            assert_refused(path, "damaged")
    for other in (card | {"more": 1}, card | {"config": card["config"] | {"seed": 0.0}}):
        path.write_bytes(file_of(arrays, json.dumps(other)))
        assert_refused(path, "does not match its digest")
    name = "log_strengths.lr.hidden0/weight"
    zeros = {key: np.zeros_like(array) for key, array in arrays.items()}
    zeros["momentum_logit"] = np.array(-0.0, np.float32)
    signed_zeros = json.dumps(signed(CARD.to_json(), zeros))
    for changed in (
        {name: np.nextafter(arrays[name], np.float32(9))},
        {name: arrays[name].reshape(arrays[name].shape[::-1])},
        {name: arrays[name].view(np.int32)},
    ):
        path.write_bytes(file_of(arrays | changed, json.dumps(card)))
        assert_refused(path, "damaged")
    path.write_bytes(file_of(zeros | {"momentum_logit": np.array(0.0, np.float32)}, signed_zeros))
    assert_refused(path, "does not match its digest")
    path.write_bytes(file_of(zeros, signed_zeros))
    assert str(restored(path).momentum_logit.item()) == "-0.0"


def test_files_of_format_1_are_read_where_they_have_no_digest(path, tensors):
    arrays = arrays_of(tensors)
    card = CARD.to_json() | {"format": 1}
    path.write_bytes(file_of(arrays, json.dumps(card)))
    found, read = load_policy_file(path)
    assert read == CARD
    assert all(torch.equal(found[name], t) for name, t in tensors.items())
    for digest in (None, "", digest_of(card, arrays)):
        path.write_bytes(file_of(arrays, json.dumps(card | {"digest": digest})))
        assert_refused(path, "does not match its digest")


@pytest.mark.parametrize("digest", [None, "", 0, [], "0" * 64, "upper"])
def test_files_of_format_2_need_their_digest(path, tensors, digest):
    arrays = arrays_of(tensors)
    digest = digest_of(CARD.to_json(), arrays).upper() if digest == "upper" else digest
    path.write_bytes(file_of(arrays, json.dumps(CARD.to_json() | {"digest": digest})))
    assert_refused(path, "does not match its digest; copy it again")
    path.write_bytes(file_of(arrays, json.dumps(CARD.to_json())))
    assert_refused(path, "does not match its digest; copy it again")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_settings_that_no_file_can_hold_are_refused_before_anything_is_trained(value):
    with pytest.raises(ConfigError, match=r"tasks\.ranges is (nan|inf), which a policy file cannot hold"):
        replace(CARD, config={"tasks": {"n_way": 5, "ranges": [1.0, value]}})


def test_what_could_not_be_read_again_is_not_written(path):
    before = path.read_bytes()
    many = {f"t{i}": torch.zeros(1) for i in range(4097)}
    with pytest.raises(PolicyFileError, match=r"is not written, because .*4097 tensors; at most 4096"):
        save_policy(path, many, CARD)
    with pytest.raises(PolicyFileError, match=r"is not written, because .*nested deeper"):
        save_policy(path, {}, replace(CARD, model=json.loads('{"a":' * 40 + "0" + "}" * 40)))
    assert path.read_bytes() == before
    save_policy(path, dict(list(many.items())[:4096]), CARD)
    assert len(load_policy_file(path)[0]) == 4096


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_tensors_that_are_no_numbers_are_refused(path, tensors, value):
    tensors["log_strengths.lr.hidden0/weight"][1, 2] = value
    rewrite(path, tensors)
    assert_refused(path, "no finite floats")


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bool, torch.complex64, torch.float64])
def test_tensors_of_other_types_are_refused(path, tensors, dtype):
    save_file(
        tensors | {"momentum_logit": torch.zeros((), dtype=dtype)},
        path,
        metadata={"metaopt": json.dumps(card_in(path.read_bytes()))},
    )
    assert_refused(path, r"damaged metadata \(tensors of .*, where a policy's are all F32 or all F64\)")
    tensors["momentum_logit"] = tensors["momentum_logit"].to(dtype)
    with pytest.raises(PolicyFileError, match="no finite floats of one type"):
        fit_policy(tensors, CARD, MODEL, path)


def test_a_policy_has_the_type_of_its_file(path, tensors):
    for dtype in (torch.float32, torch.float64):
        save_policy(path, {name: tensor.to(dtype) for name, tensor in tensors.items()}, CARD)
        for name, p in restored(path).named_parameters():
            assert torch.equal(p, tensors[name].to(dtype)), name


def test_wrong_tensors_are_refused_by_name(path, tensors):
    rewrite(path, tensors | {"momentum_logit": torch.zeros(1)})
    assert_refused(path, r"'momentum_logit' should be of shape \(\) but is of shape \(1,\)")
    rewrite(path, tensors | {"momentum_logit": torch.zeros(1), "a\nb": torch.zeros(10**4)})
    assert_refused(path, r"is of shape \(1,\) in the file, 'a b' should be absent but is of shape \(10000,\)")
    rewrite(path, tensors | {"extra": torch.zeros(1)})
    assert_refused(path, "'extra' should be absent")
    rewrite(path, {name: t for name, t in tensors.items() if name != "momentum_logit"})
    assert_refused(path, "'momentum_logit' should be .* but is absent")


@pytest.mark.parametrize("setting", ["rule", "preconditioner", "optimizer"])
def test_a_file_that_needs_a_part_which_is_not_here_is_not_called_damaged(setting, path):
    settings = CARD.to_json()["policy"] | {setting: "of_tomorrow"}
    rewrite(path, policy=settings)
    assert_refused(path, f"needs {setting} 'of_tomorrow'.*the version, or the extension")
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    assert_refused(path, "is damaged")
