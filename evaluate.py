"""Compare a policy with baselines on held-out tasks: `python evaluate.py checkpoint=PATH`."""

from metaopt.commands.evaluate import main

if __name__ == "__main__":
    main()
