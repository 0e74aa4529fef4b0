"""The ids of images that are a folder's name and a number of the file's."""

from __future__ import annotations

from pipeline.data.discovery.families import Family, Found
from pipeline.data.discovery.ids import Ids


def test_the_name_of_a_folder_is_never_read_as_a_template():
    file = Found("case{number}/slice_0007.png", "", ("case{number}",), ("*", "slice_0007.png"), "")
    family = Family(("*",), "slice_", "", ".png", None, (file,))
    ids = Ids(family, "parts", "{case}_slice_{number}", "{case}", "slice_")
    assert ids.id_of(file) == "case{number}_slice_0007"
