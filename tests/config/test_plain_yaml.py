"""Configurations of any origin: ten thousand damaged ones at night, each read as it was, or refused with one error."""

import random
import time
import tracemalloc
from collections import Counter
from dataclasses import asdict

import pytest
from hydra import compose, initialize_config_dir

from metaopt.commands.launch import config_folder
from metaopt.config.load import read_config, to_yaml, train_config
from metaopt.config.plain_yaml import LONGEST, MOST_VALUES, parse_yaml
from metaopt.errors import ConfigError

BOMBS = {
    "laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)),
    "merges": "a: &a {x: 1}\nb: {<<: *a}\n",
    "lists in lists": "a: " + "[" * 5000 + "]" * 5000,
    "mappings in mappings": "".join("  " * i + "a:\n" for i in range(300)),
    "a class": "a: !!python/object/apply:os.system [true]\n",
    "bytes": "a: !!binary abc\n",
    "a long number": "a: " + "1" * 9000,
    "a number to the base of sixty": "a: " + ":".join(["59"] * 2800),
    "a long word": "a: " + "x" * 10_000,
    "many values": "a: [" + "1," * (MOST_VALUES + 1) + "1]",
    "many characters": "a: 1 #" + "x" * LONGEST,
    "a key twice": "a: 1\na: 2\n",
    "a list for a key": "? [1, 2]\n: 3\n",
    "the environment": "a: ${oc.env:HOME}\n",
    "a loop": "a: ${b}\nb: ${a}\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "no mapping": "[1]",
    "a number": "7",
    "nothing but a beginning": "a: [",
    "a zero byte": "a: \0",
    "tabs": "a:\n\t- 1",
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_no_run_writes_is_refused(name, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(BOMBS[name])
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=r"config\.yaml is damaged") as caught:
            read_config(path)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert taken < 10 * len(BOMBS[name]) + 2**21
    assert time.process_time() - began < 20, "it does not hang"


def test_what_is_no_file_or_no_text_is_refused(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00a")
    (tmp_path / "folder").mkdir()
    for name in ("bytes", "folder"):
        with pytest.raises(ConfigError, match="is damaged"):
            read_config(tmp_path / name)
    with pytest.raises(ConfigError, match="no nothing in"):
        read_config(tmp_path / "nothing")


def test_plain_values_come_as_they_are():
    found = parse_yaml("a: [1, 1.5, true, null, x]\nb: {c: '007'}\n")
    assert found == {"a": [1, 1.5, True, None, "x"], "b": {"c": "007"}}


@pytest.fixture(scope="module")
def original():
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = train_config(compose("train", overrides=["run_dir=runs/x", "tracking=none"]))
    return to_yaml(config), asdict(config)


def mutated(text, rng):
    """One to three changes of characters, words, lines or indentation."""
    for _ in range(rng.randint(1, 3)):
        lines = text.splitlines(keepends=True) or ["\n"]
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(8):
            case 0:
                position = rng.randrange(len(text) + 1)
                text = text[:position] + rng.choice("&*!|>%@`'\"{}[],:#-?\t\0é\ud7ff0 ") + text[position:]
            case 1:
                position = rng.randrange(len(text) + 1)
                text = text[:position] + text[position + rng.randint(1, 8) :]
            case 2:
                text = "".join(lines[:at] + lines[at + 1 :])
            case 3:
                text = "".join([*lines[:at], lines[other], *lines[at:]])
            case 4:
                lines[at] = " " * rng.randint(1, 4) + lines[at]
                text = "".join(lines)
            case 5:
                key = lines[at].partition(":")[0]
                words = ("null", "-1", "1e999", "true", "[]", "{}", "&a b", "*a", "${seed}", "!!x y", "9" * 30, "''")
                lines[at] = f"{key}: {rng.choice(words)}\n"
                text = "".join(lines)
            case 6:
                text = text[: rng.randrange(len(text) + 1)]
            case 7:
                lines[at], lines[other] = lines[other], lines[at]
                text = "".join(lines)
    return text


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(1, 100))])
def test_whatever_happens_to_a_configuration_it_is_read_or_refused(original, tmp_path, seed):
    text, expected = original
    rng, found, said = random.Random(seed), Counter(), []
    path = tmp_path / "config.yaml"
    for _ in range(100):
        path.write_text(mutated(text, rng), encoding="utf-8")
        try:
            config = read_config(path)
        except ConfigError as error:
            said.append(str(error))
        else:
            found["equal" if asdict(config) == expected else "other settings"] += 1
    assert not [text for text in said if "\n" in text or len(text) > 2000]
    assert len(said) > 20
    assert sum(found.values()) + len(said) == 100
