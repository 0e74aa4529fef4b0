"""The boxes of an image after flips, rotations, crops, warps and distortions.

Letters: N boxes.
"""

from __future__ import annotations

import numpy as np

from pipeline.detection.boxes import Boxes, areas, clip_boxes

Size = tuple[int, int]  # height, width


def moved(xyxy_N4: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Returns the upright boxes around boxes transformed by an affine map: float32 (N, 4).

    Args:
        matrix: (2, 3), from `part_matrix`.

    >>> moved(np.array([[0, 0, 2, 1]], np.float32), np.array([[0.0, 1, 0], [-1, 0, 5]])).tolist()
    [[0.0, 3.0, 1.0, 5.0]]
    """
    corners_N42 = xyxy_N4.astype(np.float64)[:, [[0, 1], [2, 1], [0, 3], [2, 3]]]
    corners_N42 = corners_N42 @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([corners_N42.min(1), corners_N42.max(1)], 1).astype(np.float32)


def cut(boxes: Boxes, size: Size, min_visible: float) -> Boxes:
    """Returns boxes clipped to an image of `size`, without those whose share inside is below `min_visible`.

    Of a crowd any part is kept, as it shows objects without boxes of their own.

    >>> from pipeline.detection.boxes import make_boxes
    >>> cut(make_boxes([[-3, 0, 1, 4], [-1, 0, 3, 4]], [0, 1]), (8, 8), 0.5).xyxy.tolist()
    [[0.0, 0.0, 3.0, 4.0]]
    """
    inside_N4 = clip_boxes(boxes.xyxy, size)
    own_N, whole_N = areas(inside_N4), areas(boxes.xyxy)
    is_enough_N = boxes.is_crowd | (own_N >= min_visible * whole_N)
    return boxes._replace(xyxy=inside_N4).keep((own_N > 0) & is_enough_N)


def scaled(xyxy_N4: np.ndarray, size: Size, new_size: Size) -> np.ndarray:
    """Returns boxes of an image of `size` (height, width) in the same image of another size: float32 (N, 4).

    >>> scaled(np.array([[2, 2, 4, 4]], np.float32), (10, 10), (5, 20)).tolist()
    [[4.0, 1.0, 8.0, 2.0]]
    """
    x, y = new_size[1] / size[1], new_size[0] / size[0]
    return (xyxy_N4 * np.array([x, y, x, y])).astype(np.float32)


def shifted(xyxy_N4: np.ndarray, x: float, y: float) -> np.ndarray:
    """Returns boxes moved to the right by x and down by y pixels: float32 (N, 4)."""
    return xyxy_N4 + np.array([x, y, x, y], np.float32)


def visible_share(xyxy_N4: np.ndarray, over_M4: np.ndarray, size: Size) -> np.ndarray:
    """Returns the share of each box, inside an image of `size`, that no box of `over_M4` covers: float64 (N,).

    Args:
        over_M4: rectangles of whole pixels.

    >>> visible_share(np.array([[0.0, 0, 4, 4]]), np.array([[0.0, 0, 4, 1], [0, 0, 4, 2]]), (8, 8)).tolist()
    [0.5]
    """
    covered = np.zeros(
        (size[0] + 2, size[1] + 2)
    )  # one more row and column, so that the last one has a neighbour for interpolation
    for left, top, right, bottom in np.rint(clip_boxes(over_M4, size)).astype(int):
        covered[top + 1 : bottom + 1, left + 1 : right + 1] = 1
    sums = covered.cumsum(0).cumsum(1)

    def sums_up_to(x_N: np.ndarray, y_N: np.ndarray) -> np.ndarray:
        """Returns the covered area left of x and above y; bilinear, which is exact within a pixel."""
        column_N, row_N = x_N.astype(int), y_N.astype(int)
        right_N, low_N = x_N - column_N, y_N - row_N
        above_N = sums[row_N, column_N] * (1 - right_N) + sums[row_N, column_N + 1] * right_N
        below_N = sums[row_N + 1, column_N] * (1 - right_N) + sums[row_N + 1, column_N + 1] * right_N
        return above_N * (1 - low_N) + below_N * low_N

    inside_N4 = clip_boxes(xyxy_N4.astype(np.float64), size)
    left, top, right, bottom = inside_N4.T
    hidden_N = sums_up_to(right, bottom) - sums_up_to(right, top) - sums_up_to(left, bottom) + sums_up_to(left, top)
    own_N = areas(inside_N4)
    return 1 - np.divide(hidden_N, own_N, out=np.zeros_like(own_N), where=own_N > 0)


def distorted(xyxy_N4: np.ndarray, map_x: np.ndarray, map_y: np.ndarray) -> np.ndarray:
    """Returns the boxes around the pixels that come from each box, float32 (N, 4); 0 wide where there are none.

    Args:
        map_x: float32 (H, W), the x of the pixel that each pixel comes from, as `cv2.remap` takes it; map_y likewise.
    """
    found = np.zeros((len(xyxy_N4), 4), np.float32)
    for number, (left, top, right, bottom) in enumerate(xyxy_N4 - 0.5):  # middles of pixels are whole numbers
        is_own = (map_x >= left) & (map_x < right) & (map_y >= top) & (map_y < bottom)
        columns, rows = np.flatnonzero(is_own.any(0)), np.flatnonzero(is_own.any(1))
        if len(columns):
            found[number] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return found
