"""A search in a process of its own, which a test may kill.

python search_process.py METHOD,… TRIALS STORAGE PAUSE WORKERS
"""

import sys
import time

from search_helpers import classification, make_draws, make_plan, make_setting

from metaopt.search import rounds
from metaopt.search.run import search

N_TASKS = 2


def search_toy(methods, trials, storage, workers=1, progress=lambda _: None):
    """The search of the tests, on tasks that are always the same."""
    setting = make_setting()
    tasks = classification(N_TASKS)
    plan = make_plan(methods, trials, storage)
    return search(setting, plan, tasks, make_draws(setting, tasks), workers, progress)


def pause_everywhere(seconds):
    """Makes time between asking, training and telling, so that a kill hits any of them."""
    study = rounds.TaskStudy
    ask, tell = study.ask, study.tell

    def slow_ask(self):
        point = ask(self)
        time.sleep(seconds)
        return point

    def slow_tell(self, told):
        tell(self, told)
        time.sleep(seconds)

    study.ask, study.tell = slow_ask, slow_tell


if __name__ == "__main__":
    names, count, url, pause, processes = sys.argv[1:]
    pause_everywhere(float(pause))
    print("ready", flush=True)
    search_toy(names.split(","), int(count), url, int(processes), lambda n: print(n, flush=True))
