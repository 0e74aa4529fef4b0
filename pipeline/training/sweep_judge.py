"""The validation loss that follows a step of an LR sweep: of few images, by the network as it is at that step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from torch import Tensor, nn

from pipeline.config.competition import mask_code
from pipeline.data.competition import find_folder
from pipeline.data.loaders import ValidBatch, valid_batches, valid_loader
from pipeline.engine.run import Run
from pipeline.segmentation.criterion import Criterion
from pipeline.segmentation.networks import normalise
from pipeline.segmentation.samples import ValidDataset
from pipeline.training.inputs import split_rows
from pipeline.training.learner import Learner, autocast


def choose_images(rows: pd.DataFrame, count: int) -> list[str]:
    """Returns ids of validation images that together hold every class they can, then rare classes once more.

    Each is the one with most classes that none before it had (greedy set cover: Chvatal 1979), rare ones first.

    Args:
        rows: catalog rows with `id` and `pixels_<class>` columns.
    """
    columns = [name for name in rows.columns if name.startswith("pixels_") and name != "pixels_ignored"]
    present = rows[columns].to_numpy() > 0
    rarity = 1 / np.maximum(present.sum(0), 1)
    chosen: list[int] = []
    seen = np.zeros(present.shape[1], int)
    for _ in range(min(count, len(rows))):
        is_new = present & (seen == 0)
        # All rarities together are less than one more new class.
        gain = is_new.sum(1) + (present * (rarity / (1 + seen) ** 2)).sum(1) / present.shape[1]
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        seen += present[chosen[-1]]
    return rows["id"].iloc[sorted(chosen)].tolist()


def judged_batches(run: Run) -> Iterator[ValidBatch]:
    """Yields the fixed validation images as batches, decoded once for the whole sweep."""
    loaded = run.loaded
    datasets, competition = loaded.config.datasets, loaded.competition
    rows = split_rows(run.paths, "valid")
    chosen = rows[rows["id"].isin(choose_images(rows, loaded.config.sweep.images))]
    folder = find_folder(competition, run.folders.data, datasets.directory)
    dataset = ValidDataset(folder, chosen, mask_code(competition), datasets.padding)
    yield from valid_batches(valid_loader(dataset, loaded.config.dataloaders.valid.batch_size, num_workers=0))


def judge(learner: Learner, batches: Sequence[ValidBatch], loss_of: Criterion) -> float:
    """Returns the mean loss over images."""
    total = count = 0
    for batch in batches:
        image_BHWC, mask_BHW = batch.image_BHWC.to(learner.device), batch.mask_BHW.to(learner.device)
        with as_it_is(learner) as network, autocast(learner.device, learner.precision):
            logits_BCHW = network(normalise(image_BHWC, learner.config.model.encoder))
        total += float(loss_of(logits_BCHW, mask_BHW)) * len(mask_BHW)
        count += len(mask_BHW)
    return total / count


@contextlib.contextmanager
def as_it_is(learner: Learner) -> Iterator[nn.Module]:
    """Yields the network in evaluation mode, but batch norms that learn go by the batch that they see.

    Their running averages are those of networks some ten steps ago. Where the rate grows from step to step that is
    another network: a loss by them explodes long before training does. Only a norm that sees a single value of each
    channel, as behind a global pooling of one image, has to go by them.
    """
    norms = [module for module in learner.network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = {norm: norm.momentum for norm in norms if norm.training}
    with learner.judged() as network:
        hooks = [norm.register_forward_pre_hook(_go_by_the_batch) for norm in momenta]
        for norm in momenta:
            norm.momentum = 0.0  # the averages stay as they are
        try:
            yield network
        finally:
            for hook in hooks:
                hook.remove()
            for norm, momentum in momenta.items():
                norm.momentum = momentum


def _go_by_the_batch(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    norm.training = inputs[0].numel() > inputs[0].shape[1]
