"""Damaged checkpoints, ten thousand of them at night: each is restored as it was, or refused with one error."""

import io
import json
import pickle
import pickletools
import random
import tracemalloc
import zipfile
from collections import Counter
from itertools import pairwise

import pytest
import torch
from outer_problems import make_problem, make_state, parameters, short
from test_state import Run

from metaopt.errors import PolicyFileError
from metaopt.outer.state import load_checkpoint, restore_state
from metaopt.outer.torch_file import content_digest, read_torch_file

SHORT = short(iterations=12, validate_every=4, checkpoint_every=5)
FILES = 250


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "run"
    Run(folder, SHORT).go(stop_after=6)
    return (folder / "checkpoint.pt").read_bytes()


def records_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def archive_of(records, compression=zipfile.ZIP_STORED):
    """A zip of sound checksums, whatever is in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, record in records.items():
            archive.writestr(name, record)
    return buffer.getvalue()


def of_bytes(data, rng):
    changed = bytearray(data)
    at = rng.randrange(len(changed) if rng.random() < 0.5 else 3000)  # the pickle comes first
    match rng.randrange(5):
        case 0:
            changed[at] ^= 1 << rng.randrange(8)
        case 1:
            changed[at] = rng.randrange(256)
        case 2:
            del changed[at : at + rng.randrange(1, 9)]
        case 3:
            changed[at:at] = rng.randbytes(rng.randrange(1, 9))
        case 4:
            del changed[at:]
    return bytes(changed)


def of_pickle(data, rng):
    """Operations of the pickle taken out, doubled, exchanged or changed, in an archive that is sound."""
    records = records_of(data)
    text = records["archive/data.pkl"]
    ends = [position for _, _, position in pickletools.genops(text)]
    begin, end = rng.choice(list(pairwise(ends)))
    other, after = rng.choice(list(pairwise(ends)))
    match rng.randrange(4):
        case 0:
            text = text[:begin] + text[end:]
        case 1:
            text = text[:begin] + text[other:after] + text[begin:]
        case 2:
            text = text[:begin] + text[other:after] + text[end:]
        case 3:
            text = text[:begin] + bytes([text[begin]]) + rng.randbytes(end - begin - 1) + text[end:]
    return archive_of(records | {"archive/data.pkl": text})


def of_records(data, rng):
    records = records_of(data)
    name, other = rng.choice(list(records)), rng.choice(list(records))
    match rng.randrange(5):
        case 0:
            del records[name]
        case 1:
            records[name], records[other] = records[other], records[name]
        case 2:
            records[name] = records[name] * 2
        case 3:
            records[name + "x"] = records.pop(name)
        case 4:
            return archive_of(records, zipfile.ZIP_DEFLATED)
    return archive_of(records)


def of_values(data, rng):
    """Another value somewhere, by somebody who knows of the digest."""
    content = read_torch_file(data)
    del content["digest"]
    places = list(_places(content))
    where, key = rng.choice(places)
    value = where[key]
    if isinstance(value, torch.Tensor):
        where[key] = rng.choice((value * 2, -value, value.double(), value[:1] if value.dim() else value.reshape(1), 0))
    else:
        where[key] = rng.choice((None, True, 0, -1, 10**10, 2**80, 1.5, float("nan"), "", "x" * 9, [], {}, [value]))
    buffer = io.BytesIO()
    torch.save(content | {"digest": content_digest(content)}, buffer)
    return buffer.getvalue()


def _places(tree):
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], (dict, list)):
            yield from _places(tree[key])


def outcome(path, original):
    """`equal`, `other` where another sound content is signed, or the first words of the error."""
    try:
        content, _ = load_checkpoint(path)
        state = make_state(make_problem(), SHORT)
        restore_state(state, content, path, SHORT)
    except PolicyFileError as error:
        text = str(error)
        assert "\n" not in text
        assert len(text) < 2000
        return text.replace(str(path), "").strip()[:10]
    assert all(p.isfinite().all() for p in parameters(state).values())
    return "equal" if content_digest(content) == content_digest(original) else "other"


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(1, 40))])
def test_whatever_happens_to_a_checkpoint_it_is_restored_or_refused(original, tmp_path, seed):
    rng = random.Random(seed)
    found = Counter()
    content, path = read_torch_file(original), tmp_path / "checkpoint.pt"
    del content["digest"]
    path.write_bytes(original)
    assert outcome(path, content) == "equal"
    tracemalloc.start()
    try:
        for trial in range(FILES):
            change = rng.choices((of_bytes, of_pickle, of_records, of_values), (4, 3, 1, 2))[0]
            data = change(original, rng)
            path.write_bytes(data)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            result = outcome(path, content)
            assert tracemalloc.get_traced_memory()[1] - before < 10 * len(data) + 2**20, (trial, change, result)
            assert result != "other" or change is of_values, trial
            found[result] += 1
    finally:
        tracemalloc.stop()
    assert found["is damaged"] > 0, found
    assert found["is not a c"] > FILES // 4, found
    assert found["is not fro"] > 0, found
    assert found["equal"] < FILES // 5, found


def pickled(*operations, records=None):
    """An archive whose pickle consists of these operations."""
    return archive_of(
        {"archive/data.pkl": b"\x80\x02" + b"".join(operations), "archive/byteorder": b"little"} | (records or {})
    )


def tensor_of(storage, rest):
    """A tensor with the words that torch would write for it."""
    buffer = io.BytesIO()
    torch.save({"x": storage}, buffer)
    records = records_of(buffer.getvalue())
    text = records["archive/data.pkl"]
    begin = text.index(b"Q") + 1  # behind its storage
    return archive_of(records | {"archive/data.pkl": text[:begin] + rest + b"\x89cbuiltins\ndict\n)RtR."})


DOUBLING = b"]q\x00" + b"".join(b"]q%b(h%bh%be" % (bytes([i + 1]), bytes([i]), bytes([i])) for i in range(60)) + b"."
BOMBS = {
    "code": archive_of({"archive/data.pkl": pickle.dumps(print, 2), "archive/byteorder": b"little"}),
    "a byte array of any length": pickled(b"cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R."),
    "a text of any length": pickled(b"X\xff\xff\xff\x7fabc."),
    "bytes of any length": pickled(b"\x8e\xff\xff\xff\xff\xff\x00\x00\x00abc."),
    "a place in the memo of any number": pickled(b"]r\xff\xff\xff\x7f."),
    "an integer of any length": pickled(b"\x8b\x00\x00\x10\x00" + b"\x7f" * 2**20 + b"."),
    "lists that double": pickled(DOUBLING),
    "lists in lists": pickled(b"](" * 50_000 + b"e" * 50_000 + b"."),
    "tuples in tuples": pickled(b")" + b"\x85" * 50_000 + b"."),
    "a view of a terabyte": tensor_of(torch.zeros(4), b"K\x00\x8a\x05\x00\x00\x00\x00\x10\x85K\x00\x85"),
    "a view behind its storage": tensor_of(torch.zeros(4), b"K\x04K\x04\x85K\x01\x85"),
    "compressed zeros": archive_of({"archive/data.pkl": b"\x80\x02)." + bytes(2**25)}, zipfile.ZIP_DEFLATED),
    "a card in a card": pickled(b"}X\x04\x00\x00\x00cardX\x02\x00\x00\x00{}s."),
    "no zip": b"PK\x05\x06" + bytes(18),
    "many records": archive_of({f"archive/{i}": b"" for i in range(70_000)}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_file_is_read_that_asks_for_more_than_it_holds(name, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(BOMBS[name])
    tracemalloc.start()
    try:
        with pytest.raises(PolicyFileError) as caught:
            load_checkpoint(path)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert taken < 10 * len(BOMBS[name]) + 2**20


def test_tensors_of_every_shape_come_back():
    content = {
        "a": torch.arange(5.0), "b": torch.zeros(0), "c": torch.tensor(3), "d": torch.rand(2, 3, 1).double(),
        "e": torch.zeros(2, 0, 3), "f": torch.arange(3, dtype=torch.uint8),
        "plain": [1, -(2**62), 2**80, 1.5, float("inf"), True, None, "ü", (), (1, (2,)), [], {}, {0: {"x": []}}],
    }  # fmt: skip
    buffer = io.BytesIO()
    torch.save(content, buffer)
    found = read_torch_file(buffer.getvalue())
    assert json.dumps(found["plain"]) == json.dumps(content["plain"])
    assert content_digest(found) == content_digest(content)
    assert all(torch.equal(found[key], content[key]) for key in "abcdef")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True), (0, False), (1, 1.0), (0.0, -0.0), (None, "null"), ([1], (1,)), ({"1": 2}, {1: 2}), ("a", ["a"]),
        (torch.zeros(2), torch.zeros(2, 1)), (torch.zeros(2), torch.zeros(2).double()), (torch.zeros(1), 0.0),
        (torch.tensor([0.0]), torch.tensor([-0.0])),
    ],
)  # fmt: skip
def test_a_digest_tells_values_apart(one, other):
    assert content_digest({"x": one}) != content_digest({"x": other})


def test_tensors_that_share_memory_are_refused():
    whole, buffer = torch.arange(6.0), io.BytesIO()
    torch.save({"whole": whole, "part": whole[:2]}, buffer)
    with pytest.raises(ValueError, match="tensor"):
        read_torch_file(buffer.getvalue())
