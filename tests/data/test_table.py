"""Tables are read as they were written, and a damaged one is a mistake of the user's that names it."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.data.catalog import TEXT_COLUMNS, read_catalog, write_table
from pipeline.data.split import read_split
from pipeline.data.table import read_table
from pipeline.errors import UserError

IDS = ["NA", "nan", "null", "None", "", "<NA>", "True", "1e5", "007", "-inf", "0x1F", "a,b", 'say "a"', "{stem}", "=1"]


def test_ids_stay_what_they_are(tmp_path):
    path = tmp_path / "split.csv"
    write_table(path, pd.DataFrame({"id": IDS, "subset": "train"}))
    assert read_split(path)["id"].tolist() == IDS
    columns = dict.fromkeys(TEXT_COLUMNS, IDS) | {"width": 64, "height": 48, "pixels_0": range(len(IDS))}
    write_table(path, pd.DataFrame(columns))
    catalog = read_catalog(path)
    assert all(catalog[name].tolist() == IDS for name in TEXT_COLUMNS)
    assert catalog["pixels_0"].sum() == sum(range(len(IDS))) and catalog["width"].dtype == "int64"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is missing"),
        (b"", "cannot be read"),
        (b"\xff\xfe\x00\x01", "cannot be read"),
        (b'id,width\n"a,1\n', "cannot be read"),
        (b"id\na\n", "has no column width"),
        (b"id,width\na,wide\n", "has cells that are not numbers in its column width"),
        ("folder", "cannot be read"),
    ],
)
def test_a_damaged_table_is_named_with_what_writes_it_again(tmp_path, content, words):
    path = tmp_path / "ExpAAB" / "table.csv"
    path.parent.mkdir()
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"table\.csv {words}.*run the experiment of ExpAAB again"):
        read_table(path, ("id", "width"), ("id",))


def test_a_table_without_rows_has_its_columns(tmp_path):
    path = tmp_path / "leakage.csv"
    path.write_text("train_id,valid_id,distance\n")
    assert list(read_table(path, ("train_id", "distance"), ("train_id",))) == ["train_id", "valid_id", "distance"]
