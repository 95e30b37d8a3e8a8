"""Where a run's records are sent as it goes: nowhere, or to Weights & Biases."""
