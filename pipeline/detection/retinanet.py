"""RetinaNet: an encoder, a feature pyramid, and two heads with outputs for every anchor.

A box is encoded by its centre and size relative to an anchor; torchvision's `BoxCoder` defines the encoding.

Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", https://arxiv.org/abs/1708.02002. Pyramid, heads,
assignment of anchors and the sums of the losses are torchvision's, https://github.com/pytorch/vision (BSD-3).

Letters: B images, A anchors of an image, C classes, F anchors with an object in all images, N boxes of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.retinanet import RetinaNetClassificationHead, RetinaNetRegressionHead
from torchvision.ops import Conv2dNormActivation, box_iou, sigmoid_focal_loss

from pipeline.config.detector_options import RetinaNetOptions, options_of
from pipeline.config.schema import Model
from pipeline.detection.anchors import anchors_of, refuse_thin_anchors
from pipeline.detection.dense import BoxTargets, Dense, Detector, Terms, in_crowds
from pipeline.detection.pyramid import NUM_ENCODED, STRIDES, Pyramid, make_encoder
from pipeline.training.ranks import group

ALPHA, GAMMA = 0.25, 2.0  # weight of the objects, and exponent; the paper's best
BETA = 1 / 9  # the smooth L1 loss is quadratic below and linear above; from the paper's code, Detectron
OBJECT_IOU, BACKGROUND_IOU = 0.5, 0.4  # an anchor has an object from the first on, none below the second
WEIGHT_STD = 0.01  # of the first weights of the heads, in the paper
CODER = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
MATCHER = Matcher(OBJECT_IOU, BACKGROUND_IOU, allow_low_quality_matches=True)


class RetinaNet(nn.Module):
    """From normalised images (B, channels, H, W) to `Dense`; H and W are multiples of 32."""

    strides = STRIDES

    def __init__(self, encoder: nn.Module, num_classes: int, options: RetinaNetOptions) -> None:
        super().__init__()
        channels, num_shapes = options.channels, options.num_shapes
        self.encoder = encoder
        self.pyramid = Pyramid(list(encoder.out_channels[-NUM_ENCODED:]), channels)
        self.classification_head = RetinaNetClassificationHead(channels, num_shapes, num_classes, options.prior)
        self.regression_head = RetinaNetRegressionHead(channels, num_shapes)
        for head in (self.classification_head, self.regression_head):
            head.conv = _convolutions(channels, options.convolutions)

    def forward(self, images: Tensor) -> Dense:
        features = self.pyramid(self.encoder(images)[-NUM_ENCODED:])
        logits_BAC, codes_BA4 = self.classification_head(features), self.regression_head(features)
        return Dense(logits_BAC, codes_BA4, logits_BAC[..., :0])


def _convolutions(channels: int, number: int) -> nn.Sequential:
    """Returns the convolutions of a head, as torchvision's head has four of them."""
    layers = [Conv2dNormActivation(channels, channels, norm_layer=None) for _ in range(number)]
    for layer in layers:
        nn.init.normal_(layer[0].weight, std=WEIGHT_STD)
        nn.init.zeros_(layer[0].bias)
    return nn.Sequential(*layers)


def build(model: Model, num_classes: int, num_channels: int) -> RetinaNet:
    """Returns a RetinaNet with random weights.

    Args:
        num_channels: of the images.

    Raises:
        UserError: an unknown encoder or option, a wrong value of an option, or anchors without a pixel.
    """
    options = options_of(model)
    refuse_thin_anchors(options)
    return RetinaNet(make_encoder(model, num_channels), num_classes, options)


class Assigned(NamedTuple):
    """What the anchors of a batch are trained on.

    Attributes:
        has_object: bool (B, A).
        is_ignored: bool (B, A): anchors that overlap an object, but not enough, or lie in a crowd; in no loss.
        classes: int64 (B, A), meaningful where `has_object`.
        boxes: float32 (B, A, 4), meaningful where `has_object`.
    """

    has_object: Tensor
    is_ignored: Tensor
    classes: Tensor
    boxes: Tensor


def assign(anchors_A4: Tensor, targets: BoxTargets) -> Assigned:
    """Returns which anchor is trained on which object.

    An anchor is assigned to the object that it overlaps most if the IoU is 0.5 or more, and is background below 0.4.
    The best anchors of an object are assigned at any IoU, also to the object that they overlap most. An anchor that
    overlaps nothing is always background, so boxes without an area are not trained on. Background in a crowd, see
    `in_crowds`, is ignored.
    """
    parts = [_assign_image(anchors_A4, *one) for one in zip(targets.boxes, targets.classes, strict=True)]
    assigned = Assigned(*(torch.stack(tensors) for tensors in zip(*parts, strict=True)))
    if not any(map(len, targets.crowds)):
        return assigned
    is_ignored_BA = assigned.is_ignored | (in_crowds(anchors_A4, targets) & ~assigned.has_object)
    return assigned._replace(is_ignored=is_ignored_BA)


def _assign_image(anchors_A4: Tensor, boxes_N4: Tensor, classes_N: Tensor) -> Assigned:
    num_anchors, device = len(anchors_A4), anchors_A4.device
    if len(boxes_N4) == 0:
        nowhere_A = torch.zeros(num_anchors, dtype=torch.bool, device=device)
        return Assigned(nowhere_A, nowhere_A, torch.zeros(num_anchors, dtype=torch.int64, device=device), anchors_A4)
    boxes_N4 = boxes_N4.float()
    overlap_NA = box_iou(boxes_N4, anchors_A4)
    # The matcher takes all anchors for the best ones of an object that none of them overlaps.
    matched_A = MATCHER(overlap_NA).masked_fill(overlap_NA.amax(0) == 0, Matcher.BELOW_LOW_THRESHOLD)
    index_A = matched_A.clamp(min=0)
    is_ignored_A = matched_A == Matcher.BETWEEN_THRESHOLDS
    return Assigned(matched_A >= 0, is_ignored_A, classes_N[index_A], boxes_N4[index_A])


def losses(
    model: Model,
    num_classes: int,
    outputs: Dense,
    targets: BoxTargets,
    terms: Mapping[str, Mapping[str, float]],
) -> Terms:
    """Returns the loss of each term, a float32 scalar.

    This is the sum over an image's anchors, divided by the number of anchors with an object (at least 1), averaged over
    the images of all ranks.

    Args:
        terms: `focal` with ALPHA and GAMMA, `smooth_l1` with BETA, by lower-case names; BETA 0 is the plain L1 loss.
    """
    anchors_A4 = anchors_of(options_of(model), targets.size, outputs.classes.device)
    assigned = assign(anchors_A4, targets)
    functions = {
        "sigmoid_focal": lambda **settings: focal(outputs.classes, assigned, **settings),
        "smooth_l1": lambda **settings: smooth_l1(outputs.boxes, anchors_A4, assigned, **settings),
    }
    return Terms({name: functions[name](**settings) for name, settings in terms.items()})


def focal(logits_BAC: Tensor, assigned: Assigned, alpha: float = ALPHA, gamma: float = GAMMA) -> Tensor:
    """Returns the focal loss of the classes at all anchors that are not ignored, a float32 scalar.

    Args:
        alpha: weight of the classes that an anchor has; all other classes have the weight 1 - alpha.
        gamma: exponent that reduces the weight of confident predictions; with 0 it is weighted binary cross entropy.
    """
    logits_BAC = logits_BAC.float()
    has_class_BA1 = assigned.has_object[..., None].float()
    truth_BAC = torch.zeros_like(logits_BAC).scatter_(2, assigned.classes[..., None], has_class_BA1)
    loss_BA = sigmoid_focal_loss(logits_BAC, truth_BAC, alpha, gamma).sum(2)
    sums_B = loss_BA.masked_fill(assigned.is_ignored, 0).sum(1)
    return group.mean((sums_B / _num_objects(assigned)).mean())


def smooth_l1(codes_BA4: Tensor, anchors_A4: Tensor, assigned: Assigned, beta: float = BETA) -> Tensor:
    """Returns the smooth L1 loss of the codes of boxes at all anchors with an object, a float32 scalar.

    Args:
        beta: error below which the loss is quadratic; with 0 it is the L1 loss.
    """
    chosen_BA = assigned.has_object
    anchors_F4 = anchors_A4.expand(codes_BA4.shape)[chosen_BA]
    wanted_F4 = CODER.encode_single(assigned.boxes[chosen_BA], anchors_F4)
    loss_F4 = F.smooth_l1_loss(codes_BA4[chosen_BA].float(), wanted_F4, reduction="none", beta=beta)
    share_F = (1 / _num_objects(assigned))[:, None].expand(chosen_BA.shape)[chosen_BA]
    return group.mean((loss_F4.sum(1) * share_F).sum() / len(codes_BA4))


def _num_objects(assigned: Assigned) -> Tensor:
    """Returns how many anchors of each image have an object, 1 at least, (B,)."""
    return assigned.has_object.sum(1).clamp(min=1)


def decode(model: Model, outputs: Dense, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns the box of each anchor, float32 (B, A, 4) in pixels, and the probabilities of its classes (B, A, C).

    Boxes may reach beyond the frame.

    Args:
        size: (height, width) of the frames.
    """
    anchors_A4 = anchors_of(options_of(model), size, outputs.boxes.device)
    codes_BA4 = outputs.boxes.float()
    boxes = CODER.decode_single(codes_BA4.reshape(-1, 4), anchors_A4.repeat(len(codes_BA4), 1))
    return boxes.reshape(codes_BA4.shape), outputs.classes.float().sigmoid()


RETINANET = Detector(build, ("sigmoid_focal", "smooth_l1"), losses, decode)
