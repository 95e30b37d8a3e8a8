import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch._inductor import codecache
from torch._inductor.codecache import FxGraphCache, sha256_hash
from torch._inductor.cpp_builder import CppBuilder

from metaopt.inner.compile_cache import sound_cache

ROOT = Path(__file__).resolve().parents[2]
HOW = {
    "cut": lambda data: data[: len(data) // 3],
    "empty": lambda data: b"",
    "flipped": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
}


@pytest.fixture
def built(tmp_path, monkeypatch):
    """What a compiler makes, and how often it was asked to."""
    calls = []

    def build(self):
        calls.append(self)
        Path(self._output.split()[-1]).write_bytes(b"machine code " * 100)

    monkeypatch.setattr(CppBuilder, "build", build)
    target = tmp_path / "kernel.so"
    builder = SimpleNamespace(_target_file=str(target), _output=f"-o {target}")

    def use():
        """As inductor does it."""
        if not os.path.exists(CppBuilder.get_target_file_path(builder)):
            CppBuilder.build(builder)
        return target.read_bytes()

    return SimpleNamespace(use=use, target=target, calls=calls)


@pytest.mark.parametrize("how", HOW)
def test_compiled_code_that_is_damaged_is_made_anew(how, built):
    warned = []
    with sound_cache(warned.append):
        whole = built.use()
        assert built.use() == whole
        assert len(built.calls) == 1
        assert not warned
        built.target.write_bytes(HOW[how](whole))
        assert built.use() == whole
        assert len(built.calls) == 2
        assert len(warned) == 1
        assert str(built.target) in warned[0]


def test_what_a_killed_compiler_left_is_made_anew_without_a_word(built):
    built.target.write_bytes(b"half")
    with sound_cache(pytest.fail):
        assert built.use() != b"half"


@pytest.mark.parametrize("how", HOW)
def test_stored_graphs_and_sources_that_are_damaged_are_not_used(how, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(FxGraphCache, "_get_tmp_dir_for_key", staticmethod(lambda key: str(tmp_path / key)))
    warned = []
    data = b"a pickled graph"
    graph = tmp_path / "fkey" / sha256_hash(data)
    graph.parent.mkdir()
    with sound_cache(warned.append):
        graph.write_bytes(data)
        FxGraphCache._get_tmp_dir_for_key("fkey")
        assert graph.exists()
        graph.write_bytes(HOW[how](data))
        FxGraphCache._get_tmp_dir_for_key("fkey")
        assert not graph.exists()
        source = Path(codecache.write("int main() {}", "cpp")[1])
        source.write_bytes(HOW[how](source.read_bytes()))
        assert Path(codecache.write("int main() {}", "cpp")[1]).read_text() == "int main() {}"
    assert len(warned) == 1


SCRIPT = """
import torch
from metaopt.inner.compile import Inductor
x = torch.linspace(0, 1, 7)
warned = []
y = Inductor(warned.append)(lambda x: torch.func.grad(lambda p: (p.sin() * 3).sum())(x))(x)
assert torch.allclose(y, 3 * x.cos())
print(len(warned))
"""


@pytest.mark.nightly
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler on this machine")
def test_every_file_of_the_cache_may_be_damaged(tmp_path):
    def run():
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
        command = [sys.executable, "-c", SCRIPT]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return int(done.stdout)

    assert run() == 0
    for path in [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]:
        for change in HOW.values():
            if path.exists():
                path.write_bytes(change(path.read_bytes()))
                assert run() <= 1
