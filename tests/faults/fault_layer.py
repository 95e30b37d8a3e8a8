"""Between Python and the disk: the N-th thing that a command does to the files below a folder fails, or kills it."""

import builtins
import errno
import io
import os
import signal
from pathlib import Path


class FaultLayer:
    """Counts what is done to files below `root`; at one of these things it raises an OSError, or kills the process.

    Args:
        root: other files are left alone.
        at: which of them, from 0; None: only count.
        fault: an errno, or "kill".
    """

    def __init__(self, root, at=None, fault=errno.ENOSPC):
        self.root = os.fspath(root)
        self.at = at
        self.fault = fault
        self.seen = []

    def meets(self, what, path, before=lambda: None):
        """One more thing; of a write, `before` does half of it."""
        path = os.path.abspath(os.fspath(path))
        if not path.startswith(self.root):
            return
        self.seen.append(f"{what} {os.path.relpath(path, self.root)}")
        lasts = isinstance(self.fault, int)  # a full disk stays full, and a killed process dies once
        if self.at is None or not (len(self.seen) > self.at if lasts else len(self.seen) - 1 == self.at):
            return
        before()
        if not lasts:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.fault, os.strerror(self.fault), *([] if what in ("write", "fsync") else [path]))

    def install(self):
        """For the rest of this process."""
        for name, of in (("replace", 1), ("rename", 1), ("link", 1), ("mkdir", 0)):
            setattr(os, name, self._met(name, getattr(os, name), of))
        fsync = os.fsync

        def met_fsync(descriptor):
            number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
            self.meets("fsync", os.readlink(f"/proc/self/fd/{number}"))
            return fsync(descriptor)

        os.fsync = met_fsync
        io.open = builtins.open = self._opened(io.open)

    def _met(self, name, real, of):
        def met(*args, **kwargs):
            if not (name == "mkdir" and os.path.isdir(args[of])):
                self.meets(name, args[of])
            return real(*args, **kwargs)

        return met

    def _opened(self, real):
        layer = self

        class Raw(io.FileIO):
            def write(self, data):
                data = bytes(data)
                layer.meets("write", self.name, before=lambda: super(Raw, self).write(data[: len(data) // 2]))
                return super().write(data)

        def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
            inside = not isinstance(file, int) and os.path.abspath(os.fspath(file)).startswith(self.root)
            if not inside or not set(mode) & set("wax+"):
                return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
            self.meets("open", file)
            raw = Raw(os.fspath(file), mode.replace("b", "").replace("t", ""), closefd, opener)
            whole = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
            return whole if "b" in mode else io.TextIOWrapper(whole, encoding, errors, newline)

        return opened


def content_of(folder):
    """What is below a folder, as bytes by name."""
    folder = Path(folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
