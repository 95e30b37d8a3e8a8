"""Meta-train a policy: `python train_meta.py --help` lists what can be set."""

from metaopt.commands.train import main

if __name__ == "__main__":
    main()
