from concurrent.futures import ThreadPoolExecutor

import pytest

from metaopt.commands.run_dir import RunFiles, check_free, claim, existing_run, policy_path
from metaopt.errors import RunDirError


def test_of_runs_that_start_at_once_one_gets_the_directory(tmp_path):
    def attempt(number):
        try:
            return claim(tmp_path / "run", f"number: {number}")
        except RunDirError:
            return None

    with ThreadPoolExecutor(8) as pool:
        won = [number for number, files in enumerate(pool.map(attempt, range(8))) if files is not None]
    assert len(won) == 1
    assert (tmp_path / "run" / "config.yaml").read_text() == f"number: {won[0]}"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]


def test_looking_makes_nothing(tmp_path):
    check_free(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["config.yaml", "checkpoint.pt", "policy.safetensors", "results.json", "notes.txt"])
def test_a_directory_with_anything_of_worth_is_not_free(name, tmp_path):
    (tmp_path / name).touch()
    with pytest.raises(RunDirError, match="another run_dir"):
        check_free(tmp_path)


def test_what_a_killed_writer_left_is_in_nobodys_way(tmp_path):
    (tmp_path / ".config-0123456789ab.yaml").write_text("half")
    check_free(tmp_path)
    claim(tmp_path, "whole: true")
    assert existing_run(tmp_path) == RunFiles(tmp_path)


def test_a_run_directory_stands_for_its_policy_or_else_its_checkpoint(tmp_path):
    files = RunFiles(tmp_path)
    assert policy_path(tmp_path) == files.policy
    files.checkpoint.touch()
    assert policy_path(tmp_path) == files.checkpoint
    files.policy.touch()
    assert policy_path(tmp_path) == files.policy
    assert policy_path(files.checkpoint) == files.checkpoint
