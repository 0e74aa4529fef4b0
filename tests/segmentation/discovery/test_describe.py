"""What `./run.sh new` makes of folders of the usual kinds: the files that it names are there, its masks those drawn."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.competition import IGNORE, Competition, MaskCsv, Objects
from pipeline.config.load import load_competition
from pipeline.data.competition import list_files
from pipeline.data.discovery.draft import Draft, parse_competition
from pipeline.data.discovery.experiment import split_by
from pipeline.data.discovery.folder import image_sizes
from pipeline.data.image_files import label_files
from pipeline.errors import UserError
from pipeline.segmentation.discovery.describe import describe_folder
from pipeline.segmentation.discovery.experiment import experiment_text
from pipeline.segmentation.mask_facts import find_facts
from pipeline.segmentation.mask_source import MaskSource, Row
from tests.miniatures import DRAWN, pascal_voc_2012
from tests.segmentation.discovery import folders
from tests.segmentation.discovery.folders import HEIGHT, KINDS, WIDTH, mask, name_of, photo, runs, write, write_csv


def draft_of(kind: Callable[[Path], None], folder: Path) -> Draft:
    folder = folder / kind.__name__
    folder.mkdir()
    kind(folder)
    return describe_folder(folder, kind.__name__)[0]


def described(kind: Callable[[Path], None], folder: Path) -> Competition:
    return draft_of(kind, folder).competition()


def masks_of(competition: Competition, folder: Path) -> dict[str, np.ndarray]:
    """Returns the masks of the images for training by id, as the pipeline reads them."""
    source = MaskSource(competition, folder, find_facts(competition, folder))
    listed = [one for one, _ in list_files(competition, folder, "train")[0]]
    return {one.id: source.read(Row(one.id, source.cell(one.id), HEIGHT, WIDTH)) for one in listed}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_image_and_mask_that_a_description_names_is_a_file(kind, tmp_path: Path):
    competition, folder = described(kind, tmp_path), tmp_path / kind.__name__
    train, problems = list_files(competition, folder, "train")
    least = 3 if kind in (folders.layers, folders.volumes) else 6
    assert problems == [] and len(train) >= least
    assert [file for _, cell in train for file in label_files(cell) if not (folder / file).is_file()] == []
    if competition.test_images:
        test, problems = list_files(competition, folder, "test")
        assert problems == [] and test
        assert [file for _, cell in test for file in label_files(cell) if not (folder / file).is_file()] == []
    if not isinstance(competition.masks, MaskCsv):
        source = MaskSource(competition, folder)
        cells = [label_files(source.cell(one.id)) for one, _ in train]
        if competition.without_mask == "skip":
            cells = [files for files in cells if files]
        assert len(cells) >= least and all(cells)
        assert all((folder / file).is_file() for files in cells for file in files)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (
            folders.cars,
            {
                "images": "train/{id}",
                "test_images": "test/{id}",
                "masks": "train_masks/{stem}_mask.gif",
                "train_csv": "train_masks.csv",
                "test_csv": "sample_submission.csv",
                "id_column": "img",
                "sequence_pattern": "^([^_]+)_",
                "mask_values": None,
                "num_classes": 2,
            },
        ),
        (
            folders.defects,
            {
                "images": "train_images/{id}",
                "masks": MaskCsv("train.csv", class_column="ClassId"),
                "train_csv": None,
                "submitted_indices": (1, 2, 3),
                "sample_submission": "sample_submission.csv",
            },
        ),
        (
            folders.clouds,
            {
                "masks": MaskCsv("train.csv", rows="id_class"),
                "id_column": "Image_Label",
                "classes": ("Fish", "Flower", "Sugar"),
                "labels": "multilabel",
                "submitted": None,
                "label_texts": ("Fish", "Flower", "Sugar"),
                "train_csv": "train.csv",
            },
        ),
        (
            folders.streets,
            {
                "images": "leftImg8bit/train/*/{id}_leftImg8bit.png",
                "masks": "gtFine/*/*/{id}_gtFine_labelIds.png",
                "valid_images": "leftImg8bit/val/*/{id}_leftImg8bit.png",
                "train_csv": None,
                "test_csv": None,
                "mask_values": {"Class 7": (7,), "Class 23": (23,), "Class 26": (26,), "Class 33": (33,)},
            },
        ),
        (
            folders.land,
            {
                "images": "Train/*/images_png/{id}.png",
                "valid_images": "Val/*/images_png/{id}.png",
                "masks": "*/*/masks_png/{id}.png",
                "mask_values": None,
                "num_classes": 5,
            },
        ),
        (folders.class_files, {"masks": "masks/{id}_{class}.png", "classes": ("Background", "road", "tree")}),
        (folders.class_folders, {"masks": "masks/{class}/{id}.png", "classes": ("Background", "road", "tree")}),
        (folders.voc, {"masks": "SegmentationClass/{id}.png", "num_classes": 3, "ignore_index": 255}),
        (
            folders.colored,
            {
                "mask_values": "colors",
                "colors": ((0, 0, 0), (60, 16, 152), (226, 169, 41)),
                "images": "photos/{id}.png",
            },
        ),
        (folders.beside, {"images": "training/{id}.png", "masks": "training/{id}_mask.png", "mask_values": (0, 255)}),
        (
            folders.one_folder,
            {
                "train_csv": "train.csv",
                "test_csv": "test.csv",
                "test_images": None,
                "without_mask": "refuse",
                "masks": "masks/masks/{id}.png",
                "submitted": None,
                "id_column": "ImageID",
            },
        ),
        (folders.nuclei, {"images": "stage1_train/*/images/{id}.png", "masks": "stage1_train/{id}/masks/*.png"}),
        (folders.glued, {"images": "train/{id}.png", "masks": "*annot/{id}.png", "valid_images": "val/{id}.png"}),
        (
            folders.organs,
            {
                "masks": MaskCsv("train.csv", value_column="rle"),
                "num_classes": 2,
                "submitted": None,
                "test_csv": "test.csv",
            },
        ),
        (folders.prefixes, {"images": "data/image/image_{id}.png", "masks": "data/mask/mask_{id}.png"}),
        (
            folders.slices,
            {
                "images": "train/{case}/{case}_{day}/scans/slice_{number}_*.png",
                "train_csv": "train.csv",
                "id_format": "{case}_{day}_slice_{number}",
                "label_texts": ("bowel", "stomach"),
                "labels": "multilabel",
                "masks": MaskCsv("train.csv", class_column="class"),
                "test_csv": None,
            },
        ),
        (
            folders.layers,
            {
                "images": "train/{id}/surface_volume/{00..02}.tif",
                "masks": "train/{id}/inklabels.png",
                "valid_region": "*/{id}/mask.png",
                "test_csv": "sample_submission.csv",
            },
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_description_has_what_the_files_show(kind, wanted, tmp_path: Path):
    competition = described(kind, tmp_path)
    assert {name: getattr(competition, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("kind", "rows", "value_column"),
    [
        (folders.cars, "id", "rle"),
        (folders.defects, "id+class", "EncodedPixels"),
        (folders.clouds, "id_class", "EncodedPixels"),
        (folders.slices, "id+class", "predicted"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_submissions_are_written_as_the_sample_and_the_training_rows(kind, rows, value_column, tmp_path: Path):
    convention = described(kind, tmp_path).convention
    assert (convention.rows, convention.value_column) == (rows, value_column)
    assert (convention.order, convention.base, convention.relative) == ("column", 1, False)


def test_the_masks_that_a_description_reads_are_those_drawn(tmp_path: Path):
    read = masks_of(described(folders.cars, tmp_path), tmp_path / "cars")
    assert len(read) == 12
    for seed, found in enumerate(read.values()):
        assert np.array_equal(found, mask(seed))
    read = masks_of(described(folders.defects, tmp_path), tmp_path / "defects")
    for seed in range(10):
        drawn = mask(seed) * (1 + seed % 3) if seed < 7 else np.zeros((HEIGHT, WIDTH))
        assert np.array_equal(read[f"{name_of(seed)}.jpg"], drawn)
    read = masks_of(described(folders.streets, tmp_path), tmp_path / "streets")
    assert np.array_equal(read["bochum_000002_000019"], mask(12, (0, 1, 2, 3)))
    read = masks_of(described(folders.voc, tmp_path), tmp_path / "voc")
    assert np.array_equal(read[name_of(4)], mask(4, (0, 1, 2, IGNORE)))
    read = masks_of(described(folders.class_files, tmp_path), tmp_path / "class_files")
    assert np.array_equal(read[name_of(0)], mask(0)) and np.array_equal(read[name_of(1)], mask(1) * 2)
    read = masks_of(described(folders.nuclei, tmp_path), tmp_path / "nuclei")
    assert np.array_equal(read[name_of(3)], mask(3) | mask(4))


def test_the_text_says_how_sure_each_key_is_and_means_the_same_competition(tmp_path: Path):
    draft = draft_of(folders.cars, tmp_path)
    lines = draft.text.splitlines()
    assert lines[lines.index("MASKS: train_masks/{stem}_mask.gif") - 1] == "# SURE: 12 of 12 images have one"
    assert lines[lines.index("CLASSES: [Background, Object]") - 1].startswith("# GUESS: masks have the values 0, 1")
    assert any(line.startswith("# COULD NOT TELL: no file says how submissions are scored") for line in lines)
    assert parse_competition("cars", draft.text) == draft.competition()
    assert max(map(len, lines)) <= 120


def test_values_are_read_as_classes_with_255_ignored_unless_they_are_even_steps(tmp_path: Path):
    for name, values in {"labels": (0, 1, 91, 255), "steps": (0, 85, 170, 255), "three": (0, 128, 255)}.items():
        for seed in range(4):
            write(tmp_path / f"{name}/images/{name_of(seed)}.jpg", photo(seed))
            write(tmp_path / f"{name}/masks/{name_of(seed)}.png", mask(seed, values))
    found = {name: describe_folder(tmp_path / name, name)[0].competition() for name in ("labels", "steps", "three")}
    assert found["labels"].mask_values == {"Class 0": (0,), "Class 1": (1,), "Class 91": (91,), "ignore": (255,)}
    assert len(found["steps"].mask_values) == 4 and "ignore" not in found["steps"].mask_values
    assert list(found["three"].mask_values.values()) == [(0,), (128,), (255,)]


def test_a_second_list_has_the_images_that_validate(tmp_path: Path):
    folders.one_folder(tmp_path)
    names = [f"{flight:03d}_{frame:03d}" for flight in range(3) for frame in range(4)]
    write_csv(tmp_path / "train.csv", ["ImageID"], [(name,) for name in names[:8]])
    write_csv(tmp_path / "valid.csv", ["ImageID"], [(name,) for name in names[8:]])
    draft, _ = describe_folder(tmp_path, "lists")
    competition = draft.competition()
    assert (competition.train_csv, competition.valid_csv, competition.test_csv) == (
        "train.csv",
        "valid.csv",
        "test.csv",
    )
    assert split_by(draft) == "given"


def test_the_colours_of_a_table_are_named(tmp_path: Path):
    folders.colored(tmp_path)
    rows = [("Water", 226, 169, 41), ("Land", 0, 0, 0), ("Roof", 60, 16, 152), ("Snow", 9, 9, 9)]
    write_csv(tmp_path / "class_dict.csv", ["name", "r", "g", "b"], rows)
    competition = describe_folder(tmp_path, "colored")[0].competition()
    assert competition.classes == ("Water", "Land", "Roof", "Snow")
    assert competition.colors[2:] == ((60, 16, 152), (9, 9, 9))


def test_a_column_of_subsets_and_one_of_scenes_are_found(tmp_path: Path):
    folders.one_folder(tmp_path)
    names = [f"{flight:03d}_{frame:03d}" for flight in range(3) for frame in range(4)]
    rows = [(name, f"road {name[2]}", "val" if name.startswith("002") else "train") for name in names]
    write_csv(tmp_path / "train.csv", ["ImageID", "Scene", "split"], rows)
    competition = describe_folder(tmp_path, "scenes")[0].competition()
    assert (competition.sequence_column, competition.split_column) == ("Scene", "split")
    assert competition.sequence_pattern is None


def test_starts_that_do_not_grow_are_relative_also_where_no_image_can_be_read(tmp_path: Path):
    for seed in range(6):
        (tmp_path / "dicom-images-train").mkdir(exist_ok=True)
        (tmp_path / f"dicom-images-train/{name_of(seed)}.dcm").write_bytes(b"\0" * 200)
    rows = [(name_of(seed), "100 5 20 5 20 5" if seed % 2 else " -1") for seed in range(6)]
    write_csv(tmp_path / "train-rle.csv", ["ImageId", " EncodedPixels"], rows)
    write_csv(tmp_path / "sample_submission.csv", ["ImageId", "EncodedPixels"], [("x1", "-1"), ("x2", "-1")])
    competition = describe_folder(tmp_path, "lungs")[0].competition()
    assert competition.masks == MaskCsv("train-rle.csv") and competition.images == "dicom-images-train/{id}.dcm"
    assert (competition.convention.relative, competition.convention.base) == (True, 0)
    assert competition.convention.empty == "-1"


def test_names_that_training_and_validation_share_are_not_mixed(tmp_path: Path):
    for subset, first in {"train": 0, "val": 50}.items():
        for number in range(6):
            write(tmp_path / f"{subset}/images/{number}.png", photo(first + number))
            write(tmp_path / f"{subset}/masks/{number}.png", mask(first + number))
    draft = describe_folder(tmp_path, "twice")[0]
    competition = draft.competition()
    assert competition.valid_images is None and competition.masks == "train/masks/{id}.png"
    assert any(note.key == "VALID_IMAGES" and note.certainty == "COULD NOT TELL" for note in draft.notes)
    read = masks_of(competition, tmp_path)
    assert all(np.array_equal(read[str(number)], mask(number)) for number in range(6))


def test_names_that_folders_share_become_ids_of_parts(tmp_path: Path):
    for patient in (3, 12, 40):
        for number in range(3):
            write(tmp_path / f"scans/patient{patient}/{number}.png", photo(patient + number))
            write(tmp_path / f"labels/patient{patient}/{number}.png", mask(patient + number))
    competition = describe_folder(tmp_path, "patients")[0].competition()
    read = masks_of(competition, tmp_path)
    assert len(read) == 9
    assert np.array_equal(read["patient12_2"], mask(14)) and np.array_equal(read["patient3_0"], mask(3))


def test_masks_that_are_lossy_are_said_to_be(tmp_path: Path):
    for seed in range(4):
        write(tmp_path / f"images/{name_of(seed)}.jpg", photo(seed))
        write(tmp_path / f"masks/{name_of(seed)}.jpg", mask(seed) * 255)
    draft = describe_folder(tmp_path, "lossy")[0]
    assert draft.competition().masks == "masks/{id}.jpg"
    assert any("JPEGs, whose values are not exact" in note.text for note in draft.notes)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "has no image: it is empty"),
        (("readme.txt",), "1 other files, such as readme.txt"),
        (("train.zip",), "has no images, but archives such as train.zip; unpack them first"),
        (("photos/1.jpg", "photos/2.jpg"), r"no mask files \(named like the images"),
    ],
)
def test_a_folder_that_shows_nothing_is_refused_with_what_is_there(files, message, tmp_path: Path):
    for number, file in enumerate(files):
        if file.endswith(".jpg"):
            write(tmp_path / file, photo(number))
        else:
            (tmp_path / file).write_text("x")
    with pytest.raises(UserError, match=message):
        describe_folder(tmp_path, "odd")


def test_images_without_a_row_are_empty_and_a_list_that_lacks_images_is_no_list(tmp_path: Path):
    draft = draft_of(folders.defects, tmp_path)
    assert any(note.key == "TRAIN_CSV" and "train.csv lacks 3 images" in note.text for note in draft.notes)
    assert len(masks_of(draft.competition(), tmp_path / "defects")) == 10


@pytest.mark.parametrize("name", DRAWN)
def test_public_benchmarks_are_described_from_their_folders_alone(name, tmp_path: Path):
    folder = DRAWN[name](tmp_path)
    found, ready = describe_folder(folder, name)[0].competition(), load_competition(name)
    for subset in ("train", "valid"):
        assert found.templates(subset) == ready.templates(subset)
    assert (found.train_csv, found.valid_csv) == (ready.train_csv, ready.valid_csv)
    assert found.without_mask == "refuse"
    listed, problems = list_files(found, folder, "train")
    assert problems == [] and [id for (id, *_), _ in listed] == [
        id for (id, *_), _ in list_files(ready, folder, "train")[0]
    ]
    for (image_id, *_), _ in listed:
        assert MaskSource(found, folder).cell(image_id) == MaskSource(ready, folder).cell(image_id)


def test_masks_beside_the_images_are_left_out_by_a_pattern_of_ids(tmp_path: Path):
    draft = draft_of(folders.beside, tmp_path)
    assert draft.competition().id_pattern == "^(?!.*(_mask)$)"
    assert any(note.key == "ID_PATTERN" and "leaves out training/{id}_mask.png" in note.text for note in draft.notes)
    competition = described(folders.listed_beside, tmp_path)
    assert (competition.train_csv, competition.valid_csv) == ("data/train.txt", "data/val.txt")
    assert (competition.images, competition.masks) == ("data/{id}.png", "data/{id}_mask.png")
    assert competition.id_pattern is None and competition.without_mask == "refuse"


def test_lists_of_the_images_that_have_masks_are_taken_and_others_are_unlabelled(tmp_path: Path):
    folder = pascal_voc_2012(tmp_path)
    shutil.rmtree(folder / "ImageSets/Segmentation")
    for subset, numbers in {"train": range(2, 8), "val": range(8, 13)}.items():  # of another task
        names = sorted(path.stem for path in folder.glob("JPEGImages/*.jpg"))
        path = folder / f"ImageSets/Main/{subset}.txt"
        path.write_text("".join(f"{names[number]}\n" for number in numbers))
    competition = describe_folder(folder, "voc")[0].competition()
    assert (competition.train_csv, competition.valid_csv, competition.without_mask) == (None, None, "empty")
    for path in sorted(folder.glob("SegmentationClass/*.png"))[:4]:
        path.unlink()
    assert describe_folder(folder, "voc")[0].competition().without_mask == "skip"  # 5 of 13 images have a mask


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (
            [f"{city}{number}" for city in ("austin", "tyrol-w", "vienna") for number in range(1, 4)],
            "^([A-Za-z_-]+)[0-9]+$",
        ),
        ([f"img{number}" for number in range(9)], None),
        ([f"{flight}-{frame}" for flight in range(3) for frame in range(3)], "^([^-]+)-"),
    ],
)
def test_beginnings_that_several_names_share_are_sequences(names, pattern, tmp_path: Path):
    for seed, name in enumerate(names):
        write(tmp_path / f"images/{name}.png", photo(seed))
        write(tmp_path / f"masks/{name}.png", mask(seed))
    assert describe_folder(tmp_path, "names")[0].competition().sequence_pattern == pattern


def test_a_scan_of_slices_is_a_sequence_and_run_lengths_beside_each_image_show_their_order(tmp_path: Path):
    assert described(folders.slices, tmp_path).sequence_pattern == "^([^_]+_[^_]+)_"
    draft = draft_of(folders.layers, tmp_path)
    assert (draft.competition().convention.order, draft.competition().convention.base) == ("row", 1)
    assert any(
        note.key == "CONVENTION" and "inklabels_rle.csv decodes to the masks" in note.text for note in draft.notes
    )


def test_a_note_on_a_key_that_is_not_set_names_it(tmp_path: Path):
    lines = draft_of(folders.voc, tmp_path).text.splitlines()
    assert (
        "# COULD NOT TELL, SEQUENCE_PATTERN: names do not show which images are of one scene, patient or video" in lines
    )
    assert lines[lines.index("SCORE: dice") - 1].startswith("# COULD NOT TELL: no file says how submissions are scored")


def test_classes_with_an_underscore_are_told_from_the_ids(tmp_path: Path):
    folders.clouds(tmp_path)
    for file in ("train.csv", "sample_submission.csv"):
        text = (tmp_path / file).read_text().replace("_Sugar", "_Fine_sugar").replace("_Fish", "_Dead_fish")
        (tmp_path / file).write_text(text)
    competition = describe_folder(tmp_path, "clouds")[0].competition()
    assert competition.masks == MaskCsv("train.csv", rows="id_class", id_column=competition.masks.id_column)
    assert competition.classes == ("Dead_fish", "Flower", "Fine_sugar")
    found = masks_of(competition, tmp_path)
    assert len(found) == 8 and all(own.shape[2] == 3 and own[..., 2].any() for own in found.values())


def damage(folder: Path, seed: int) -> None:
    """Does to a folder what unpacking, editing and broken disks do: removes, cuts, renames, copies files."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 5)):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        path = chance.choice(files)
        kind = chance.choice(("remove", "cut", "empty", "rename", "up", "down", "other suffix", "few rows", "odd list"))
        if kind == "remove" and len(files) > 1:
            path.unlink()
        elif kind in ("cut", "empty"):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if kind == "cut" else 0])
        elif kind == "rename":
            path.rename(path.with_name(chance.choice(("x y", "a_b_c", "ä", "1")) + path.suffix))
        elif kind == "up" and path.parent != folder:
            shutil.copy(path, folder / path.name)
        elif kind == "down":
            (path.parent / "deep").mkdir(exist_ok=True)
            shutil.copy(path, path.parent / "deep" / path.name)
        elif kind == "other suffix":
            path.rename(path.with_suffix(chance.choice((".jpg", ".png", ".tif", ".npy", ".dcm", ".gif"))))
        elif kind == "few rows":
            for table in folder.glob("*.csv"):
                table.write_text("\n".join(table.read_text().splitlines()[: chance.randint(0, 3)]))
        elif kind == "odd list":
            text = chance.choice(
                ("", "a", "id;x\n1;2\n", "id,id\n1,2\n", "\0\1", "id,fold\n1,0\n2,1\n", 'id,class\n"1,1\n')
            )
            (folder / "extra.csv").write_text(text)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of a TIFF that is cut off, Pillow warns
def test_a_damaged_folder_is_described_or_refused_with_what_is_there(kind, seed, tmp_path: Path):
    kind(tmp_path)
    damage(tmp_path, KINDS.index(kind) * 100 + seed)
    try:
        draft, found = describe_folder(tmp_path, "damaged")
    except UserError as error:
        assert "no mask files (named like the images" in str(error)
    else:
        assert parse_competition("damaged", draft.text) == draft.competition()
        assert experiment_text(draft, image_sizes(tmp_path, found.ids.images, 9)).startswith("# What does")


def test_one_file_that_cannot_be_read_does_not_change_what_the_others_are(tmp_path: Path):
    folders.land(tmp_path)
    whole = describe_folder(tmp_path, "land")[0]
    (tmp_path / "Train/Urban/masks_png/0.png").write_bytes(b"")
    (tmp_path / "Train/Urban/images_png/0.png").write_bytes(b"")
    assert describe_folder(tmp_path, "land")[0].competition() == whole.competition()


def test_a_sample_of_hidden_images_shows_its_rows(tmp_path: Path):
    folders.clouds(tmp_path)
    shutil.rmtree(tmp_path / "test_images")
    competition = describe_folder(tmp_path, "hidden")[0].competition()
    assert competition.convention.rows == "id_class" and competition.classes == ("Fish", "Flower", "Sugar")
    assert (competition.test_csv, competition.images) == (None, "train_images/{id}")


def test_depths_of_all_images_are_no_list_of_training_images(tmp_path: Path):
    for seed in range(6):
        write(tmp_path / f"train/images/{name_of(seed)}.png", photo(seed))
        write(tmp_path / f"train/masks/{name_of(seed)}.png", mask(seed) * 255)
        write(tmp_path / f"test/images/{name_of(seed + 9)}.png", photo(seed))
    ids = [name_of(seed) for seed in range(6)]
    write_csv(
        tmp_path / "depths.csv", ["id", "z"], [(name_of(seed + shift), 5) for seed in range(6) for shift in (0, 9)]
    )
    write_csv(tmp_path / "train.csv", ["id", "rle_mask"], [(name, runs(mask(seed))) for seed, name in enumerate(ids)])
    sample = [(name_of(seed + 9), "1 1") for seed in range(6)]
    write_csv(tmp_path / "sample_submission.csv", ["id", "rle_mask"], sample)
    competition = describe_folder(tmp_path, "salt")[0].competition()
    assert (competition.train_csv, competition.test_csv) == ("train.csv", "sample_submission.csv")
    assert competition.masks == "train/masks/{id}.png"


def ships(folder: Path) -> None:
    """Airbus's kind: a row per object in the list, a row per image in the sample."""
    rows = []
    for seed in range(8):
        write(folder / f"train/{name_of(seed)}.png", photo(seed))
        left = mask(seed)
        left[:, WIDTH // 2 :] = 0
        texts = [""] if seed == 3 else [runs(left), runs(mask(seed) - left)]
        rows += [(f"{name_of(seed)}.png", text) for text in texts]
    write(folder / f"test/{name_of(50)}.png", photo(50))
    write_csv(folder / "train_ships.csv", ["ImageId", "EncodedPixels"], rows)
    write_csv(folder / "sample_submission.csv", ["ImageId", "EncodedPixels"], [(f"{name_of(50)}.png", "1 2")])


@pytest.mark.parametrize(
    ("kind", "found"),
    [(folders.nuclei, "an image has a file per object"), (ships, "7 images have several rows, so each row seems")],
    ids=["files", "rows"],
)
def test_a_file_or_row_per_object_is_taken_as_an_object_of_its_own(kind, found, tmp_path):
    draft = draft_of(kind, tmp_path)
    (note,) = [note for note in draft.notes if note.key == "OBJECTS"]
    assert note.certainty == "GUESS" and note.text.startswith(found)
    assert draft.competition().objects == Objects("components")


@pytest.mark.parametrize("kind", [folders.cars, folders.organs, folders.defects, folders.class_files])
def test_a_mask_per_image_or_class_is_no_object(kind, tmp_path):
    assert not described(kind, tmp_path).has_objects
