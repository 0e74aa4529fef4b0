"""Colours of classes for drawings, where a descriptor gives none."""

from __future__ import annotations

import colorsys


def distinct_colors(number: int) -> tuple[tuple[int, int, int], ...]:
    """Returns a colour for each class: black for the first, then hues a golden angle apart in three brightnesses.

    >>> distinct_colors(3)
    ((0, 0, 0), (230, 34, 34), (70, 92, 194))
    """
    colors = [(0, 0, 0)]
    for index in range(number - 1):
        value, saturation = ((0.9, 0.85), (0.76, 0.64), (1.0, 0.55))[index % 3]
        rgb = colorsys.hsv_to_rgb(index * 0.6363 % 1, saturation, value)
        colors.append(tuple(round(255 * part) for part in rgb))
    return tuple(colors[:number])
