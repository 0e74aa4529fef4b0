"""The first function of a rank's process: from then on it ends with its starter, though torch is not loaded yet."""

from __future__ import annotations

from multiprocessing.connection import Connection

from pipeline.engine.starter import end_with


def begin(connection: Connection, starter: int) -> None:
    """Is a rank, of which the connection first has the `Task`; receiving that loads the packages.

    Args:
        starter: the process that waits for the rank.
    """
    end_with(starter, is_joined=True)
    task = connection.recv()
    from pipeline.training.ranks.member import be_rank

    be_rank(connection, task)
