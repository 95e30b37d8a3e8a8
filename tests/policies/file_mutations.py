"""Random damage to policy files: to their bytes, to the header and to the card in it."""

import json
import string

from policy_files import parts_of, with_header

PUNCTUATION = b'0123456789{}[]",:.-+eE\\tfn \n'


def mutated(data, rng):
    """A file with one to four changes.

    Args:
        data: the file's bytes.
        rng: a `random.Random`, which alone decides on the changes.
    """
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        change = rng.choices((of_bytes, of_length, of_header, of_card), (4, 1, 3, 6))[0]
        try:
            data = change(data, rng)
        except (ValueError, KeyError, TypeError, IndexError):  # an earlier change left nothing of this kind to change
            data = of_bytes(data, rng)
    return data


def of_bytes(data, rng):
    """Bits flipped; bytes overwritten, put in, cut out, doubled or exchanged; or the end cut off."""
    changed = bytearray(data or b"\0")
    header = 8 + int.from_bytes(data[:8], "little")
    at, other = (rng.randrange(min(header, len(changed)) if rng.random() < 0.5 else len(changed)) for _ in range(2))
    size = rng.randint(1, 16)
    match rng.randrange(8):
        case 0:
            changed[at] ^= 1 << rng.randrange(8)
        case 1:
            changed[at] = rng.randrange(256)
        case 2:
            changed[at] = rng.choice(PUNCTUATION)
        case 3:
            changed[at:at] = rng.randbytes(size)
        case 4:
            del changed[at : at + size]
        case 5:
            changed[other:other] = changed[at : at + size]
        case 6:
            changed[at : at + size], changed[other : other + size] = (
                changed[other : other + size],
                changed[at : at + size],
            )
        case 7:
            del changed[rng.choice((at, len(changed) - size)) :]
    return bytes(changed)


def of_length(data, rng):
    """Another length of the header, with the header as it was or with spaces to match."""
    length = int.from_bytes(data[:8], "little")
    more = rng.choice((-8, -1, 1, 8, 100))
    if rng.random() < 0.3:
        text, numbers = parts_of(data)
        return with_header(text + " " * rng.randint(1, 64), numbers)
    other = rng.choice((0, 1, 2**31, 2**63, 2**64 - 1, len(data), len(data) - 8, rng.randrange(2**64), length + more))
    return (other % 2**64).to_bytes(8, "little") + data[8:]


def of_header(data, rng):
    """A change of what the header says of the tensors, or of its keys."""
    text, numbers = parts_of(data)
    header = json.loads(text)
    names = [name for name in header if name != "__metadata__"]
    name, other = rng.choice(names), rng.choice(names)
    entry = header[name]
    match rng.randrange(11):
        case 0:
            entry["dtype"] = rng.choice(
                ("F64", "I32", "U32", "F16", "BF16", "F8_E4M3", "BOOL", "C64", "F4", "X", 1, None)
            )
        case 1:
            entry["shape"] = rng.choice(
                (entry["shape"][::-1], [*entry["shape"], 1], entry["shape"][1:], [2**62, 4], [-1])
            )
        case 2:
            entry["data_offsets"][rng.randrange(2)] += rng.choice((-8, -4, -1, 1, 4, 2**63))
        case 3:
            entry["data_offsets"], header[other]["data_offsets"] = header[other]["data_offsets"], entry["data_offsets"]
        case 4:
            del entry[rng.choice(list(entry))]
        case 5:
            del header[name]
        case 6:
            header[rng.choice((name + "0", name[:-1], other.upper(), ""))] = header.pop(name)
        case 7:
            header[name + "2"] = entry | {"shape": [0], "data_offsets": [0, 0]}
        case 8:
            header["__metadata__"][rng.choice(("format", "metaopt2", "x"))] = rng.choice(("pt", "", 1))
        case 9:
            header["__metadata__"] = rng.choice(({}, None, {"metaopt": ""}, {"metaopt": "{}"}))
        case 10:
            items = list(header.items())
            rng.shuffle(items)
            header = dict(items)
    return with_header(json.dumps(header, indent=rng.choice((None, 1))), numbers)


def of_card(data, rng):
    """A change of the card's values, keys, format, digest or text."""
    text, numbers = parts_of(data)
    header = json.loads(text)
    card = json.loads(header["__metadata__"]["metaopt"])
    where, key = rng.choice(list(_places(card)))
    match rng.randrange(8):
        case 0 | 1:
            where[key] = _changed(where[key], rng)
        case 2:
            del where[key]
        case 3 if isinstance(where, dict):
            where[f"{key}{rng.choice(string.ascii_letters)}"] = where.pop(key)
        case 4:
            where[key] = rng.choice((None, True, [], {}, "", [where[key]], {"a": where[key]}, str(where[key]), 10**30))
        case 5:
            card["format"] = rng.choice((0, 1, 3, "2", 2.0, None, True, [2]))
        case 6:
            card["digest"] = rng.choice(
                (None, "", "0" * 64, str(card.get("digest")).upper(), str(card.get("digest"))[:-1])
            )
        case _:
            return _with_card(header, numbers, _rewritten(json.dumps(card), str(key), rng))
    return _with_card(header, numbers, json.dumps(card, indent=rng.choice((None, 2))))


def _with_card(header, numbers, text):
    header["__metadata__"]["metaopt"] = text
    return with_header(json.dumps(header), numbers)


def _rewritten(text, key, rng):
    """JSON with a key twice, or with a number that is none, or with a character of another kind."""
    match rng.randrange(4):
        case 0:
            return text.replace(f'"{key}":', f'"{key}": 0, "{key}":', 1)
        case 1:
            return text.replace(
                ": 1", f": {rng.choice(('NaN', '-Infinity', '1e999', '1' * 5000, '1.0', '01', '1e0'))}", 1
            )
        case 2:
            at = rng.randrange(len(text))
            return text[:at] + rng.choice(("\\ud800", "é", "\u2028", "\0", "😀", "//", "'")) + text[at:]
        case _:
            return text.replace("a", "\\u0061", rng.randint(1, 3))


def _places(value):
    """Every place in nested lists and dictionaries: what holds it, and where."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _changed(value, rng):
    if isinstance(value, bool) or value is None:
        return rng.choice((True, False, None, 0))
    if isinstance(value, (int, float)):
        return rng.choice((value + 1, value - 1, -value, value * 10, float(value), int(value), 10**6, 1e-300))
    if isinstance(value, str):
        at = rng.randrange(len(value) + 1)
        return value[:at] + rng.choice(string.printable) + value[at + 1 :]
    return type(value)(list(value.items())[1:]) if isinstance(value, dict) else value[::-1] + value[:1]
