"""The command lines: what `metaopt-train` and `metaopt-evaluate` do."""
