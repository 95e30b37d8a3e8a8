"""inductor's files on disk, of which none is used that is not as it was written.

A killed linker, a full disk or a flipped bit leaves files that end the process when they are loaded, or compute
something else. inductor asks only whether a file exists. Here each is compared with what it must be: source with the
source, a stored graph with its name, which is a digest, and what a compiler made with a digest that is kept beside it.
What differs is thrown away and made anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

from metaopt.files import replacing, write_text

SEAL = ".sha256"


@contextmanager
def sound_cache(warn: Callable[[str], None]) -> Iterator[None]:
    """Has inductor look at its files in this way for the length of the block.

    Args:
        warn: is given a line for the first file that was damaged.
    """
    # Imported here, because they take seconds and are needed by few runs.
    from torch._inductor import codecache, output_code  # noqa: PLC0415
    from torch._inductor.codecache import FxGraphCache, sha256_hash  # noqa: PLC0415
    from torch._inductor.cpp_builder import CppBuilder  # noqa: PLC0415

    graph = output_code.CompiledFxGraph
    write, build, target = codecache.write, CppBuilder.build, CppBuilder.get_target_file_path
    to_disk, folder_of = graph.write_to_disk, FxGraphCache._get_tmp_dir_for_key
    told = False

    def discard(path: Path) -> None:
        nonlocal told
        with suppress(FileNotFoundError):
            path.unlink()
        if not told:
            told = True
            warn(f"the compiled code in {path} was damaged, and is compiled again")

    def sound_write(content: str | bytes, *args: Any, **kwargs: Any) -> tuple[str, str]:
        key, path = write(content, *args, **kwargs)
        if Path(path).read_bytes() != (content if isinstance(content, bytes) else content.encode()):
            discard(Path(path))
            write(content, *args, **kwargs)
        return key, path

    def sound_target(self: Any) -> str:
        path = Path(target(self))
        if path.is_file() and not _is_sealed(path):
            if _seal_of(path).exists():
                discard(path)
            else:  # of a compiler that was killed, or of a process that seals nothing
                path.unlink(missing_ok=True)
        return str(path)

    def sealed_build(self: Any) -> None:
        path = Path(target(self))
        output = self._output
        with replacing(path) as temporary:  # the compiler may be killed
            self._output = output.replace(str(path), str(temporary))
            try:
                build(self)
            finally:
                self._output = output
            write_text(_seal_of(path), _digest(temporary))  # first: what has no seal is thrown away

    def sound_to_disk(self: Any) -> str:
        path = Path(to_disk(self))
        if path.read_bytes() != self.source_code.encode():
            discard(path)
            to_disk(self)
        return str(path)

    def sound_folder(key: str) -> str:
        folder = Path(folder_of(key))
        for path in folder.glob("[!.]*"):
            if path.is_file() and sha256_hash(path.read_bytes()) != path.name:
                discard(path)
        return str(folder)

    with ExitStack() as stack:
        for owner, name, ours in (
            (codecache, "write", sound_write),
            (CppBuilder, "get_target_file_path", sound_target),
            (CppBuilder, "build", sealed_build),
            (graph, "write_to_disk", sound_to_disk),
            (FxGraphCache, "_get_tmp_dir_for_key", staticmethod(sound_folder)),
        ):
            stack.enter_context(patch.object(owner, name, ours))
        yield


def _seal_of(path: Path) -> Path:
    return path.with_name(path.name + SEAL)


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


_known: dict[str, tuple[int, int, int]] = {}
"""Files that this process has found sound, with what tells whether they are still the same: headers are large."""


def _is_sealed(path: Path) -> bool:
    stat = os.stat(path)
    same = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if _known.get(str(path)) == same:
        return True
    try:
        sound = _seal_of(path).read_text(encoding="ascii") == _digest(path)
    except (OSError, UnicodeDecodeError):
        return False
    if sound:
        _known[str(path)] = same
    return sound
