"""How often a stored prediction has the class that its network predicts: what the compact storage costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from pipeline.segmentation import decision
from pipeline.segmentation.predict import Prediction, Predictor, averaged_logits, decode
from pipeline.segmentation.samples import ValidDataset
from pipeline.training.encoder import normalise


def agreement(
    predictor: Predictor, dataset: ValidDataset, indices: Sequence[int], stored: Mapping[str, Prediction]
) -> float:
    """Returns the share of pixels whose stored class is that of the network's full-size logits.

    Args:
        dataset: the images that were predicted.
        indices: which of them are compared.
        stored: predictions by image id, such as a `PredictionStore`.
    """
    equal_px = total_px = 0
    for index in indices:
        item = dataset[index]
        image_BHWC = torch.from_numpy(item.image)[None].to(predictor.device)
        with torch.inference_mode():
            logits_BCHW = averaged_logits(predictor, normalise(image_BHWC, predictor.encoder))
            classes_HW = decision.choose(logits_BCHW[:, : predictor.num_classes].float())[0].cpu().numpy()
        (top, left), (height, width) = item.offset, item.size
        exact_HW = classes_HW[top : top + height, left : left + width]
        equal_px += int(np.count_nonzero(exact_HW == decode(stored[dataset.rows[index].id])))
        total_px += exact_HW.size
    return equal_px / total_px
