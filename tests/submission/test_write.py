"""The submission file and its origin, in every format."""

import hashlib
import json
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from pipeline.config.competition import IGNORE
from pipeline.errors import UserError
from pipeline.segmentation.labels import keep_classes
from pipeline.segmentation.resizing import resize_mask
from pipeline.segmentation.submission.compare import compare_submissions
from pipeline.segmentation.submission.score import score_file
from pipeline.submission import formats
from pipeline.submission.file import is_own, require_good, submitted_sizes, write_submission
from pipeline.submission.formats import format_of
from tests.segmentation.submission.scenes import (
    CONVENTIONS,
    PNG_KINDS,
    check_submission,
    make_competition,
    make_images,
    make_png_competition,
    sizes_of,
    write,
)

COMPETITIONS = {name: make_competition(name) for name in CONVENTIONS}
COMPETITIONS |= {f"PNG, {kind}": make_png_competition(kind) for kind in PNG_KINDS}
every_competition = pytest.mark.parametrize("competition", COMPETITIONS.values(), ids=COMPETITIONS)
both_formats = pytest.mark.parametrize("competition", [make_competition(), make_png_competition()], ids=["csv", "zip"])


def held(mask_HW, competition):
    """What a file can hold of a mask: rows are of scored classes alone, PNGs of all but the ignored one."""
    is_png = competition.submission.format == "png_masks"
    return keep_classes(mask_HW, range(competition.num_classes) if is_png else competition.scored_indices)


def masks_for(competition):
    """Small masks of the competition's classes, ignored ones and pixels of no class where the format has a value."""
    values = list(range(len(competition.classes)))
    if competition.submission.format == "run_lengths" or competition.ignore_index is not None:
        values.append(IGNORE)
    return arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from(values))


@both_formats
def test_masks_of_a_given_size_are_written_checked_scored_and_compared_at_it(tmp_path, competition):
    competition = replace(competition, submission=replace(competition.submission, size=(30, 20)))
    images = {image_id: mask.repeat(2, 0).repeat(2, 1) for image_id, mask in make_images(1, 3, competition).items()}
    form, sizes = format_of(competition), sizes_of(images)
    path = write(tmp_path / f"a{form.suffix}", images, competition)
    assert require_good(path, competition, sizes) == []
    found = dict(form.read(path, competition, submitted_sizes(competition, sizes)))
    assert found.keys() == images.keys()
    for image_id, mask in images.items():
        assert found[image_id].shape == (20, 30)
        assert np.array_equal(found[image_id], resize_mask(mask, (20, 30)))
    (tmp_path / "masks").mkdir()
    for image_id, mask in images.items():
        Image.fromarray(mask).save(tmp_path / f"masks/{image_id}.png")
    scores = score_file(path, tmp_path / "masks", competition, lambda ids: sizes)["scores"]
    assert scores["dice"]["mean"] == scores["miou"]["mean"] == 1
    assert len(compare_submissions(path, path, competition, sizes)) == 0


@settings(max_examples=300)
@given(st.data())
def test_what_is_read_is_what_was_written_in_every_format(tmp_path_factory, data):
    competition = data.draw(st.sampled_from(list(COMPETITIONS.values())))
    masks = data.draw(st.lists(masks_for(competition), min_size=1, max_size=3))
    images = {f"{number}_a.b": mask_HW for number, mask_HW in enumerate(masks)}
    form = format_of(competition)
    path = write(tmp_path_factory.mktemp("s") / f"a{form.suffix}", images, competition)
    found = list(form.read(path, competition, sizes_of(images)))
    assert [image_id for image_id, _ in found] == list(images) == form.list_ids(path, competition)
    assert all(np.array_equal(mask_HW, held(images[image_id], competition)) for image_id, mask_HW in found)
    assert [one for one in check_submission(path, competition, sizes_of(images)) if "warning: " not in one] == []


@every_competition
def test_the_file_is_the_same_in_whatever_order_the_masks_come(tmp_path, competition):
    images = make_images(1, 9, competition)
    ids = list(images)
    shuffled = random.Random(0).sample(ids, len(ids))
    masks = ((image_id, images[image_id]) for image_id in shuffled)
    suffix = format_of(competition).suffix
    first = write(tmp_path / f"first{suffix}", images, competition)
    second = tmp_path / f"second{suffix}"
    write_submission(second, masks, ids, competition, {}, sizes_of(images))
    assert first.read_bytes() == second.read_bytes()
    assert check_submission(first, competition, sizes_of(images)) == []


def test_a_small_csv_is_written_to_the_byte(tmp_path):
    mask_HW = np.array([[0, 0, 1], [1, 4, 4]], np.uint8)
    path = write(tmp_path / "sub" / "Exp.csv", {"a": mask_HW}, make_competition())
    assert path.read_bytes() == b"ImageID,EncodedPixels\na_0,0 2\na_1,2 2\na_2,\na_3,\na_4,4 2\n"


def test_an_ignored_last_class_has_rows_only_where_it_is_named_and_they_are_empty(tmp_path):
    mask_HW = np.array([[0, 3, IGNORE, 4]], np.uint8)
    competition = make_competition(ignore_index=4)
    rows = ["a_0,0 1", "a_1,", "a_2,", "a_3,1 1"]
    path = write(tmp_path / "a.csv", {"a": mask_HW}, competition)
    assert path.read_text().splitlines()[1:] == rows
    path = write(tmp_path / "b.csv", {"a": mask_HW}, replace(competition, submitted=competition.classes))
    assert path.read_text().splitlines()[1:] == [*rows, "a_4,"]


def test_some_classes_are_written_by_name_in_an_order_of_their_own(tmp_path):
    competition = make_competition("Severstal", submitted=("Roof", "Road"), class_labels="names")
    path = write(tmp_path / "a.csv", {"a": np.array([[0, 3], [1, 3]], np.uint8)}, competition)
    assert path.read_text().splitlines()[1:] == ["a_Roof,3 2", "a_Road,2 1"]


def test_pandas_reads_what_was_written(tmp_path):
    competition = make_competition("UW-Madison")
    table = pd.read_csv(write(tmp_path / "a.csv", make_images(2, 3, competition), competition), dtype=str)
    assert list(table.columns) == ["id", "class", "predicted"]
    assert table["class"].tolist() == list("01234") * 3


@both_formats
def test_the_origin_names_the_content_and_keeps_what_was_given(tmp_path, competition):
    form = format_of(competition)
    path = write(tmp_path / f"a{form.suffix}", make_images(1, 2, competition), competition, split_by="slice")
    origin = json.loads((tmp_path / "a.json").read_text())
    assert origin["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (origin["images"], origin["split_by"], origin["format"]) == (2, "slice", form.name)
    assert origin["created_utc"].endswith("+00:00")


@both_formats
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], "1 of 3 images have no prediction, such as c"),
        (["a", "b", "b", "c"], "image b came twice"),
        (["a", "b", "c", "d"], "image d came twice or is not among the 3"),
    ],
)
def test_missing_double_and_unknown_images_are_refused_and_the_old_file_stays(tmp_path, names, message, competition):
    path = tmp_path / f"a{format_of(competition).suffix}"
    path.write_text("old")
    (tmp_path / "a.json").write_text("{}")
    masks = ((name, np.zeros((2, 3), np.uint8)) for name in names)
    with pytest.raises(UserError, match=message):
        write_submission(path, masks, ["a", "b", "c"], competition, {}, dict.fromkeys("abcd", (2, 3)))
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(["a.json", path.name])
    assert path.read_text() == "old"


@both_formats
def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path, competition):
    masks = [("a", np.zeros((2, 3), np.uint8))]
    with pytest.raises(UserError, match=r"the mask of a is \(2, 3\).*its image is \(3, 2\)"):
        write_submission(tmp_path / "a.csv", masks, ["a"], competition, {}, {"a": (3, 2)})


@both_formats
def test_a_file_that_does_not_read_back_as_its_masks_is_not_kept(tmp_path, monkeypatch, competition):
    """A writer that turns an image, or leaves one out, is found by decoding what it wrote."""
    images, form = make_images(1, 3, competition), format_of(competition)
    ids = list(images)

    def turn_one(image_id, mask_HW, size, competition):
        return form.encode(image_id, mask_HW[::-1] if image_id == ids[1] else mask_HW, size, competition)

    def leave_one_out(path, encoded, competition):
        form.write(path, [one for one in encoded if one[0] != ids[2]], competition)

    for functions, message in (
        ({"encode": turn_one}, f"{ids[1]} does not read back as the prediction that was written"),
        ({"write": leave_one_out}, f"1 images do not read back, such as {ids[2]}"),
    ):
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match=message):
            patch.setattr(formats, "FORMATS", [replace(form, **functions)])
            write(tmp_path / f"a{form.suffix}", images, competition)
    assert list(tmp_path.iterdir()) == []


@both_formats
def test_a_file_is_our_own_while_its_origin_names_its_content(tmp_path, competition):
    path = write(tmp_path / f"a{format_of(competition).suffix}", {"a": np.zeros((2, 3), np.uint8)}, competition)
    assert is_own(path)
    path.write_bytes(path.read_bytes() + b"\n")
    assert not is_own(path)
    path.with_suffix(".json").write_text("[")
    assert not is_own(path)
