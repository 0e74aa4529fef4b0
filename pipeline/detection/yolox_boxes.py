"""The encoding of boxes in YOLOX's outputs, and boxes by centre and size, which its losses use.

At each position of a level the network outputs four numbers: the centre's distance from the position's cell, and
the logarithms of width and height, all in units of the level's stride. Letters: B images, A positions, N boxes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

STRIDES = (8, 16, 32)
LOG_EPS = 1e-8  # keeps the logarithm of an empty side finite
UNION_EPS = 1e-16


class Positions(NamedTuple):
    """Where a network answers.

    Attributes:
        cells: float32 (A, 2): column and row of each position in its level.
        strides: float32 (A,): pixels per cell.
    """

    cells: Tensor
    strides: Tensor

    @property
    def centres(self) -> Tensor:
        """The centres of the cells, (A, 2): x and y in pixels."""
        return (self.cells + 0.5) * self.strides[:, None]


def positions_of(size: tuple[int, int], device: torch.device | str = "cpu") -> Positions:
    """Returns the positions for frames of `size` (height, width), finest level first, row by row.

    >>> positions_of((32, 64)).cells[30:34].tolist(), len(positions_of((32, 64)).strides)
    ([[6.0, 3.0], [7.0, 3.0], [0.0, 0.0], [1.0, 0.0]], 42)
    """
    height, width = size
    cells, strides = [], []
    for stride in STRIDES:
        rows = torch.arange(height // stride, dtype=torch.float32, device=device)
        columns = torch.arange(width // stride, dtype=torch.float32, device=device)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        cells.append(torch.stack([x, y], -1).reshape(-1, 2))
        strides.append(torch.full((len(cells[-1]),), float(stride), device=device))
    return Positions(torch.cat(cells), torch.cat(strides))


def decode_boxes(code_BA4: Tensor, positions: Positions) -> Tensor:
    """Returns boxes (B, A, 4) by centre and size in pixels, of the network's code in float32.

    >>> decode_boxes(torch.zeros(1, 21, 4), positions_of((32, 32)))[0, 5].tolist()
    [8.0, 8.0, 8.0, 8.0]
    """
    strides_A1 = positions.strides[:, None]
    centres = (code_BA4[..., :2] + positions.cells) * strides_A1
    return torch.cat([centres, code_BA4[..., 2:].exp() * strides_A1], -1)


def encode_boxes(centred_A4: Tensor, positions: Positions) -> Tensor:
    """Returns the code (A, 4) of one box at each position, the inverse of `decode_boxes`."""
    scaled = centred_A4 / positions.strides[:, None]
    return torch.cat([scaled[:, :2] - positions.cells, (scaled[:, 2:] + LOG_EPS).log()], -1)


def to_centres(xyxy: Tensor) -> Tensor:
    """Returns boxes (..., 4) as x and y of the centre, width, height.

    >>> to_centres(torch.tensor([[2.0, 0.0, 6.0, 10.0]])).tolist()
    [[4.0, 5.0, 4.0, 10.0]]
    """
    sides = xyxy[..., 2:] - xyxy[..., :2]
    return torch.cat([xyxy[..., :2] + sides * 0.5, sides], -1)


def to_corners(centred: Tensor) -> Tensor:
    """Returns boxes (..., 4) as left, top, right, bottom.

    >>> to_corners(torch.tensor([[4.0, 5.0, 4.0, 10.0]])).tolist()
    [[2.0, 0.0, 6.0, 10.0]]
    """
    half = centred[..., 2:] / 2
    return torch.cat([centred[..., :2] - half, centred[..., :2] + half], -1)


def centred_ious(centred: Tensor, others: Tensor) -> Tensor:
    """Returns intersection over union of boxes (..., 4) by centre and size; the shapes are broadcast.

    Areas come from the sizes and not from the corners, since float32 corners of a small box far from the origin are
    coarse.

    >>> centred_ious(torch.tensor([[1.0, 1.0, 2.0, 2.0]]), torch.tensor([[1.0, 2.0, 2.0, 4.0]])).tolist()
    [0.5]
    """
    corners, others_corners = to_corners(centred), to_corners(others)
    least = torch.maximum(corners[..., :2], others_corners[..., :2])
    most = torch.minimum(corners[..., 2:], others_corners[..., 2:])
    shared = (most - least).clamp(min=0).prod(-1)
    return shared / (centred[..., 2:].prod(-1) + others[..., 2:].prod(-1) - shared + UNION_EPS)
