"""The table of formats, and the boundary between what knows a submission and what knows masks."""

import ast
import dataclasses
import typing
from pathlib import Path
from typing import get_args

import pytest

from pipeline.config.box_convention import BoxFormat
from pipeline.config.competition import Submission
from pipeline.submission.formats import FORMATS, Format, format_of, format_of_file
from tests.segmentation.submission.scenes import make_competition, make_png_competition

GENERAL = ("file", "formats", "kaggle", "log")
FOLDER = Path(__file__).parents[2] / "pipeline" / "submission"


def test_the_config_knows_the_formats_of_the_table():
    named, none = typing.get_args(typing.get_type_hints(Submission)["format"])
    assert (typing.get_args(named), none) == (tuple(form.name for form in FORMATS), type(None))
    assert {form.suffix for form in FORMATS} == {".csv", ".zip", ".npz", ".json"}
    assert get_args(BoxFormat) == tuple(form.name for form in FORMATS if form.task == "boxes")


def test_the_format_is_that_of_the_task_where_none_is_given():
    assert make_competition().submission.format == "run_lengths"
    assert make_competition(task="boxes", submission=Submission()).submission.format == "prediction_string"


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_every_function_that_the_table_names_exists(form: Format):
    functions = [
        getattr(form, field.name) for field in dataclasses.fields(form) if field.name not in ("name", "suffix", "task")
    ]
    assert len(functions) >= 8
    for function in functions:
        if function is not Format.hints:  # the default asks for nothing
            with pytest.raises(TypeError, match=r"missing .* required positional argument"):  # found, and called
                function()


def test_a_file_is_of_the_format_of_its_suffix_or_of_the_competitions():
    by_rows, by_masks = make_competition(), make_png_competition()
    assert (format_of(by_rows).suffix, format_of(by_masks).suffix) == (".csv", ".zip")
    for competition in (by_rows, by_masks):
        assert format_of_file(Path("a.csv"), competition) is format_of(by_rows)
        assert format_of_file(Path("a.ZIP"), competition) is format_of(by_masks)
        assert format_of_file(Path("a.npz"), competition).name == "npz"
        assert format_of_file(Path("a"), competition) is format_of(competition)
    by_boxes = make_competition(task="boxes", submission=Submission("nuscenes_boxes"))
    assert [format_of_file(Path(name), by_boxes).name for name in ("a.json", "a.csv", "a.zip")] == [
        *("nuscenes_boxes", "prediction_string", "nuscenes_boxes")
    ]
    by_tiffs = make_competition(submission=Submission("tiff_masks"))
    assert format_of_file(Path("a.zip"), by_tiffs).name == "tiff_masks"  # two kinds of files come in zips


@pytest.mark.parametrize("name", GENERAL)
def test_what_is_general_imports_nothing_that_knows_masks(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    inside = {module.rpartition(".")[2] for module in modules if module.startswith("pipeline.submission.")}
    assert inside <= set(GENERAL)
    assert not modules & {"numpy", "cv2", "pandas"}


def test_a_suffix_costs_no_heavy_package(python_modules):
    code = (
        "from pipeline.config.load import load_competition as load\nfrom pipeline.submission.formats import format_of"
    )
    assert not python_modules(f"{code}\nformat_of(load('demo')).suffix") & {"numpy", "cv2", "pandas", "torch"}
