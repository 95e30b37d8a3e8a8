"""`python -m metaopt.tasks describe tasks=NAME`: the data card of a family of tasks."""

from metaopt.commands.describe import main

if __name__ == "__main__":
    main()
