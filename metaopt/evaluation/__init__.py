"""The policy and its rivals on the same held-out tasks, with the statistics and records that come of it."""
