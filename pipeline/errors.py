"""The exceptions that end a run and are not internal errors."""


class UserError(Exception):
    """A mistake in a config, in the data or on the command line: exit code 2, printed without a traceback.

    The message says what was found, what was expected, and what to type. It may have several lines.
    """


class DiskTooSmall(UserError):
    """The disk is too small for what is to be written; a caller that knows a way with less may add it."""


class Stopped(Exception):
    """The run was asked to stop and has saved its state: exit code 3, the same command continues it."""
