"""Small files that ask for much, and how much memory this process takes to refuse them.

Run as a script, it prints for each file its size, the memory that loading it took at most, and what came of it.
"""

import ctypes
import gc
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # torch itself imports it at the first optimizer, or here
from policy_files import arrays_of, digest_of, file_of, parts_of, with_header
from policy_helpers import learned

from metaopt.errors import PolicyFileError
from metaopt.models.mlp import mlp
from metaopt.policies.file import PolicyCard, load_policy_file, save_policy
from metaopt.policies.fitting import fit_policy
from metaopt.policies.header import MOST_TENSORS
from metaopt.policies.policy import Policy
from metaopt.policies.settings import InitSettings, PolicySettings
from metaopt.policies.strict_json import LONGEST, MOST_CONTAINERS, MOST_VALUES
from metaopt.types import Kind, TaskSpec

TASK = TaskSpec(Kind.classification, (3,), 2)
SMALL, DEEP, WIDE = mlp(TASK, [4]), mlp(TASK, [4] * 20), mlp(TASK, [2500, 2500])
RATE = {"log_strengths.lr.all": np.float32([0]).reshape(())}
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def card_of(settings, model=SMALL, horizon=5):
    shapes = {name: tuple(shape) for name, shape in model.shapes.items()}
    return PolicyCard(settings, horizon, model.spec, shapes, "digits", "0", {}, model.roles)


PLAIN = PolicySettings("plain", learned(0.1, "global"))
CARD = card_of(PLAIN)


def signed_file(card, arrays=RATE, **changes):
    """A file whose digest is right, so that nothing but what it asks for speaks against it."""
    card = json.loads(json.dumps(card.to_json() | changes))
    return file_of(arrays, json.dumps(card | {"digest": digest_of(card, arrays)}))


def with_text(text, arrays=RATE):
    """A file whose card, of format 1, has JSON text in the place of its configuration."""
    card = json.dumps(CARD.to_json() | {"format": 1, "config": {}}).replace(
        '"config": {}', f'"config": {{"a": {text}}}'
    )
    return file_of(arrays, card)


def of_settings():
    """Cards that ask for large tensors, with the model to which they are fitted."""
    knots = replace(PLAIN, schedule="step_tensor", schedule_knots=1000)
    policy = Policy(knots, DEEP.shapes, DEEP.init, 10**6, roles=DEEP.roles)
    each = replace(PLAIN, l2=learned(0.1, "element"))
    huge = {name: [10**9] * len(shape) for name, shape in SMALL.shapes.items()}
    return {
        "a long schedule for each tensor": (
            signed_file(card_of(replace(PLAIN, schedule="step_tensor"), DEEP, 10**6)),
            DEEP,
        ),
        "many knots": (signed_file(card_of(knots, DEEP, 10**6), arrays_of(dict(policy.named_parameters()))), DEEP),
        "a strength for each parameter": (signed_file(card_of(each, WIDE)), WIDE),
        "a learned initialisation": (signed_file(card_of(replace(PLAIN, init=InitSettings("learned")), WIDE)), WIDE),
        "matrices": (signed_file(card_of(replace(PLAIN, preconditioner="curvature"), WIDE)), WIDE),
        "parameters of an exabyte": (signed_file(card_of(each), parameters=huge), SMALL),
        "horizon": (signed_file(CARD, horizon=10**18), SMALL),
    }


def of_headers():
    """Headers that say what is not so, or go to the limits."""
    text, data = parts_of(signed_file(CARD))
    none = {f"t{i:x}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(15_000)}
    return {
        "a header as long as all memory": (2**63).to_bytes(8, "little") + b"{}",
        "a header as long as a disk": (2**40).to_bytes(8, "little") + b"{}",
        "a header of spaces": with_header(text + " " * LONGEST, data),
        "a tensor of an exabyte": with_header(text.replace('"shape": []', '"shape": [1000000000, 1000000000]'), data),
        "a tensor of 2 ** 66": with_header(text.replace('"shape": []', '"shape": [4611686018427387904, 16]'), data),
        "as many tensors as are read": signed_file(CARD, many()),
        "as many without elements": file_of({}, json.dumps(CARD.to_json()), dict(list(none.items())[:MOST_TENSORS])),
        "too many without elements": file_of({}, json.dumps(CARD.to_json()), none),
        "many large shapes": file_of(
            RATE,
            "{}",
            {f"t{i}": {"dtype": "F32", "shape": [10**9, 2**31], "data_offsets": [0, 4]} for i in range(4000)},
        ),
    }


def many():
    """As many arrays as are read."""
    return {f"t{i:x}": np.zeros(1, np.float32) for i in range(MOST_TENSORS)}


def repeated(word, times):
    return ",".join([word] * times)


def distinct(keys):
    return ",".join(f'"{i:x}":0' for i in range(keys))


def of_json():
    """JSON that takes more in memory than in the file, nested, or slow to read."""
    few, most = MOST_CONTAINERS - 100, MOST_VALUES - MOST_CONTAINERS
    objects, keys = repeated('{"":0}', few), distinct(most)
    return {
        "nested lists": with_text("[" * few + "]" * few),
        "nested objects": with_text('{"":' * few + "0" + "}" * few),
        "lists": with_text(f"[{repeated('[]', few)}]"),
        "too many lists": with_text(f"[{repeated('[]', 250_000)}]"),
        "too many objects": with_text(repeated('{"":0}', 110_000).join("[]")),
        "too many keys": with_text(distinct(80_000).join("{}")),
        "lists of one": with_text(f"[{repeated('[0]', few)}]"),
        "objects": with_text(f"[{objects}]"),
        "integers": with_text(f"[{repeated('257', most)}]"),
        "too many integers": with_text(f"[{repeated('257', 230_000)}]"),
        "words": with_text(repeated('"ab"', most).join("[]")),
        "keys": with_text(keys.join("{}")),
        "too many lists, written as escapes": with_header(
            json.dumps({"__metadata__": {"metaopt": "#"}}).replace("#", "\\u005b\\u005d," * 70_000)
        ),
        "an integer of a million digits": with_text("1" * 10**6),
        "a number of a million digits": with_text("0." + "1" * 10**6),
        "wide characters": with_text(f'"{"a" * (LONGEST - 10**5)}😀"'),
        "everything at once": with_text(f'{{{distinct(MOST_VALUES // 3)},"w":"😀"}}', many()),
    }


def bombs():
    """The bytes of each file, and the model that it is for."""
    return of_settings() | {name: (data, SMALL) for name, data in (of_headers() | of_json()).items()}


def large(path):
    """A sound file of 25 MB, and its model."""
    settings = PolicySettings("per_parameter")
    policy = Policy(settings, WIDE.shapes, WIDE.init, 5, roles=WIDE.roles)
    save_policy(path, dict(policy.named_parameters()), card_of(settings, WIDE))
    return path.read_bytes(), WIDE


def loaded(path, model):
    try:
        fit_policy(*load_policy_file(path), model, path)
    except PolicyFileError as error:
        return str(error).replace(str(path), "")
    return "loaded"


def resident(key):
    """`VmRSS`, what this process takes of memory now, or `VmHWM`, the most since the last reset; in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def growth(act):
    """What an action returns, and the memory in bytes that it took at most."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not hide what is taken now
    RESET.write_text("5")
    before = resident("VmRSS")
    found = act()
    return found, resident("VmHWM") - before


def main(folder):
    torch.set_num_threads(1)
    path = folder / "policy.safetensors"
    files = bombs() | {"a large policy": large(path)}
    for settings in (PLAIN, replace(PLAIN, init=InitSettings("learned")), replace(PLAIN, preconditioner="curvature")):
        path.write_bytes(signed_file(card_of(settings)))
        loaded(path, SMALL)  # what is imported and cached at first is not the file's
    found = {}
    for name, (data, model) in files.items():
        path.write_bytes(data)
        outcome, taken = growth(lambda model=model: loaded(path, model))
        found[name] = {"size": len(data), "taken": taken, "outcome": outcome}
    # What the measure must see, or it would be no measure.
    found["a control"] = {"size": 0, "taken": growth(lambda: np.ones(2**24).sum())[1], "outcome": ""}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
