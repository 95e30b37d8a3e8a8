import hypothesis
import torch

# The same examples each time, and no time limit: a loaded machine is no reason to fail.
hypothesis.settings.register_profile("metaopt", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("metaopt")
# Tests run side by side; threads of their own would only get into each other's way.
torch.set_num_threads(1)
