"""Masks in whatever form organisers store them: run lengths, several files, other values, regions, none at all."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.config.competition import IGNORE, Competition, Convention, MaskCsv
from pipeline.data.problems import Problem
from pipeline.data.tiles import Box
from pipeline.errors import UserError
from pipeline.segmentation.mask_facts import describe_facts, find_facts
from pipeline.segmentation.mask_source import MaskSource, Row
from pipeline.segmentation.submission.rle import encode
from tests.data.catalogs import notices, train_catalog
from tests.segmentation.submission.test_edges import scenes

HEIGHT, WIDTH = 60, 90
CONVENTION = Convention("column", 1)
BASE = Competition(
    name="cells",
    title="Cells",
    classes=("back", "cell", "wall"),
    images="images/{id}.png",
    masks=MaskCsv("runs.csv"),
    train_csv=None,
    test_csv=None,
    id_column="image",
)
PAIRS = scenes(12, HEIGHT, WIDTH)
IDS = [f"im{number:02d}" for number in range(len(PAIRS))]


def text_of(mask: np.ndarray) -> str:
    return encode(mask.astype(np.uint8), 2, CONVENTION)[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for image_id, (_, image) in zip(IDS, PAIRS, strict=True):
        cv2.imwrite(str(tmp_path / f"images/{image_id}.png"), cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    return tmp_path


def masks(competition: Competition, folder: Path) -> tuple[dict[str, np.ndarray], list[Problem]]:
    """Returns the masks of all images by id, as they are read after `prepare`, and what is wrong with them."""
    catalog, problems = train_catalog(competition, folder)
    source = MaskSource(competition, folder, find_facts(competition, folder))
    return {row.id: source.read(row) for row in catalog.itertuples()} if not problems else {}, problems


def test_a_csv_that_was_replaced_by_one_of_equal_size_and_time_is_read_again(folder):
    spec = MaskCsv("runs.csv", order="column", base=1, relative=False)
    made, found = replace(BASE, classes=("back", "cell"), masks=spec), []
    for mask in (np.eye(HEIGHT, WIDTH, dtype=bool), np.eye(HEIGHT, WIDTH, 1, dtype=bool)):
        write_csv(folder, "image,pixels", [f"{IDS[0]},{text_of(mask)}".ljust(2000)])
        os.utime(folder / "runs.csv", ns=(0, 0))
        found.append((masks(made, folder)[0][IDS[0]] == mask).all())
    assert found == [True, True]


def kinds(problems: list[Problem]) -> list[str]:
    return [problem.kind for problem in problems]


def write_csv(folder: Path, header: str, rows: list[str]) -> None:
    (folder / "runs.csv").write_text("\n".join([header, *rows]) + "\n")


@pytest.mark.parametrize("empty", ["", "-1", "-", "NaN", " ", "1 0"])
def test_a_row_per_image_or_none_with_any_word_for_an_empty_mask(folder, empty):
    rows = [f"{image_id},{text_of(mask)}" for image_id, (mask, _) in zip(IDS, PAIRS, strict=True)]
    rows[3] = f"{IDS[3]},{empty}"
    write_csv(folder, "image,pixels", [*rows[:7], *rows[8:]])
    found, problems = masks(replace(BASE, classes=("back", "cell")), folder)
    assert problems == []
    for number, (image_id, (mask, _)) in enumerate(zip(IDS, PAIRS, strict=True)):
        expected = np.zeros_like(mask) if number in (3, 7) else mask
        assert (found[image_id] == expected).all()


def test_the_class_is_the_part_of_its_cell_that_a_pattern_names(folder):
    mask = PAIRS[0][0]
    left, right = mask.copy(), mask.copy()
    left[:, WIDTH // 2 :], right[:, : WIDTH // 2] = False, False
    write_csv(folder, "image,pixels,kind", [f"{IDS[0]},{text_of(left)},7_40_41", f"{IDS[0]},{text_of(right)},12"])
    spec = MaskCsv("runs.csv", class_column="kind", class_pattern="^([0-9]+)", order="column", base=1, relative=False)
    competition = replace(BASE, masks=spec, class_labels=("none", "7", "12"))
    found, problems = masks(competition, folder)
    assert problems == []
    assert (found[IDS[0]] == left * 1 + right * 2).all() and left.any() and right.any()
    _, problems = masks(replace(competition, masks=replace(spec, class_pattern=None)), folder)
    assert [problem.found for problem in problems] == [
        "line 2: class '7_40_41'; the labels of the classes are none, 7, 12"
    ]


@pytest.mark.parametrize("text", ["MULTIPOLYGON (((0 0, 1 1, 1 0, 0 0)))", "Polygon((0 0))", "[[1, 2, 3, 4]]"])
def test_outlines_in_a_csv_are_named_as_such_before_anything_is_guessed(folder, text):
    write_csv(folder, "image,pixels", [f'{IDS[0]},"{text}"'])
    competition = replace(BASE, classes=("back", "cell"))
    assert find_facts(competition, folder)["examples"] == 0
    (problem,) = MaskSource(competition, folder, find_facts(competition, folder)).problems
    assert problem.kind == "polygons" and "docs/competitions.md" in problem.fix


def enlarge_images(folder: Path) -> None:
    """Makes the images three times as large."""
    for image_id, (_, image) in zip(IDS, PAIRS, strict=True):
        cv2.imwrite(str(folder / f"images/{image_id}.png"), image.repeat(3, 0).repeat(3, 1))


def is_enlarged(large: np.ndarray, mask: np.ndarray) -> bool:
    """Returns whether a mask is another one, three times as large: equal in the middle of pixels, smooth at edges."""
    is_alike = np.mean(large == mask.repeat(3, 0).repeat(3, 1)) > 0.99
    return bool(large.shape == (3 * HEIGHT, 3 * WIDTH) and (large[1::3, 1::3] == mask).all() and is_alike)


def test_run_lengths_of_another_size_are_found_there_and_stretched(folder):
    enlarge_images(folder)
    write_csv(folder, "image,pixels", [f"{id},{text_of(mask)}" for id, (mask, _) in zip(IDS, PAIRS, strict=True)])
    competition = replace(BASE, classes=("back", "cell"), mask_size=(WIDTH, HEIGHT))
    facts = find_facts(competition, folder)
    assert (facts["order"], facts["base"], facts["relative"]) == ("column", 1, False)
    found, problems = masks(competition, folder)
    assert problems == []
    assert all(is_enlarged(found[image_id], mask) for image_id, (mask, _) in zip(IDS, PAIRS, strict=True))
    source, row = MaskSource(competition, folder, facts), Row(IDS[0], "runs.csv", 3 * HEIGHT, 3 * WIDTH)
    assert (source.window(row, Box(30, 20, 50, 40)) == found[IDS[0]][20:60, 30:80]).all()
    assert is_enlarged(source.read_objects(row) > 0, PAIRS[0][0])


@pytest.mark.parametrize("labels", ["exclusive", "multilabel"])
def test_mask_files_of_any_size_are_stretched_where_the_description_says_so(folder, labels):
    enlarge_images(folder)
    (folder / "masks").mkdir()
    for image_id, (mask, _) in zip(IDS, PAIRS, strict=True):
        cv2.imwrite(str(folder / f"masks/{image_id}_cell.png"), mask.astype(np.uint8) * 255)
    classes = ("back", "cell") if labels == "exclusive" else ("cell",)
    competition = replace(BASE, classes=classes, labels=labels, masks="masks/{id}_{class}.png", mask_size="any")
    found, problems = masks(competition, folder)
    assert problems == []
    for image_id, (mask, _) in zip(IDS, PAIRS, strict=True):
        assert is_enlarged(found[image_id] if labels == "exclusive" else found[image_id][..., 0] // 240, mask)
    _, problems = masks(replace(competition, mask_size="image"), folder)
    assert {problem.kind for problem in problems} == {"size mismatch"}
    assert "MASK_SIZE: any" in problems[0].fix
    cv2.imwrite(str(folder / f"masks/{IDS[0]}_cell.png"), np.zeros((WIDTH, HEIGHT), np.uint8))
    _, problems = masks(competition, folder)
    assert [problem.found for problem in problems] == [f"{HEIGHT}x{WIDTH}, its image {3 * WIDTH}x{3 * HEIGHT}"]


def test_several_rows_of_an_image_are_its_objects_and_blanks_in_names_and_cells_do_not_matter(folder):
    rows = []
    for image_id, (mask, _) in zip(IDS, PAIRS, strict=True):
        _, parts = cv2.connectedComponents(mask.astype(np.uint8))
        rows += [f"{image_id}, {text_of(parts == index)}" for index in range(1, parts.max() + 1)]
    write_csv(folder, "image, pixels", rows)
    assert len(rows) > len(IDS)
    by_list = replace(BASE, classes=("back", "cell"), train_csv="runs.csv")
    found, problems = masks(by_list, folder)
    assert problems == []
    assert list(found) == IDS  # each once, in the order of the list
    assert all((found[image_id] == mask).all() for image_id, (mask, _) in zip(IDS, PAIRS, strict=True))


@pytest.mark.parametrize(
    ("spec", "changes", "header", "cells"),
    [
        (MaskCsv("runs.csv", class_column="class"), {}, "image,class,pixels", "{id},2,{text}"),
        (MaskCsv("runs.csv", class_column="class"), {}, "image,pixels,class", "{id},{text},wall"),
        (
            MaskCsv("runs.csv", class_column="class"),
            {"class_labels": ("b", "c", "w")},
            "class,image,rle",
            "W,{id},{text}",
        ),
        (
            MaskCsv("runs.csv", class_column="class"),
            {"convention": Convention(class_base=1)},
            "image,class,pixels",
            "{id},3,{text}",
        ),
        (MaskCsv("runs.csv", rows="id_class"), {}, "image,pixels", "{id}_2,{text}"),
        (
            MaskCsv("runs.csv", rows="id_class"),
            {"classes": ("back", "wall", "Outer_wall")},
            "image,pixels",
            "{id}_outer_wall,{text}",
        ),
        (
            MaskCsv("runs.csv", id_column="name", value_column="v", class_column="c"),
            {},
            "x,name,v,c",
            "7,{id},{text},2",
        ),
    ],
)
def test_classes_are_known_by_number_name_or_label_in_columns_of_any_order(folder, spec, changes, header, cells):
    rows = [cells.format(id=image_id, text=text_of(mask)) for image_id, (mask, _) in zip(IDS, PAIRS, strict=True)]
    write_csv(folder, header, rows)
    found, problems = masks(replace(BASE, masks=spec, **changes), folder)
    assert problems == []
    assert all((found[image_id] == 2 * mask).all() for image_id, (mask, _) in zip(IDS, PAIRS, strict=True))


def test_a_row_for_each_object_is_joined_and_a_csv_that_changed_is_read_again(folder):
    write_csv(folder, "image,pixels", [f"{IDS[0]},11 5", f"{IDS[0]},1 3 5 2", f"{IDS[0]},2 4", f"{IDS[0]},5400 1"])
    competition = replace(BASE, masks=MaskCsv("runs.csv", order="row", base=1, relative=False))
    assert np.flatnonzero(masks(competition, folder)[0][IDS[0]]).tolist() == [*range(6), *range(10, 15), 5399]
    write_csv(folder, "image,pixels", [f"{IDS[0]},30 2"])
    assert np.flatnonzero(masks(competition, folder)[0][IDS[0]]).tolist() == [29, 30]


def test_pixels_of_two_classes_are_counted_and_told(folder):
    rows = [f"{IDS[0]},1,1 100", f"{IDS[0]},2,81 60"]
    write_csv(folder, "image,class,pixels", rows)
    given = MaskCsv("runs.csv", class_column="class", order="column", base=1, relative=False)
    competition = replace(BASE, masks=given)
    found, _ = masks(competition, folder)
    assert [int((found[IDS[0]] == index).sum()) for index in (1, 2)] == [80, 60]
    shared = next(line for line in notices(competition, folder) if "several classes" in line)
    assert shared.startswith("masks with pixels of several classes: 1 (20 pixels, first: im00)")


def test_rows_of_the_background_are_not_taken_for_a_second_class(folder):
    write_csv(folder, "image,class,pixels", [f"{IDS[0]},0,1 5000", f"{IDS[0]},2,5001 60"])
    given = MaskCsv("runs.csv", class_column="class", order="column", base=1, relative=False)
    competition = replace(BASE, masks=given)
    assert np.flatnonzero(masks(competition, folder)[0][IDS[0]].T == 2).tolist() == [*range(5000, 5060)]
    assert not [line for line in notices(competition, folder) if "several classes" in line]


@pytest.mark.parametrize(
    ("header", "row", "kind", "found"),
    [
        (
            "image,class,pixels",
            "im00,5,1 2",
            "class unknown",
            "line 2: class '5'; the labels of the classes are 0, 1, 2",
        ),
        ("image,class,pixels", "im00,1,5399 9", "run lengths do not fit", "im00, line 2: run 1 ends at pixel 5407"),
        ("image,class,pixels", "im00,1,1 2 3", "run lengths do not fit", "im00, line 2: found 3 numbers"),
        ("picture,class,pixels", "im00,1,1 2", "column missing", "columns 'picture', 'class', 'pixels'"),
        ("image,kind,pixels", "im00,1,1 2", "column missing", "columns 'image', 'kind', 'pixels'"),
    ],
)
def test_a_row_that_means_nothing_is_a_problem_with_its_line(folder, header, row, kind, found):
    write_csv(folder, header, [row])
    given = MaskCsv("runs.csv", class_column="class", order="column", base=1, relative=False)
    _, problems = masks(replace(BASE, masks=given), folder)
    assert (problems[0].kind, problems[0].found[: len(found)]) == (kind, found)


def test_what_was_found_is_told_and_doubts_too(folder):
    write_csv(folder, "image,pixels", [f"{i},{text_of(mask)}" for i, (mask, _) in zip(IDS, PAIRS, strict=True)])
    competition = replace(BASE, classes=("back", "cell"))
    facts = find_facts(competition, folder)
    (line,) = describe_facts(competition, facts)
    assert line.startswith("runs.csv: read with ORDER: column, BASE: 1, RELATIVE: false (from 12 rows")
    _, doubt = describe_facts(competition, facts | {"doubtful": ["base"]})
    assert doubt == "not certain: BASE; check and write into MASKS of configs/competitions/cells.yaml"


def test_a_column_that_nothing_is_read_from_is_told(folder):
    write_csv(folder, "image,pixels,kind", [f"{IDS[0]},1 5,2"])
    given = MaskCsv("runs.csv", value_column="pixels", order="column", base=1, relative=False)
    (first, *_) = notices(replace(BASE, masks=given), folder)
    assert (
        first
        == "runs.csv has columns that are not read: kind; if one of them is the class, name it as CLASS_COLUMN of MASKS"
    )


def test_a_csv_that_is_not_there_is_one_problem_that_names_its_key(folder):
    _, problems = masks(BASE, folder)
    assert [(problem.kind, problem.file) for problem in problems] == [("csv missing", "runs.csv")]
    assert problems[0].fix == "give its name as MASKS.CSV in configs/competitions/cells.yaml"


def test_without_images_the_missing_images_are_the_problem(folder):
    write_csv(folder, "image,pixels", [f"{i},{text_of(mask)}" for i, (mask, _) in zip(IDS, PAIRS, strict=True)])
    elsewhere = replace(BASE, classes=("back", "cell"), images="pictures/{id}.png", train_csv="runs.csv")
    assert kinds(masks(elsewhere, folder)[1]) == ["folder missing"]


def test_runs_that_fit_no_image_are_refused(folder):
    write_csv(folder, "image,pixels", [f"{IDS[0]},7 999999"])
    with pytest.raises(UserError, match=r"runs\.csv: no ORDER, BASE or RELATIVE makes these runs fit"):
        find_facts(replace(BASE, classes=("back", "cell")), folder)


def test_masks_of_a_file_per_object_or_per_class(folder):
    (folder / "masks").mkdir()
    for image_id, (mask, _) in zip(IDS, PAIRS, strict=True):
        left = mask.copy()
        left[:, WIDTH // 2 :] = False
        cv2.imwrite(str(folder / f"masks/{image_id}_cell.png"), left * np.uint8(255))
        cv2.imwrite(str(folder / f"masks/{image_id}_wall.png"), (mask & ~left) * np.uint8(255))
    per_class, problems = masks(replace(BASE, masks="masks/{id}_{class}.png"), folder)
    assert problems == []
    per_object, problems = masks(
        replace(BASE, masks="masks/{id}_*.png", classes=("back", "cell"), mask_values=(0, 255)), folder
    )
    assert problems == []
    for image_id, (mask, _) in zip(IDS, PAIRS, strict=True):
        expected = np.where(mask, np.where(np.arange(WIDTH) < WIDTH // 2, 1, 2), 0)
        assert (per_class[image_id] == expected).all()
        assert (per_object[image_id] == mask).all()


def test_a_class_in_a_files_name_that_is_none_is_a_problem(folder):
    (folder / "masks").mkdir()
    for image_id in IDS:
        cv2.imwrite(str(folder / f"masks/{image_id}_nucleus.png"), np.zeros((HEIGHT, WIDTH), np.uint8))
    _, problems = masks(replace(BASE, masks="masks/{id}_{class}.png"), folder)
    assert kinds(problems) == ["class unknown"] * len(IDS)
    assert problems[0].found == "class 'nucleus'; the labels of the classes are 0, 1, 2"


def test_images_without_a_mask_are_refused_empty_or_left_out(folder):
    (folder / "masks").mkdir()
    for image_id in IDS[:5]:
        cv2.imwrite(str(folder / f"masks/{image_id}.png"), np.ones((HEIGHT, WIDTH), np.uint8))
    competition = replace(BASE, masks="masks/{id}.png")
    assert kinds(masks(competition, folder)[1]) == ["mask missing"] * 7
    empty, problems = masks(replace(competition, without_mask="empty"), folder)
    assert problems == []
    assert [int(empty[image_id].max()) for image_id in IDS] == [1] * 5 + [0] * 7
    left, problems = masks(replace(competition, without_mask="skip"), folder)
    assert (list(left), problems) == (IDS[:5], [])
    assert "7 images without a mask are left out" in notices(replace(competition, without_mask="skip"), folder)[0]


def test_masks_may_lie_outside_the_competitions_folder(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("masks")
    for image_id in IDS:
        cv2.imwrite(str(outside / f"{image_id}.png"), np.full((HEIGHT, WIDTH), 2, np.uint8))
    found, problems = masks(replace(BASE, masks="{id}.png", mask_folder=str(outside)), folder)
    assert problems == []
    assert {int(mask.min()) for mask in found.values()} == {2}


def test_outside_of_the_valid_region_every_pixel_is_ignored(folder):
    for name in ("masks", "regions"):
        (folder / name).mkdir()
    region = np.zeros((HEIGHT, WIDTH), np.uint8)
    region[10:50, 20:70] = 255
    for image_id in IDS:
        cv2.imwrite(str(folder / f"masks/{image_id}.png"), np.ones((HEIGHT, WIDTH), np.uint8))
        Image.fromarray(region).convert("1").save(folder / f"regions/{image_id}.png")
    competition = replace(BASE, masks="masks/{id}.png", valid_region="regions/{id}.png")
    found, problems = masks(competition, folder)
    assert problems == []
    assert all((mask == np.where(region > 0, 1, IGNORE)).all() for mask in found.values())
    cv2.imwrite(str(folder / f"regions/{IDS[0]}.png"), region[:-1])
    (folder / f"regions/{IDS[1]}.png").unlink()
    assert kinds(masks(competition, folder)[1]) == ["size mismatch", "region missing"]


STORED = {
    "16 bits": ("png", lambda mask: cv2.imencode(".png", mask.astype(np.uint16) * 65535)[1].tobytes(), (0, 65535)),
    "1 bit": ("png", lambda mask: _pil(Image.fromarray(mask).convert("1"), "PNG"), (0, 255)),
    "palette": ("png", lambda mask: _pil(_with_palette(mask), "PNG"), None),
    "GIF": ("gif", lambda mask: _pil(_with_palette(mask), "GIF"), None),
    "TIFF": ("tif", lambda mask: cv2.imencode(".tif", mask.astype(np.uint16))[1].tobytes(), None),
    "palette in a TIFF": ("tif", lambda mask: _pil(_with_palette(mask), "TIFF"), None),
    "npy": ("npy", lambda mask: _npy(mask[..., None].astype(np.int32)), None),
    "npy of floats": ("npy", lambda mask: _npy(mask.astype(np.float32)), None),
}


def _pil(image: Image.Image, format: str) -> bytes:
    import io

    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _with_palette(mask: np.ndarray) -> Image.Image:
    image = Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 255, 255] + [7] * 762)
    return image


@pytest.mark.parametrize("stored", STORED)
def test_a_mask_is_read_from_any_lossless_form(folder, stored):
    suffix, write, values = STORED[stored]
    (folder / "masks").mkdir()
    for image_id, (mask, _) in zip(IDS, PAIRS, strict=True):
        (folder / f"masks/{image_id}.{suffix}").write_bytes(write(mask))
    changes = {"masks": f"masks/{{id}}.{suffix}", "mask_values": values, "classes": ("back", "cell")}
    found, problems = masks(replace(BASE, **changes), folder)
    assert problems == []
    assert all((found[image_id] == mask).all() for image_id, (mask, _) in zip(IDS, PAIRS, strict=True))


def test_an_image_whose_mask_is_not_found_is_a_problem_unless_it_may_have_none(folder):
    (folder / "masks").mkdir()
    for image_id, (mask, _) in list(zip(IDS, PAIRS, strict=True))[1:]:
        cv2.imwrite(str(folder / f"masks/{image_id}_x.png"), mask.astype(np.uint8))
    searched = replace(BASE, masks="masks/{id}_*.png")
    found, (problem,) = masks(searched, folder)
    assert (problem.kind, problem.found) == ("mask missing", "no mask file of 'im00'")
    found, problems = masks(replace(searched, without_mask="empty"), folder)
    assert problems == [] and not found["im00"].any()


def test_of_two_files_that_may_be_missing_those_there_are_read(folder):
    (folder / "masks").mkdir()
    for image_id, (mask, _) in zip(IDS, PAIRS, strict=True):
        cv2.imwrite(str(folder / f"masks/{image_id}_a.png"), mask.astype(np.uint8))
    two = replace(BASE, masks=("masks/{id}_a.png", "masks/{id}_b.png"))
    assert kinds(masks(two, folder)[1]) == ["mask missing"] * len(IDS)
    found, problems = masks(replace(two, without_mask="empty"), folder)
    assert problems == [] and all((found[i] == mask).all() for i, (mask, _) in zip(IDS, PAIRS, strict=True))


def test_an_ignored_class_is_ignored_in_files_of_a_class_and_in_runs(folder):
    (folder / "masks").mkdir()
    for image_id, (mask, _) in zip(IDS, PAIRS, strict=True):
        cv2.imwrite(str(folder / f"masks/{image_id}_wall.png"), mask.astype(np.uint8))
    ignored = replace(BASE, masks="masks/{id}_{class}.png", ignore_index=2)
    found, problems = masks(ignored, folder)
    assert problems == []
    assert all((found[i] == np.where(mask, IGNORE, 0)).all() for i, (mask, _) in zip(IDS, PAIRS, strict=True))
    write_csv(folder, "image,class,pixels", [f"{IDS[0]},wall,1 5"])
    given = MaskCsv("runs.csv", class_column="class", order="column", base=1, relative=False)
    found, _ = masks(replace(ignored, masks=given), folder)
    assert sorted(np.unique(found[IDS[0]])) == [0, IGNORE]


def test_the_hash_of_a_mask_changes_with_the_meaning_of_its_class(folder):
    (folder / "masks").mkdir()
    cv2.imwrite(str(folder / "masks/im00_wall.png"), PAIRS[0][0].astype(np.uint8))
    row = Row("im00", "masks/im00_wall.png", HEIGHT, WIDTH)
    orders = (("back", "cell", "wall"), ("back", "wall", "cell"), ("back", "cell", "wall"))
    described = [replace(BASE, masks="masks/{id}_{class}.png", classes=classes) for classes in orders]
    first, second, third = (MaskSource(one, folder).content(row) for one in described)
    assert first == third != second


def test_runs_of_no_image_are_told_and_all_of_no_image_are_a_problem(folder):
    given = MaskCsv("runs.csv", order="column", base=1, relative=False)
    competition = replace(BASE, classes=("back", "cell"), masks=given)
    write_csv(folder, "image,pixels", [f"{IDS[0]},1 5", f"{IDS[1]}.png,1 5"])
    assert masks(competition, folder)[1] == []
    told = next(line for line in notices(competition, folder) if "no image has" in line)
    first = "1 (first: im01.png; there is im01 (other extension))"
    assert told == f"ids in runs.csv that no image has: {first}; their run lengths are not used"
    write_csv(folder, "image,pixels", [f"{IDS[0]}.png,1 5", f"{IDS[1]}.png,1 5"])
    (problem,) = masks(competition, folder)[1]
    assert problem.kind == "runs of no image"
    assert problem.found == "only ids that no image has: 2 (first: im00.png; there is im00 (other extension))"
