"""Dice and IoU of predicted classes: the competition's (per image) and that of papers (over the data set).

Letters: C classes. All start from confusion matrices (row: truth, column: prediction, in pixels), which stay on the
device of the network: no function here makes a GPU wait.
"""

from torch import Tensor


def dice_iou(confusion_CC: Tensor) -> tuple[Tensor, Tensor]:
    """Returns Dice and IoU of each class, 1 where truth and prediction both lack it: two (..., C) float64.

    Takes any number of matrices, (..., C, C). The competition's score is the mean over images, then over classes.

    >>> import torch
    >>> dice, iou = dice_iou(torch.tensor([[2, 1, 0], [1, 0, 0], [0, 0, 0]]))
    >>> dice.tolist(), iou.tolist()
    ([0.6666666666666666, 0.0, 1.0], [0.5, 0.0, 1.0])
    """
    hits_C, areas_C = _hits_and_areas(confusion_CC)
    is_absent_C = areas_C == 0
    dice_C = (2 * hits_C / areas_C).masked_fill(is_absent_C, 1.0)
    iou_C = (hits_C / (areas_C - hits_C)).masked_fill(is_absent_C, 1.0)
    return dice_C, iou_C


def dataset_iou(confusion_CC: Tensor) -> Tensor:
    """Returns the IoU of each class from one matrix summed over all images: (C,) float64, NaN where it has no pixels.

    Its mean over the classes that are not NaN (`torch.nanmean`) is the mIoU of the papers.

    >>> import torch
    >>> dataset_iou(torch.tensor([[2, 1, 0], [1, 0, 0], [0, 0, 0]])).tolist()
    [0.5, 0.0, nan]
    """
    hits_C, areas_C = _hits_and_areas(confusion_CC)
    return hits_C / (areas_C - hits_C)


def _hits_and_areas(confusion_CC: Tensor) -> tuple[Tensor, Tensor]:
    """Returns correctly predicted pixels, and true plus predicted pixels, of each class: two (..., C) float64."""
    confusion_CC = confusion_CC.double()
    return confusion_CC.diagonal(dim1=-2, dim2=-1), confusion_CC.sum(-1) + confusion_CC.sum(-2)
