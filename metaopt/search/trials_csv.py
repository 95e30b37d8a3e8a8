"""The file that holds every trial of every search: `trials.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metaopt.files import write_text
from metaopt.search.records import SearchOutcome

TRIAL_COLUMNS = (
    "task",
    "method",
    "trial",
    "validation_loss",
    "diverged",
    "chosen",
    "test_loss_of_answer",
    "accuracy",
)


def write_trials_csv(searches: Sequence[SearchOutcome], path: str | Path, members: Sequence[str] = ()) -> None:
    """Write `trials.csv`: a row per task, method and trial, with full precision.

    Columns: task and trial (both counted from 0), method, validation_loss, diverged (true or false); chosen, the trial
    that is the answer after this one; test_loss_of_answer and accuracy, both on the test set (empty for regression);
    member, the task's table, where tasks are draws from tables; and one column for each hyperparameter, in the order in
    which they first come up, empty where a trial has no such choice.

    Args:
        searches: what was tried, all on the same tasks.
        path: the file, replaced in one stroke.
        members: name of what each task is a draw from, [tasks]; empty where tasks are independent.
    """
    names = list(
        dict.fromkeys(name for search in searches for task in search.settings for tried in task for name in tried)
    )
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*TRIAL_COLUMNS, *(["member"] if members else []), *names])
    for task in range(len(searches[0].loss) if searches else 0):
        for search in searches:
            for trial in range(search.trials):
                tried = search.settings[task][trial]
                rows.writerow(
                    [
                        task,
                        search.name,
                        trial,
                        float(search.validation[task, trial]),
                        "true" if search.diverged[task, trial] else "false",
                        int(search.chosen[task, trial]),
                        float(search.loss[task, trial]),
                        "" if search.accuracy is None else float(search.accuracy[task, trial]),
                        *members[task : task + 1],
                        *(_cell(tried.get(name)) for name in names),
                    ]
                )
    write_text(path, text.getvalue())


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else value
