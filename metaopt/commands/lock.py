"""One process at a time writes into a run directory, and notices when the directory is no longer there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from metaopt.errors import RunDirError

try:
    import fcntl
except ImportError:  # Windows, where a directory cannot be locked: nothing keeps two processes apart there
    fcntl = None

UNLOCKABLE = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
"""What file systems say that know no locks."""


class DirectoryLock:
    """Holds a directory until it is closed, or until the process ends in whatever way.

    Args:
        folder: an existing directory.
        warn: gets a line where the file system knows no locks.

    Raises:
        RunDirError: another process holds it, or it cannot be opened.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._descriptor: int | None = None
        if fcntl is None:
            return
        try:
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise RunDirError(
                f"another process is at work on the run in {folder}; wait until it has ended, or stop it first"
            ) from error
        except OSError as error:
            if error.errno not in UNLOCKABLE:
                self.close()
                raise RunDirError(f"run_dir={folder} cannot be opened ({error.strerror})") from error
            warn(f"the file system of {folder} knows no locks ({error.strerror}): see that only one process resumes it")

    def check(self) -> None:
        """Raises RunDirError where the directory has been deleted, moved, or replaced by another."""
        if self._descriptor is None:
            there = self._folder.is_dir()
        else:
            try:
                there = os.path.samestat(os.stat(self._folder), os.fstat(self._descriptor))
            except OSError:
                there = False
        if not there:
            raise RunDirError(
                f"the run directory {self._folder} was deleted or moved while the run was at work, so that nothing can "
                "be kept; start it again, or resume it where it was moved to"
            )

    def close(self) -> None:
        """Lets go of the directory."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
