"""The ways in which a run may end that are not a fault of ours."""


class UserError(Exception):
    """A mistake in a config, in the data or on the command line: exit code 2, printed without a traceback.

    The message says what was found, what was wanted, and what to type. It may have several lines.
    """


class DiskTooSmall(UserError):
    """The disk cannot hold what is to be written; who knows a way that needs less of it may add that."""


class Stopped(Exception):
    """The run was asked to stop and has saved its state: exit code 3, the same command goes on where it was."""
