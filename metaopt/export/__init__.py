"""A policy outside the code that learned it: as an ordinary optimizer in an ordinary training loop."""
