"""Where studies are kept, so that a search that was stopped goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage, get_storage

PATIENCE = 60.0
"""Seconds for which one process waits until another has written to the same file."""


class _Quick(sqlite3.Connection):
    """A connection that does not wait for the disk.

    A study writes some twenty times for each trial, and each wait takes longer than a small network's whole training.
    What has been written outlives the process, however that ends; only a power failure may damage the file.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA synchronous=OFF")


@contextmanager
def opened(url: str | None) -> Iterator[BaseStorage]:
    """Optuna's storage at a URL, whose connections are closed on leaving; None: in memory.

    Raises:
        Exception: whatever the database says.
    """
    if url is None:
        yield InMemoryStorage()
        return
    options = {"connect_args": {"timeout": PATIENCE, "factory": _Quick}} if url.startswith("sqlite") else {}
    database = RDBStorage(url, engine_kwargs=options)
    try:
        yield get_storage(database)
    finally:
        database.remove_session()
        database.engine.dispose()
