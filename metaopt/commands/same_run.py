"""That what is resumed is one run: its checkpoint, its configuration and its metrics belong together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from metaopt.commands.run_dir import RunFiles
from metaopt.errors import RunDirError
from metaopt.inner.plan import Plan
from metaopt.policies.file import PolicyCard
from metaopt.policies.strict_json import one_line, parse

FREE = ("device", "threads", "run_dir", "resume", "tracking")
"""Settings that change no result: where a run computes, lies and reports."""
ABSENT = "nothing"


def record_of(config: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """What a checkpoint keeps of how its run was set up, plain values."""
    return {"config": dict(config), "plan": asdict(plan)}


def begun_with(files: RunFiles, record: str, config: Mapping[str, Any], plan: Plan | None) -> Plan:
    """Makes sure that a run goes on as it began.

    Args:
        files: of the run.
        record: what `record_of` gave when it began, as JSON of any origin.
        config: what config.yaml says now.
        plan: what plan.json says now; None: it is gone.

    Returns:
        The plan that it began with.

    Raises:
        RunDirError: a setting that changes results is another one; all of these are named.
    """
    try:
        began = parse(record.encode())
        before, first_plan = began["config"], Plan.from_json(began["plan"])
    except (ValueError, TypeError, KeyError) as error:
        raise RunDirError(
            f"{files.checkpoint} is damaged (how its run was set up: {one_line(error)}); start the run again in "
            "another run_dir"
        ) from error
    now = {name: value for name, value in json.loads(json.dumps(config)).items() if name not in FREE}
    before = {name: value for name, value in before.items() if name not in FREE}
    different = [
        f"{name} is {_word(new)} in {files.config.name}, and was {_word(old)}"
        for name, new, old in _differences(now, before, "")
    ]
    if different:
        more = f" and {len(different) - 5} more" if len(different) > 5 else ""
        raise RunDirError(
            f"the checkpoint in {files.folder} is of a run with other settings: {'; '.join(different[:5])}{more}; put "
            f"{files.config.name} back as it was, or start a new run with the new settings"
        )
    if plan not in (None, first_plan):
        raise RunDirError(
            f"{files.plan} is not the plan that the checkpoint was made with; delete it, and the checkpoint's is used"
        )
    return first_plan


def check_same_card(files: RunFiles, begun: PolicyCard, now: PolicyCard) -> None:
    """Makes sure that the tasks and the model are those that a run began with.

    Raises:
        RunDirError: they are not, such as where data have changed since.
    """
    before, after = ({**card.to_json(), "config": None} for card in (begun, now))
    if before["split_hash"] != after["split_hash"]:
        raise RunDirError(
            f"the tasks of {files.folder} are not those that it began with (hash {one_line(after['split_hash'], 40)} "
            f"instead of {one_line(before['split_hash'], 40)}): their data have changed; restore them, "
            "or start a new run"
        )
    different = [name for name, new, old in _differences(json.loads(json.dumps(after)), before, "")]
    if different:
        raise RunDirError(
            f"{files.checkpoint} was not made by this run ({one_line(', '.join(different))} differ); restore the files "
            "of the run, or start a new one"
        )


def _differences(new: Any, old: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """Where two trees differ: name, and what stands there in each."""
    if isinstance(new, dict) and isinstance(old, dict):
        for key in dict.fromkeys((*new, *old)):
            yield from _differences(new.get(key, ABSENT), old.get(key, ABSENT), f"{name}.{key}" if name else str(key))
    elif type(new) is not type(old) or new != old:
        yield name, new, old


def _word(value: Any) -> str:
    return one_line(value if isinstance(value, str) else json.dumps(value), 60)
