"""DeepLabV2: a dilated ResNet, and four parallel atrous convolutions straight to the classes, summed.

Source: Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
Connected CRFs", 2017, https://arxiv.org/abs/1606.00915 (DeepLab-LargeFOV's successor with ASPP-L). Not built: the three
input scales with their maximum, and the CRF.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.base import ClassificationHead, SegmentationModel
from torch import Tensor, nn

PAPER_RATES = (6, 12, 18, 24)  # ASPP-L
PAPER_STRIDE = 8
FIRST_STD = 0.01  # of the classifier's first weights, as in the authors' published training files


class LastFeature(nn.Module):
    """Returns the last of an encoder's features: the classifier needs no other."""

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return features[-1]


class AtrousClassifier(nn.Module):
    """Parallel 3x3 convolutions of different rates from features (B, F, h, w) to logits (B, C, h, w), summed."""

    def __init__(self, num_features: int, num_outputs: int, rates: Sequence[int]) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(num_features, num_outputs, 3, padding=rate, dilation=rate) for rate in rates]
        self.branches = nn.ModuleList(convolutions)
        for convolution in convolutions:
            nn.init.normal_(convolution.weight, std=FIRST_STD)
            nn.init.zeros_(convolution.bias)

    def forward(self, features: Tensor) -> Tensor:
        total = self.branches[0](features)
        for branch in self.branches[1:]:
            total = total + branch(features)
        return total


class DeepLabV2(SegmentationModel):
    """Images (B, 3, H, W) to logits (B, C, H, W). The recipe trains the classifier, `segmentation_head`, at 10 x LR.

    Args:
        encoder_name: a ResNet of the library, or another encoder that can be dilated.
        encoder_output_stride: 8 as in the paper (the last two stages are dilated by 2 and 4), or 16.
        decoder_atrous_rates: of the parallel convolutions.
        aux_params: of the library's classification head, or None.
    """

    def __init__(
        self,
        encoder_name: str = "resnet101",
        encoder_weights: str | None = None,
        encoder_output_stride: int = PAPER_STRIDE,
        decoder_atrous_rates: Sequence[int] = PAPER_RATES,
        in_channels: int = 3,
        classes: int = 1,
        aux_params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(
            *(encoder_name, in_channels, 5, encoder_weights), output_stride=encoder_output_stride, **kwargs
        )
        self.decoder = LastFeature()
        num_features = self.encoder.out_channels[-1]
        upsampling = nn.Upsample(scale_factor=encoder_output_stride, mode="bilinear", align_corners=True)
        self.segmentation_head = nn.Sequential(
            AtrousClassifier(num_features, classes, decoder_atrous_rates), upsampling, nn.Identity()
        )
        self.classification_head = ClassificationHead(num_features, **aux_params) if aux_params else None
        self.name = f"deeplabv2-{encoder_name}"
