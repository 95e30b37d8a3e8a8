"""Training on a task, and differentiating through it."""
