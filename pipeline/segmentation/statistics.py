"""How often each class occurs: the table behind classes.csv and the two histograms.

In: catalog and split. Out: a row per scored class.
"""

from __future__ import annotations

import pandas as pd

from pipeline.config.competition import Competition


def class_table(catalog: pd.DataFrame, split: pd.DataFrame, competition: Competition) -> pd.DataFrame:
    """Returns a row per scored class, in index order.

    Columns: index, name, red, green, blue; over all masks the images with a pixel of the class, its pixels, and their
    share of all scored pixels (0..1); train_images and valid_images: those images on each side of the split.
    """
    names = competition.class_names
    pixels = catalog[[f"pixels_{index}" for index in range(len(names))]].set_axis(names, axis="columns")
    present = pixels > 0
    num_pixels = pixels.sum()
    table = pd.DataFrame({"index": range(len(names)), "name": names})
    table[["red", "green", "blue"]] = [list(color) for color in competition.colors[: len(names)]]
    table["images"] = present.sum().to_numpy()
    table["pixels"] = num_pixels.to_numpy()
    table["pixel_share"] = (num_pixels / max(1, num_pixels.sum())).to_numpy()
    for side in ("train", "valid"):
        ids = split["id"][split["subset"] == side]
        table[f"{side}_images"] = present[catalog["id"].isin(ids).to_numpy()].sum().to_numpy()
    return table
