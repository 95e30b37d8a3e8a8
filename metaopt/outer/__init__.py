"""Meta-training: the loop, its state, and the files it leaves."""
