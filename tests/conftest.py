import os

# Tests run side by side, with processes of their own; further threads would only get into each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import torch

# The same examples each time, and no time limit: a loaded machine is no reason to fail.
hypothesis.settings.register_profile("metaopt", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("metaopt")
torch.set_num_threads(1)
