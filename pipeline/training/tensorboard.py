"""What TensorBoard shows of a run: scalars and images by epoch, and a line in the table of hyper-parameters.

Out: `events/` with the epochs, `hparams/` with settings and final scores, which replaces what was there.
Command: `tensorboard --logdir runs`.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.files import write_atomic
from pipeline.training.trackers import Images, Scalars, Tracker

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def open_tensorboard(folder: Path, first_epoch: int) -> Tracker:
    """Returns TensorBoard's log of a run; what it gets from `first_epoch` on replaces what was there."""
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import, and only training needs it

    events = SummaryWriter(str(folder), purge_step=first_epoch)
    return Tracker(log=lambda *epoch: _log(events, *epoch), close=lambda is_done: events.close())


def _log(events: SummaryWriter, epoch: int, scalars: Scalars, images: Images) -> None:
    for name, value in scalars.items():
        events.add_scalar(name, value, epoch)
    for name, image in images.items():
        events.add_image(name, image, epoch, dataformats="HWC")
    events.flush()


def write_hparams(path: Path, settings: Mapping[str, Any], scores: Scalars, epoch: int) -> None:
    """Writes a run's line in TensorBoard's table of hyper-parameters: a file of its own, always as a whole.

    Without a list of the experiment's columns, unlike `SummaryWriter.add_hparams`: TensorBoard takes such a list from
    one run only, and collects the columns of all runs where there is none.

    Args:
        path: the file; the scores become the columns, since its folder holds no other scalars.
        scores: by name.
        epoch: of the weights that were scored.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter
    from torch.utils.tensorboard.summary import hparams, scalar

    _, began, ended = hparams(dict(settings), {})
    content, now = io.BytesIO(), time.time()
    writer = RecordWriter(content)
    writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    for summary in (began, *(scalar(name, value) for name, value in scores.items()), ended):
        writer.write(Event(wall_time=now, step=epoch, summary=summary).SerializeToString())
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, content.getvalue())
