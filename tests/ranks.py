"""Functions that are run in several processes which train together, as `launch.py` starts them."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.training.ranks import group
from pipeline.training.ranks.launch import LOG_LEVEL
from pipeline.training.ranks.member import LOOPBACK

GIVE_UP_S = 240


def in_ranks(function: Callable[..., Any], *arguments: Any, count: int = 2) -> list[Any]:
    """Returns what a function of a module returns in each rank; what it returns can be pickled.

    One new process imports the packages, and the other ranks are forked from it: an import takes seconds.

    Raises:
        AssertionError: it has failed in one of them; with the traceback.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe() for _ in range(count)]
        ends, meeting = [end for _, end in pipes], Path(folder) / "meeting"
        os.environ[LOG_LEVEL] = "ERROR"  # read when torch is loaded
        process = context.Process(target=_be_ranks, args=(ends, meeting, function, arguments))
        process.start()
        del os.environ[LOG_LEVEL]
        try:
            found = []
            for connection, _ in pipes:
                assert connection.poll(GIVE_UP_S), "a rank does not answer"
                found.append(connection.recv())
        finally:
            for connection, _ in pipes:
                connection.close()
            process.join()
    failed = [text for is_done, text in found if not is_done]
    assert not failed, "\n".join(failed)
    return [value for _, value in found]


def _be_ranks(ends: list[Any], meeting: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = LOOPBACK[sys.platform]
    torch.set_num_threads(1)
    others = []
    for rank in range(1, len(ends)):
        others.append(os.fork())
        if not others[-1]:
            _be_rank(ends, rank, meeting, function, arguments)
    _be_rank(ends, 0, meeting, function, arguments)


def _be_rank(
    ends: list[Any], rank: int, meeting: Path, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    for end in ends[:rank] + ends[rank + 1 :]:
        end.close()
    try:
        group.join(rank, len(ends), meeting, torch.device("cpu"))
        ends[rank].send((True, function(*arguments)))
    except BaseException:
        ends[rank].send((False, traceback.format_exc()))
    try:
        ends[rank].recv()  # the other ranks may still need this one; the end of the test closes the connection
    except EOFError:
        os._exit(0)
