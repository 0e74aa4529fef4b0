"""The first function of a rank's process. From here on the process ends with its starter, also while it loads torch."""

from __future__ import annotations

from multiprocessing.connection import Connection

from pipeline.engine.starter import end_with


def begin(connection: Connection, starter: int) -> None:
    """Runs a rank. First receives its `Task` from the connection, which loads the packages.

    Args:
        starter: the process that waits for the rank.
    """
    end_with(starter, is_joined=True)
    task = connection.recv()
    from pipeline.training.ranks.member import be_rank

    be_rank(connection, task)
