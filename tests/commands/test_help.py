import os
import re
import subprocess
import sys

import pytest
import yaml
from command_helpers import ROOT


def help_of(script):
    command = [sys.executable, str(ROOT / script), "--help"]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ).stdout


def known_fields(tree, prefix=""):
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from known_fields(value, f"{prefix}{key}.")


def settings_of(config):
    """The configuration with the fields that any choice of a group has, and the choices of each group."""
    settings = yaml.safe_load((ROOT / "conf" / f"{config}.yaml").read_text())
    choices = {}
    for entry in settings.pop("defaults"):
        for group, default in entry.items() if isinstance(entry, dict) else ():
            files = sorted((ROOT / "conf" / group).glob("*.yaml"))
            choices[group] = [path.stem for path in files]
            if default is not None:
                last = [path for path in files if path.stem == default]
                settings[group] = {
                    key: value for path in [*files, *last] for key, value in yaml.safe_load(path.read_text()).items()
                }
    return settings, choices


@pytest.mark.parametrize(("script", "config"), [("train_meta.py", "train"), ("evaluate.py", "evaluate")])
def test_help_lists_every_choice_and_only_fields_that_exist(script, config):
    text = help_of(script)
    settings, choices = settings_of(config)
    for group, names in choices.items():
        assert re.search(rf"^ +{group}= ", text, re.MULTILINE)
        assert all(name in text for name in names)
    section = text.split("Most used fields")[1].split("Other")[0]
    shown = re.findall(r"^  ([a-z_.0-9]+)=(\S*)", section, re.MULTILINE)
    assert len(shown) >= 10
    assert {name for name, _ in shown} <= set(known_fields(settings))
    for name, value in shown:
        if value.replace(".", "").isdigit() and config == "train":
            found = settings
            for part in name.split("."):
                found = found[part]
            assert float(value) == found, f"--help shows {name}={value} as the default"
