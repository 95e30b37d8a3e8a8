"""Tracking with Weights & Biases, quiet, and offline unless told otherwise."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final
from uuid import uuid4

import numpy as np

from metaopt.errors import ConfigError
from metaopt.files import write_text
from metaopt.tracking.tracker import Rows, scalar_metrics

if TYPE_CHECKING:
    import wandb

ID_FILE = "wandb_id"
MODES_OF_WANDB = ("offline", "online", "disabled", "dryrun", "run")
INIT_SECONDS = 20.0
FINISH_SECONDS = 300.0


@final
class WandbTracker:
    """One run of Weights & Biases. Its files lie in `run_dir`/wandb, its id in `run_dir`/wandb_id.

    Nothing is printed, nothing is asked for, and neither code nor the git state is sent. Offline it needs no account
    and no network; `wandb sync` uploads such a run later.
    """

    def __init__(
        self,
        run_dir: Path,
        config: dict[str, Any],
        mode: Literal["offline", "online", "disabled"],
        project: str = "metaopt",
        name: str | None = None,
        resume_id: str | None = None,
    ) -> None:
        """Start the run, or go on with it where `run_dir` has been tracked before.

        Args:
            run_dir: the run's directory.
            config: the resolved configuration, for the record.
            mode: "online" uploads as the run goes and needs a login; "disabled" does nothing.
            project: the project on the server.
            name: the run's name on the server; None lets the server choose.
            resume_id: id of the run to go on with; None takes the one that `run_dir` holds, or a new one.

        Raises:
            ConfigError: `mode` is "online" and no login is known.
            OSError: `run_dir` cannot be written to.
            Exception: whatever else W&B raises, such as a server that does not answer in time.
        """
        try:
            import wandb  # noqa: PLC0415 - takes a second that runs without tracking need not wait
            from wandb.errors import UsageError  # noqa: PLC0415
        except SystemExit as error:  # a broken installation is worth no run
            raise ImportError(f"wandb ends the process as it is imported ({error})") from None

        self._wandb = wandb
        # W&B replaces these for good, to learn of the exit; they are put back when the run ends.
        self._hooks = (sys.exit, sys.excepthook)
        self._run: wandb.Run | None = None
        run_id = resume_id or _stored_id(run_dir) or uuid4().hex[:8]
        _prepare(run_dir, run_id)
        try:
            # Silent for the whole process and before anything else, since init speaks and asks before it reads its own.
            with _writable_cache(run_dir / "wandb" / "cache"):
                wandb.setup(settings=wandb.Settings(silent=True))
            self._run = wandb.init(
                dir=str(run_dir),
                config=config,
                mode=mode,
                project=project,
                name=name,
                id=run_id,
                resume="allow",
                settings=_settings(),
            )
            if mode == "online" and self._run.offline:
                raise ConfigError("tracking.mode=online needs a login, and none is known; run `wandb login`")
        except UsageError as error:
            self.close()
            raise ConfigError(f"tracking.mode={mode} is not possible: {error}") from None
        except BaseException:
            self.close()
            raise

    def log(self, record: dict[str, Any], step: int) -> None:
        """See `Tracker.log`."""
        self._log(scalar_metrics(record), step)

    def histograms(self, values: dict[str, np.ndarray], step: int) -> None:
        """See `Tracker.histograms`; a single value becomes a metric, and entries that are not finite are left out."""
        shown: dict[str, Any] = {}
        for name, array in values.items():
            finite = np.asarray(array, dtype=np.float64)[np.isfinite(array)]
            if np.size(array) == 1 and len(finite):
                shown[name] = float(finite[0])
            elif len(finite):
                shown[name] = self._wandb.Histogram(finite.tolist())
        self._log(shown, step)

    def finish(
        self, tables: Mapping[str, Rows], figures: Sequence[Path], policy: Path | None, report: Path | None = None
    ) -> None:
        """See `Tracker.finish`."""
        if self._run is None:
            return
        shown: dict[str, Any] = {f"figures/{path.stem}": self._wandb.Image(str(path)) for path in figures}
        for name, table in tables.items():
            columns: list[Any] = list(dict.fromkeys(key for row in table for key in row))
            rows: list[Any] = [[row.get(column) for column in columns] for row in table]
            if rows:
                shown[name] = self._wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
        if report is not None:
            shown["report"] = self._wandb.Html(report.read_text(encoding="utf-8"), inject=False)
        if shown:
            self._run.log(shown)
        if policy is not None:
            self._attach(self._run, policy)

    def close(self) -> None:
        """See `Tracker.close`; W&B's service process ends, too."""
        run, self._run = self._run, None
        try:
            if run is not None:
                run.finish()
        finally:
            self._wandb.teardown()
            sys.exit, sys.excepthook = self._hooks

    def _log(self, metrics: dict[str, Any], step: int) -> None:
        if self._run is not None and metrics:
            self._run.log(metrics, step=step)

    def _attach(self, run: wandb.Run, policy: Path) -> None:
        # A copy beside the run's own files: the original may be replaced before an offline run is uploaded, and W&B's
        # own copy would lie in the home directory.
        copy = Path(run.dir).parent / "artifacts" / policy.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(policy, copy)
        artifact = self._wandb.Artifact(f"policy-{run.id}", type="policy")
        artifact.add_file(str(copy), policy="immutable", skip_cache=True)
        run.log_artifact(artifact)


def _prepare(run_dir: Path, run_id: str) -> None:
    """Keep the id, and make sure of W&B's folder: where it cannot write, it goes elsewhere without a word."""
    write_text(run_dir / ID_FILE, run_id + "\n")
    folder = run_dir / "wandb"
    folder.mkdir(exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"cannot write to {folder}")


@contextmanager
def _writable_cache(instead: Path) -> Iterator[None]:
    """Gives W&B's service, where nothing can be written below the home directory, another place for its log.

    Without one it logs to the console, whatever it was told.
    """
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wandb"
    while not place.exists() and place != place.parent:
        place = place.parent
    if os.access(place, os.W_OK):
        yield
        return
    names = ("XDG_CACHE_HOME", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR")
    before = {name: os.environ.get(name) for name in names}
    instead.mkdir(parents=True, exist_ok=True)
    os.environ.update(dict.fromkeys(names, str(instead)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def mode_of_environment(configured: str) -> str:
    """The mode that W&B's own variable asks for, else the one that is configured."""
    word = os.environ.get("WANDB_MODE", "").strip().lower()
    return {"dryrun": "offline", "run": "online"}.get(word, word) if word in MODES_OF_WANDB else configured


def _stored_id(run_dir: Path) -> str | None:
    file = run_dir / ID_FILE
    return file.read_text(encoding="utf-8").strip() or None if file.exists() else None


def _settings() -> wandb.Settings:
    import wandb  # noqa: PLC0415

    settings: dict[str, Any] = {
        "silent": True,
        "quiet": True,
        "console": "off",
        "disable_git": True,
        "disable_code": True,
        "save_code": False,
        "init_timeout": INIT_SECONDS,
        "x_disable_stats": True,
    }
    if "finish_timeout" in wandb.Settings.model_fields:  # newer releases: a lost network may not hold a run for ever
        settings |= {"finish_timeout": FINISH_SECONDS, "finish_timeout_raises": True}
    return wandb.Settings(**settings)
