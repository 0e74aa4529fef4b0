"""Pseudo-labels: what a teacher's members predict of an image without a mask, as a label for training.

In: the members' predictions of one image. Out: an index mask, or planes where labels are soft or a pixel may have
several classes (see `planes.py`); a pixel of which the members are not sure enough is ignored. In a store they are
uint8 planes, compressed as `compact.py` compresses codes.

Members count alike, whatever the teacher's ENSEMBLE.METHOD, WEIGHTS and DECODE say: those may have been fitted on the
student's validation images, and the plain mean is fitted on nothing.

Letters: M members, C classes, R rows of a block, H height, W width, P planes: C, or one of class indices.

Source: Lee 2013, "Pseudo-Label"; the threshold on confidence as in FixMatch, Sohn et al. 2020,
https://arxiv.org/abs/2001.07685; one round with a fixed teacher as in Xie et al. 2019, https://arxiv.org/abs/1911.04252.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.config.competition import IGNORE
from pipeline.config.schema import Pseudo
from pipeline.data.build_store import build_store
from pipeline.data.remote_store import remote_of
from pipeline.engine.run import Run
from pipeline.paths import PSEUDO_LABELS, PSEUDO_PLOT
from pipeline.prediction.store import PredictionStore
from pipeline.report.canvas import Chip
from pipeline.report.figure import write_image
from pipeline.segmentation.activation import Activation
from pipeline.segmentation.compact import Bands, Compressor
from pipeline.segmentation.ensemble import common_size, logits_rows, row_blocks
from pipeline.segmentation.panels import draw_sheet
from pipeline.segmentation.planes import FULL, most_of
from pipeline.segmentation.predict import Prediction
from pipeline.segmentation.tiles import tile_scales
from pipeline.training.inputs import images_of

ROUNDING = 1e-6  # of a share of members: two of three reach an AGREEMENT of 0.666667
MOST_SHOWN = 12  # images of the contact sheet
NOT_LABELLED = Chip(None, "not labelled")


def pseudo_label(run: Run, predictions: Sequence[Prediction]) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns the label of an image as a store keeps it: uint8 of compressed planes, and plain values beside it.

    These are `shape` (P, H, W) and `ends` of the planes' bands; `labelled`, the share of the pixels that are not
    ignored (of all classes' where a pixel may have several); `confidence`, the mean over all pixels; `pixels` of each
    class.

    Raises:
        UserError: predictions are of different sizes or numbers of classes.
    """
    settings, activation = run.loaded.config.pseudo, predictions[0].activation
    height, width = common_size(predictions)
    num_classes = len(predictions[0].logits)
    has_planes = activation.is_sigmoid or settings.labels == "soft"
    compressor = Compressor((num_classes if has_planes else 1, height, width))
    label_rows = _rows_by_class if activation.is_sigmoid else _rows_of_one_class
    num_labelled, confidence, pixels_C = 0, 0.0, np.zeros(num_classes, np.int64)
    for top, bottom in row_blocks(height, width):
        probs_MCRW = torch.stack([activation.probs(logits_rows(one, top, bottom), 0) for one in predictions])
        label_PRW, is_kept, sureness, class_CRW = label_rows(probs_MCRW, activation, settings)
        compressor.add(label_PRW.numpy())
        num_labelled += int(is_kept.sum())
        confidence += float(sureness.double().sum())
        pixels_C += (class_CRW & is_kept).sum((1, 2)).numpy()
    num_values = height * width * (num_classes if activation.is_sigmoid else 1)
    bands = compressor.finish()
    facts = {
        "shape": list(bands.shape),
        "ends": list(bands.ends),
        "labelled": num_labelled / num_values,
        "confidence": confidence / num_values,
        "pixels": pixels_C.tolist(),
    }
    return bands.data, facts


def _rows_of_one_class(
    probs_MCRW: Tensor, activation: Activation, settings: Pseudo
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns rows of the label (P, R, W), which pixels it labels, their confidence, and which class each pixel has."""
    mean_CRW = probs_MCRW.mean(0)
    best_RW, sureness_RW = activation.choose(mean_CRW[None])[0], mean_CRW.amax(0)
    is_kept_RW = sureness_RW >= settings.confidence
    if settings.agreement is not None:
        agree_RW = (activation.choose(probs_MCRW) == best_RW).float().mean(0)
        is_kept_RW &= agree_RW >= settings.agreement - ROUNDING
    own_CRW = best_RW == torch.arange(len(mean_CRW))[:, None, None]
    values_PRW = (mean_CRW * FULL).round().to(torch.uint8) if settings.labels == "soft" else best_RW[None]
    return values_PRW.masked_fill(~is_kept_RW, IGNORE), is_kept_RW, sureness_RW, own_CRW


def _rows_by_class(
    probs_MCRW: Tensor, activation: Activation, settings: Pseudo
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the same where each class is decided alone; all are (C, R, W)."""
    mean_CRW = probs_MCRW.mean(0)
    is_class_CRW, sureness_CRW = mean_CRW >= 0.5, torch.maximum(mean_CRW, 1 - mean_CRW)
    is_kept_CRW = sureness_CRW >= settings.confidence
    if settings.agreement is not None:
        agree_CRW = ((probs_MCRW >= 0.5) == is_class_CRW).float().mean(0)
        is_kept_CRW &= agree_CRW >= settings.agreement - ROUNDING
    shares_CRW = mean_CRW if settings.labels == "soft" else is_class_CRW.float()
    values_CRW = (shares_CRW * FULL).round().to(torch.uint8)
    return values_CRW.masked_fill(~is_kept_CRW, IGNORE), is_kept_CRW, sureness_CRW, is_class_CRW


def read_label(array: np.ndarray, facts: Mapping[str, Any]) -> np.ndarray:
    """Returns a label from what `pseudo_label` returned: an index mask, uint8 (H, W), or planes (H, W, C)."""
    planes_PHW = Bands(array, tuple(facts["shape"]), tuple(facts["ends"]))[:, :]
    return planes_PHW[0] if len(planes_PHW) == 1 else np.ascontiguousarray(np.moveaxis(planes_PHW, 0, -1))


class PseudoLabels:
    """The pseudo-labels of a run, for `build_store`. A row is one of the table of pseudo-labelled images.

    Attributes:
        planes: values per pixel; None: labels are index masks.
    """

    def __init__(self, run: Run):
        self.store = PredictionStore(run.paths / PSEUDO_LABELS, read_label)
        num_planes = {facts["shape"][0] for facts in self.store.index["images"].values()}
        self.planes = None if num_planes == {1} and not run.loaded.competition.is_multilabel else num_planes.pop()

    def read(self, row: Any) -> np.ndarray:
        """Returns the label of a row: uint8 (H, W), or planes (H, W, C)."""
        label = self.store[row.id]
        return label if self.planes is None or label.ndim == 3 else label[..., None]

    def content(self, row: Any) -> str:
        """Returns a hash of the label of a row."""
        label = self.read(row)
        return hashlib.sha256(f"{label.shape}".encode() + label.tobytes()).hexdigest()


def build_pseudo_store(run: Run, folder: Path, rows: pd.DataFrame) -> Path:
    """Returns the folder of the tile store with pseudo-labelled images at the scales of the labelled ones.

    Args:
        folder: of these images.
        rows: of the table of pseudo-labelled images, those that are used.
    """
    images, scales = images_of(run, folder), tile_scales(run)
    tiles, remote = run.folders.tiles, remote_of(run.folders)
    return build_store(images, rows.assign(mask=""), scales, tiles, PseudoLabels(run), run.log, remote)


def draw_pseudo_labels(run: Run, folder: Path, rows: pd.DataFrame) -> None:
    """Draws images with their pseudo-labels, from the most labelled to the least; what is ignored is hatched."""
    images, labels, competition = images_of(run, folder), PseudoLabels(run), run.loaded.competition
    ranked = rows.sort_values(["labelled", "id"], ascending=[False, True], ignore_index=True)
    chosen = np.unique(np.linspace(0, len(ranked) - 1, min(MOST_SHOWN, len(ranked))).round().astype(int))
    samples, captions = [], []
    for row in ranked.iloc[chosen].itertuples():
        label = labels.read(row)
        is_soft = label.ndim == 3 and not competition.is_multilabel
        samples.append((images.shown(row.image), most_of(label) if is_soft else label))
        captions.append(f"{100 * row.labelled:.0f} %  {row.id}")
    title = "Unlabelled images, their pseudo-labels below; per cent: pixels that are labelled"
    names, colors = competition.class_names, competition.colors
    sheet = draw_sheet(samples, captions, names, colors, title, ignored=NOT_LABELLED)
    write_image(run.paths / PSEUDO_PLOT, sheet)
