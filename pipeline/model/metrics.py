"""Dice and IoU of predicted classes, in the competition's meaning (per image) and the papers' (over the data set).

Letters: B images, C classes, H rows, W columns. Predictions and masks are uint8 class indices, 255 marks ignored mask
pixels, which count nowhere. Everything starts from confusion matrices (row: truth, column: prediction, in pixels) that
stay on the device of the network: no function here makes a GPU wait.
"""

import torch
from torch import Tensor

BLOCK_PIXELS = 2**17  # pixels per block of `predict_classes`: half a megabyte of float32 per class stays in the cache
NUM_LANES = 64  # counters per cell of a matrix on a GPU, so that neighbouring pixels do not wait for each other


def predict_classes(logits_BCHW: Tensor) -> Tensor:
    """The class of the highest logit of each pixel, the first one on a tie: (B, H, W) uint8.

    On a CPU it is a running maximum over the classes in blocks of rows; `argmax(1)` jumps from plane to plane for each
    pixel and takes some fifteen times as long. Probabilities serve as well as logits; up to 255 classes.

    >>> predict_classes(torch.tensor([[[[0.1, 0.9]], [[0.3, 0.2]], [[0.3, 0.4]]]]))
    tensor([[[1, 0]]], dtype=torch.uint8)
    """
    logits_BCHW = logits_BCHW.detach()
    if logits_BCHW.device.type != "cpu" or logits_BCHW.stride(-1) != 1:  # channels_last is in argmax's favour
        return logits_BCHW.argmax(1).to(torch.uint8)
    num_images, _, num_rows, num_columns = logits_BCHW.shape
    classes_BHW = torch.zeros((num_images, num_rows, num_columns), dtype=torch.uint8)
    block_rows = max(1, BLOCK_PIXELS // max(1, num_columns))
    for logits_CHW, classes_HW in zip(logits_BCHW, classes_BHW, strict=True):
        for top in range(0, num_rows, block_rows):
            first, *others = logits_CHW[:, top : top + block_rows].unbind(0)
            highest, winners = first.clone(), classes_HW[top : top + block_rows]
            for class_index, values in enumerate(others, start=1):
                is_higher = (values > highest).view(torch.uint8)
                torch.maximum(highest, values, out=highest)
                torch.maximum(winners, is_higher.mul_(class_index), out=winners)  # a later class has a higher index
    return classes_BHW


def image_confusion(pred_BHW: Tensor, mask_BHW: Tensor, num_classes: int, ignore: int = 255) -> Tensor:
    """Confusion matrix of each image in pixels: (B, C, C) int64 on the same device, row truth, column prediction.

    Raises:
        ValueError: shapes differ; or, on a CPU, a value outside the classes (a GPU is not made to wait for that).

    >>> mask = torch.tensor([[[0, 1, 1, 255]]], dtype=torch.uint8)
    >>> pred = torch.tensor([[[0, 0, 1, 1]]], dtype=torch.uint8)
    >>> image_confusion(pred, mask, num_classes=2)
    tensor([[[1, 0],
             [1, 1]]])
    """
    if pred_BHW.shape != mask_BHW.shape:
        raise ValueError(f"prediction {tuple(pred_BHW.shape)} and mask {tuple(mask_BHW.shape)} differ in shape")
    num_cells = num_classes * num_classes
    if mask_BHW.device.type == "cpu":
        codes = [_codes_on_cpu(*pair, num_classes, ignore).flatten() for pair in zip(pred_BHW, mask_BHW, strict=True)]
        counts = [torch.bincount(codes_P, minlength=num_cells)[:num_cells] for codes_P in codes]
        return torch.stack(counts).view(-1, num_classes, num_classes)
    codes_BP = (mask_BHW.long() * num_classes + pred_BHW).flatten(1).clamp_(max=num_cells)
    codes_BP.mul_(NUM_LANES).add_(torch.arange(codes_BP.shape[1], device=codes_BP.device).remainder_(NUM_LANES))
    counters = torch.zeros((len(codes_BP), (num_cells + 1) * NUM_LANES), dtype=torch.int64, device=codes_BP.device)
    counters.scatter_add_(1, codes_BP, torch.ones_like(codes_BP))  # bincount would make the GPU wait for the maximum
    return counters.view(len(codes_BP), -1, NUM_LANES).sum(2)[:, :num_cells].view(-1, num_classes, num_classes)


def _codes_on_cpu(pred_HW: Tensor, mask_HW: Tensor, num_classes: int, ignore: int) -> Tensor:
    """`truth * C + prediction` of each pixel, C * C or above where it is ignored (as the ignored value is no class).

    With up to 15 classes everything is done in bytes: 255 * C + prediction wraps round to 256 - C + prediction, which
    no scored pixel reaches.
    """
    is_bytes = pred_HW.dtype == mask_HW.dtype == torch.uint8 and ignore == 255
    counted_HW = mask_HW + 1 if is_bytes else (mask_HW + 1).masked_fill_(mask_HW == ignore, 0)  # byte 255 + 1 is 0
    for what, highest in (("prediction", int(pred_HW.max())), ("mask", int(counted_HW.max()) - 1)):
        if highest >= num_classes:
            raise ValueError(f"class {highest} in a {what}, wanted 0 to {num_classes - 1} (or {ignore} in a mask)")
    if is_bytes and num_classes * num_classes <= 256 - num_classes:
        return (mask_HW * num_classes).add_(pred_HW)
    return mask_HW.int().mul_(num_classes).add_(pred_HW)


def dice_iou(confusion_CC: Tensor) -> tuple[Tensor, Tensor]:
    """Dice and IoU of each class, 1 where truth and prediction both lack it: two (..., C) float64.

    Takes any number of matrices, (..., C, C). The competition's score is the mean over images, then over classes.

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
    """IoU of each class from one matrix summed over all images: (C,) float64, NaN where never seen nor predicted.

    Its mean over the classes that are not NaN (`torch.nanmean`) is the mIoU of the papers.

    >>> dataset_iou(torch.tensor([[2, 1, 0], [1, 0, 0], [0, 0, 0]])).tolist()
    [0.5, 0.0, nan]
    """
    hits_C, areas_C = _hits_and_areas(confusion_CC)
    return hits_C / (areas_C - hits_C)


def _hits_and_areas(confusion_CC: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels predicted rightly, and true plus predicted pixels, of each class: two (..., C) float64."""
    confusion_CC = confusion_CC.double()
    return confusion_CC.diagonal(dim1=-2, dim2=-1), confusion_CC.sum(-1) + confusion_CC.sum(-2)
