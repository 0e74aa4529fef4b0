"""The local score of a csv."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.config.competition import IGNORE, Submission
from pipeline.config.mask_code import MaskCode
from pipeline.errors import UserError
from pipeline.scores import KINDS, chosen_scores
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.labels import read_mask
from pipeline.segmentation.scores import summarise
from pipeline.segmentation.submission.score import score_file
from pipeline.segmentation.volume_scores import MaskScores
from tests.segmentation.submission.scenes import (
    PNG_KINDS,
    make_competition,
    make_images,
    make_png_competition,
    write,
    write_foreign,
)

COMPETITION = make_competition(ignore_index=4)  # the last of 5 classes


def write_masks(folder, images):
    folder.mkdir(exist_ok=True)
    for image_id, mask_HW in images.items():
        cv2.imwrite(str(folder / f"{image_id}.png"), mask_HW)
    return folder


def score_slowly(mask_HW, truth_HW, class_index):
    scored = truth_HW != 4
    predicted, true = (mask_HW == class_index) & scored, (truth_HW == class_index) & scored
    both, either = (predicted & true).sum(), (predicted | true).sum()
    return (1.0, 1.0) if either == 0 else (2 * both / (predicted.sum() + true.sum()), both / either)


def miou_slowly(predicted, truth, class_index):
    pairs = [(predicted[id][mask != 4] == class_index, mask[mask != 4] == class_index) for id, mask in truth.items()]
    return sum((one & other).sum() for one, other in pairs) / sum((one | other).sum() for one, other in pairs)


def test_scores_are_those_of_the_definition(tmp_path):
    truth = make_images(1, 5, COMPETITION)
    rng = np.random.default_rng(0)
    predicted = {
        image_id: np.where(rng.random(mask_HW.shape) < 0.3, rng.integers(4, size=mask_HW.shape), mask_HW % 4).astype(
            np.uint8
        )
        for image_id, mask_HW in truth.items()
    }
    path, names = write(tmp_path / "a.csv", predicted, COMPETITION), COMPETITION.classes[:4]
    wanted = {id: [score_slowly(predicted[id], truth[id], index) for index in range(4)] for id in truth}
    for image_id, mask_HW in truth.items():
        alone = score_file(path, write_masks(tmp_path / image_id, {image_id: mask_HW}), COMPETITION)["scores"]
        assert [(alone["dice"]["classes"][name], alone["iou"]["classes"][name]) for name in names] == pytest.approx(
            np.array(wanted[image_id])
        )
        assert alone["dice"]["mean"] == pytest.approx(np.mean([dice for dice, _ in wanted[image_id]]))
    masks = write_masks(tmp_path / "masks", {**truth, "not in the csv": np.zeros((3, 3), np.uint8)})
    summary = score_file(path, masks, COMPETITION)
    assert (summary["images"], summary["score"]) == (5, "dice")
    assert summary["scores"]["iou"]["mean"] == pytest.approx(
        np.mean([iou for pairs in wanted.values() for _, iou in pairs])
    )
    assert list(summary["scores"]["dice"]["classes"]) == summary["scored"] == list(names)
    over_all = [miou_slowly(predicted, truth, index) for index in range(4)]
    assert list(summary["scores"]["miou"]["classes"].values()) == pytest.approx(over_all)
    assert summary["scores"]["miou"]["mean"] == pytest.approx(np.mean(over_all))
    assert score_file(path, masks, replace(COMPETITION, score="miou"))["score"] == "miou"


def test_a_class_without_a_pixel_is_in_no_miou(tmp_path):
    images = {"a": np.array([[0, 1]], np.uint8)}
    found = score_file(write(tmp_path / "a.csv", images, COMPETITION), write_masks(tmp_path / "m", images), COMPETITION)
    miou = found["scores"]["miou"]
    assert miou == {"label": "mIoU", "mean": 1, "classes": {"Background": 1, "Road": 1, "Tree": None, "Roof": None}}


def test_the_truth_scores_one(shared_data, tmp_path):
    competition = make_competition(classes=tuple("abcdefghijkl"), ignore_index=11)
    folder = shared_data("camvid") / "masks" / "masks"
    truth = {
        path.stem: read_mask(path, MaskCode({index: index for index in range(11)} | {11: IGNORE}))
        for path in sorted(folder.glob("*.png"))[::60]
    }
    found = score_file(write(tmp_path / "a.csv", truth, competition), folder, competition)
    assert [set(family["classes"].values()) for family in found["scores"].values()] == [{1.0}] * 3
    assert found["images"] == 8


@pytest.mark.parametrize("score", list(KINDS))
def test_every_score_of_a_file_is_that_of_the_masks_in_it(tmp_path, score):
    """With a row per image the pixels without the class are background: right ones, where the truth has it there."""
    competition = make_competition("TGS Salt", score=score, sequence_pattern="^([0-9]+)_")
    truth = make_images(1, 4, competition)
    predicted = {image_id: np.roll(mask_HW, 3, 1) for image_id, mask_HW in truth.items()}
    found = score_file(
        write(tmp_path / "a.csv", predicted, competition), write_masks(tmp_path / "m", truth), competition
    )
    confusion_ICC = np.stack([SOFTMAX.count_masks(predicted[name], truth[name], 2) for name in truth])
    chosen = chosen_scores(competition)
    of_masks = MaskScores(chosen, 2, (1,))
    for name in truth:
        of_masks.add(name, name, predicted[name], truth[name])
    wanted = summarise(confusion_ICC, competition.classes, (1,), score, chosen, of_masks.by_name())["scores"][score]
    assert found["scored"] == [competition.classes[1]] and list(found["scores"]) == list(chosen.names)
    assert found["scores"][score]["mean"] == pytest.approx(wanted["mean"]) and 0 < wanted["mean"] < 1
    assert found["scores"][score]["classes"] == {competition.classes[1]: wanted["classes"][competition.classes[1]]}


def test_a_score_of_volumes_needs_the_sequence_of_each_image_and_slices_of_one_size(tmp_path):
    competition = make_competition(score="uw_madison")
    images = make_images(1, 4, competition)
    path, masks = write(tmp_path / "a.csv", images, competition), write_masks(tmp_path / "m", images)
    with pytest.raises(UserError, match=r"the sequence of 000000_001 is not known.*SEQUENCE_PATTERN"):
        score_file(path, masks, competition)
    known = dict.fromkeys(images, "all")
    with pytest.raises(UserError, match=r"sequence all has images of 96x60, 80x64, 54x72 pixels"):
        score_file(path, masks, competition, sequences=known)
    known = {"000000_001": "a", "000003_001": "a", "000001_001": "b", "000002_001": "c"}
    assert score_file(path, masks, competition, sequences=known)["scores"]["uw_madison"]["mean"] == 1.0


def test_files_without_rows_or_without_any_mask_are_refused(tmp_path):
    images = make_images(1, 2, COMPETITION)
    masks = write_masks(tmp_path / "masks", make_images(2, 2, COMPETITION))
    with pytest.raises(UserError, match=r"none of the 2 images in .*a.csv has a mask here; expected 000000_001.png"):
        score_file(write(tmp_path / "a.csv", images, COMPETITION), masks, COMPETITION)
    with pytest.raises(UserError, match="no rows below the header"):
        score_file(write(tmp_path / "b.csv", {}, COMPETITION), masks, COMPETITION)
    (tmp_path / "c.csv").write_text("ImageID,EncodedPixels\n000000_001_9,\n")
    with pytest.raises(UserError, match="row 000000_001_9 names no image and class; expected rows such as <id>_0"):
        score_file(tmp_path / "c.csv", masks, COMPETITION)


def test_images_without_masks_and_masks_without_images_are_left_out_and_logged(tmp_path):
    images = make_images(1, 3, COMPETITION)
    ids = list(images)
    masks = write_masks(tmp_path / "masks", {id: images[id] for id in ids[1:]} | {"other": images[ids[0]]})
    logged = []
    found = score_file(write(tmp_path / "a.csv", images, COMPETITION), masks, COMPETITION, log=logged.append)
    assert found["images"] == 2
    assert "only 2 of the 3 images in" in logged[0] and f"1 have no mask in {masks}, such as {ids[0]}" in logged[0]
    assert "1 of the 3 masks in" in logged[1] and logged[1].endswith("left out, such as other.png")
    assert len(logged) == 2


BINARY = make_competition("TGS Salt")


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (lambda mask: mask * 255, r"mask of 0 and 255[\s\S]*value 255 in[\s\S]*MASK_VALUES: \[0, 255\]"),
        (lambda mask: mask + 1, r"mask value out of range[\s\S]*value 2 in[\s\S]*expected: values 0 to 1"),
        (lambda mask: cv2.merge([mask] * 3), r"RGB mask[\s\S]*8-bit RGB[\s\S]*MASK_VALUES: colors"),
        (lambda mask: mask[:-1], r"size mismatch[\s\S]*expected: a mask as large as its image"),
    ],
    ids=["0 and 255", "an unknown class", "RGB", "another size"],
)
def test_a_mask_that_is_not_stored_as_the_competitions_own_is_refused_with_a_remedy(tmp_path, store, message):
    images = make_images(1, 2, BINARY)
    masks = write_masks(tmp_path / "masks", {id: store(mask) for id, mask in images.items()})
    path = write(tmp_path / "a.csv", images, BINARY)
    sizes = {id: mask.shape for id, mask in images.items()}
    with pytest.raises(UserError, match=rf"cannot be used to score .*a.csv[\s\S]*{message}") as caught:
        score_file(path, masks, BINARY, lambda ids: sizes)
    assert f"{next(iter(images))}.png" in str(caught.value)


def test_masks_are_found_and_read_as_the_competitions_own(tmp_path):
    competition = replace(BINARY, masks="train/{id}/mask.png", mask_values=(0, 255))
    images = make_images(1, 2, competition)
    for id, mask in images.items():
        (tmp_path / "truth" / id).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "truth" / id / "mask.png"), mask * 255)
    found = score_file(write(tmp_path / "a.csv", images, competition), tmp_path / "truth", competition)
    assert (found["images"], found["scores"]["dice"]["mean"]) == (2, 1)


def test_masks_without_the_suffix_of_their_ids_are_found(tmp_path):
    competition = replace(BINARY, masks="masks/{stem}_mask.png")
    images = {f"{id}.jpg": mask for id, mask in make_images(1, 2, competition).items()}
    masks = write_masks(tmp_path / "m", {f"{id.removesuffix('.jpg')}_mask": mask for id, mask in images.items()})
    logged = []
    found = score_file(write(tmp_path / "a.csv", images, competition), masks, competition, log=logged.append)
    assert (found["images"], found["scores"]["dice"]["mean"], logged) == (2, 1, [])


def test_with_one_row_per_image_the_background_is_not_scored(tmp_path):
    truth = make_images(1, 4, BINARY)
    predicted = {id: np.roll(mask, 3, 1) for id, mask in truth.items()}
    found = score_file(write(tmp_path / "a.csv", predicted, BINARY), write_masks(tmp_path / "m", truth), BINARY)
    wanted = [
        2 * ((a == 1) & (b == 1)).sum() / ((a == 1).sum() + (b == 1).sum())
        for a, b in zip(truth.values(), predicted.values(), strict=True)
    ]
    assert found["scores"]["dice"] == {
        "label": "Dice",
        "mean": pytest.approx(np.mean(wanted)),
        "classes": {"Road": pytest.approx(np.mean(wanted))},
    }


@pytest.mark.parametrize("kind", PNG_KINDS)
def test_a_zip_scores_as_the_csv_of_the_same_masks(tmp_path, kind):
    by_masks = make_png_competition(kind)
    by_rows = replace(by_masks, submission=Submission())
    truth = make_images(1, 4, by_masks)
    predicted = {id: np.roll(mask, 3, 1) % by_masks.num_classes for id, mask in truth.items()}
    stored = {id: np.asarray(by_masks.mask_values or range(5), np.uint8)[mask] for id, mask in truth.items()}
    folder = write_masks(tmp_path / "m", stored)
    zipped, rows = write(tmp_path / "a.zip", predicted, by_masks), write(tmp_path / "b.csv", predicted, by_rows)
    found = score_file(zipped, folder, by_masks)
    assert found == score_file(rows, folder, by_masks)
    assert 0 < found["scores"]["dice"]["mean"] < 1


def test_a_file_of_another_program_that_seems_shifted_is_scored_with_a_hint(tmp_path):
    from_one = make_competition(replace(COMPETITION.convention, base=1), ignore_index=4)
    images = {id: np.where(mask == 4, 0, mask) for id, mask in make_images(1, 12, COMPETITION).items()}
    folder = write_masks(tmp_path / "m", images)
    for mask_HW in images.values():
        mask_HW[-1, -1] = IGNORE  # or the last run leaves its image when it is read one pixel on
    path = write_foreign(tmp_path / "a.csv", images, from_one)
    logged = []
    assert score_file(path, folder, COMPETITION, log=logged.append)["scores"]["dice"]["mean"] < 1
    assert [("may count pixels from 1 instead of 0" in line) for line in logged] == [True]
