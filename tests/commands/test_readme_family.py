import re
import subprocess
import sys

from command_helpers import ROOT


def test_the_readmes_own_family_trains_and_is_evaluated(tmp_path):
    (block,) = re.findall(r"```python\n(# lines.py.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    body = block.split("@register")[1].split("if __name__")[0].splitlines()
    assert len([line for line in body if line.strip()]) <= 20
    (tmp_path / "train.py").write_text(block)
    (tmp_path / "test.py").write_text(block.replace("commands.train", "commands.evaluate"))
    small = ["inner.horizon=2", "outer.iterations=2", "evaluation.n_tasks=0", "tracking=none", "run_dir=run"]
    for words in (
        ["train.py", "tasks=lines", "tasks.noise=0.3", "policy=role", *small],
        ["test.py", "checkpoint=run", "n_tasks=3", "baselines=[adam]", "run_dir=out"],
    ):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
    assert "3 held-out lines tasks" in done.stdout
