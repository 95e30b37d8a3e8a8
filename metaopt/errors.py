"""Every error that a user can cause or mend. The command line prints its text in one line and exits with its code."""


class MetaoptError(Exception):
    """Base of all errors that metaopt raises on purpose; the text says what was expected, what came, and what to do."""

    exit_code = 2


class ConfigError(MetaoptError):
    """A setting has an impossible value, or two settings contradict each other."""


class TaskError(MetaoptError):
    """A task family cannot serve the tasks asked of it: too few classes, too few examples, leaking splits."""


class DataError(MetaoptError):
    """A data set is missing or is not what it should be. The text says how to get it."""


class PolicyFileError(MetaoptError):
    """A policy file or checkpoint is truncated, foreign, of another format version, or made for another model."""


class RunDirError(MetaoptError):
    """A run directory already holds a run, or holds none where one was to be resumed."""


class MetaTrainingError(MetaoptError):
    """Meta-training cannot go on, because no task of the meta-batches has a finite hypergradient any more."""

    exit_code = 3


class TrainingError(MetaoptError):
    """No network is left of a training, because all of them diverged."""

    exit_code = 3


class StorageError(MetaoptError):
    """The machine failed a command that works: no space, no memory, a disk that cannot be read or written."""

    exit_code = 4
