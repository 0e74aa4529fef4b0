"""The class table: images and pixels per class, worked by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.config.load import load_competition
from pipeline.data.split import make_split
from pipeline.segmentation.labels import class_presence, class_table
from tests.data.broken import COMPETITION
from tests.data.catalogs import train_catalog

CATALOG = pd.DataFrame(
    [
        ("a", 10, 10, 60, 40, 0, 0),
        ("b", 10, 10, 90, 0, 0, 10),
        ("c", 10, 10, 50, 0, 10, 40),
        ("d", 10, 10, 100, 0, 0, 0),
    ],
    columns=["id", "width", "height", "pixels_0", "pixels_1", "pixels_2", "pixels_ignored"],
)


def test_images_pixels_and_shares_are_counted_over_the_masks():
    split = pd.DataFrame({"id": ["a", "b", "c"], "subset": ["train", "train", "valid"]})  # a quick split leaves d out
    table = class_table(CATALOG, split, COMPETITION)
    assert table["index"].tolist() == [0, 1, 2]
    assert table["name"].tolist() == ["Land", "Road", "Water"]
    assert table[["red", "green", "blue"]].to_numpy().tolist() == [[0, 0, 0], [128, 0, 0], [0, 0, 128]]
    assert table["images"].tolist() == [4, 1, 1]
    assert table["pixels"].tolist() == [300, 40, 10]
    assert table["pixel_share"].tolist() == pytest.approx([300 / 350, 40 / 350, 10 / 350])
    assert table["train_images"].tolist() == [2, 1, 0]
    assert table["valid_images"].tolist() == [1, 0, 1]


def test_masks_without_a_scored_pixel_give_shares_of_zero():
    blank = CATALOG.assign(pixels_0=0, pixels_1=0, pixels_2=0)
    split = pd.DataFrame({"id": ["a", "b"], "subset": ["train", "valid"]})
    assert class_table(blank, split, COMPETITION)["pixel_share"].tolist() == [0, 0, 0]


def test_camvid_has_the_counts_of_its_description(shared_data):
    competition = load_competition("camvid")
    catalog, _ = train_catalog(competition, shared_data("camvid"))
    split = make_split(catalog, class_presence(catalog), "sequence", 0)
    table = class_table(catalog, split, competition).set_index("name")
    assert table.loc["Sky", "images"] == 366 + 101
    assert table.loc["Bicyclist", "images"] == 201 + 101
    assert table["pixel_share"].sum() == pytest.approx(1)
    assert (table["train_images"] + table["valid_images"] == table["images"]).all()
