"""Runs commands under faults, each in a child of one process that has imported everything.

Called as `fault_runner.py FOLDER`; reads lines of JSON, an object each, and answers each with a line.
"""

import gc
import json
import os
import resource
import sys
import traceback
from contextlib import redirect_stdout
from pathlib import Path

import torch
from fault_layer import FaultLayer
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from matplotlib.figure import Figure
from omegaconf import open_dict

from metaopt.commands.evaluate import evaluate, with_groups_of_checkpoint
from metaopt.commands.faults import lasting_output
from metaopt.commands.launch import VERSION_BASE, attempt, config_folder
from metaopt.commands.train import train

COMMANDS = {"train": train, "evaluate": evaluate}


def run(composed):
    """Exit code of a command whose configuration is there already: to compose one takes longer than such a run."""
    name, raw = composed
    HydraConfig.instance().set_config(raw)
    with open_dict(raw):
        del raw["hydra"]
    with lasting_output():
        return attempt(name, COMMANDS[name], raw)


def composed(name, overrides, known={}):  # noqa: B006
    """The name of a command, and its configuration."""
    if name == "evaluate":
        overrides = with_groups_of_checkpoint(list(overrides))
    key = (name, *overrides)
    if key not in known:
        with initialize_config_dir(str(config_folder()), version_base=VERSION_BASE):
            known[key] = compose(name, overrides=list(overrides), return_hydra_config=True)
    return name, known[key].copy()


def in_child(folder, request):
    """Exit code as a shell has it, what was printed, and what was done to files."""
    out, seen = folder / "printed", folder / "seen"
    command = composed(request["command"], request["overrides"])
    child = os.fork()
    if child == 0:
        code = 70
        try:
            text = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(text, 1)
            os.dup2(text, 2)
            if request.get("limit"):
                resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"],) * 2)
            layer = FaultLayer(request["root"], request.get("at"), request.get("fault"))
            layer.install()
            code = run(command)
            if request.get("at") is None and not request.get("limit"):
                os.write(os.open(seen, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), json.dumps(layer.seen).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    done = json.loads(seen.read_text()) if seen.exists() else []
    return {"code": os.waitstatus_to_exitcode(status), "printed": out.read_text(), "seen": done}


def main():
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    Figure.savefig = lambda self, to, savefig=Figure.savefig, **settings: (
        Path(to).write_bytes(b"picture" * 100) if isinstance(to, Path) else savefig(self, to, **settings)
    )
    first = folder / "first"
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # once here, so that no child imports anything
        assert run(composed("train", [f"run_dir={first}", *sys.argv[2:]])) == 0
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(in_child(folder, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
