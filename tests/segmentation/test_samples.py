"""A training sample is a function of (seed, epoch, index, repeat); validation images come whole and padded."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.data.build_store import build_store
from pipeline.data.image_facts import measure
from pipeline.data.image_source import ImageSource, black_of
from pipeline.data.images import read_image
from pipeline.data.loaders import SampleKey
from pipeline.data.store import open_store
from pipeline.data.tiles import scales_of
from pipeline.errors import UserError
from pipeline.segmentation.labels import count_values, read_mask
from pipeline.segmentation.samples import whole_images
from pipeline.segmentation.train_samples import TrainDataset
from tests.data.broken import COMPETITION
from tests.data.catalogs import IndexMasks, plain_images
from tests.data.small_competition import CLASSES, augmentation, make_competition
from tests.segmentation.masks import crop

TILES = ("TILE.ENABLE=true", "TILE.WIDTH=32", "TILE.HEIGHT=32", "TILE.SETS=[[96, 64, 3, 2], [48, 32, 2, 1]]")
PASTE = ("COPY_PASTE.ENABLE=true", "COPY_PASTE.PROBABILITY=1.0")
PLAIN = (
    "HORIZONTAL_FLIP.ENABLE=false",
    "SHIFT_SCALE_ROTATE.ENABLE=false",
    "COLOR.ENABLE=false",
    "GAUSSIAN_NOISE.ENABLE=false",
)


@pytest.fixture(scope="module")
def competition(tmp_path_factory):
    folder = tmp_path_factory.mktemp("competition") / "data"
    return folder, make_competition(folder, num_images=8)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed") / "data"
    return folder, make_competition(folder, num_images=6, sizes=((96, 64), (40, 70), (33, 33)))


def train_dataset(competition, *overrides, seed=7, padding="reflect"):
    catalog = competition[1]
    settings = augmentation(*overrides)
    scales = scales_of(settings.tile.sets) if settings.tile.enable else None
    return TrainDataset(tile_store(competition, scales), list(catalog.id), settings, seed, CLASSES, padding)


def tile_store(competition, scales=None):
    folder, catalog = competition
    return open_store(
        build_store(
            plain_images(folder), catalog, scales, folder.parent / "tiles", IndexMasks(folder), lambda line: None
        )
    )


def equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_samples_are_tiles_of_every_image_and_every_scale(competition):
    dataset = train_dataset(competition, *TILES)
    assert len(dataset) == 8 * (3 * 2 + 2 * 1)
    image, mask, key = dataset[SampleKey(1, 5)]
    assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((32, 32, 3), np.uint8, (32, 32), np.uint8)
    assert key == (1, 5, True, 0)


def test_without_augmentation_a_sample_is_the_stored_tile(competition):
    dataset = train_dataset(competition, *TILES, *PASTE)
    for index in range(len(dataset)):
        place = dataset.positions[index]
        tile = np.s_[place.box.y : place.box.y + 32, place.box.x : place.box.x + 32]
        whole = dataset.store.image(place.image_id, place.scale), dataset.store.label(place.image_id, place.scale)
        stored = [array[tile] for array in whole]
        assert equal(dataset[SampleKey(3, index, augment=False)][:2], stored)


@pytest.mark.parametrize("variant", ["random", "weighted", "occurrence"])
@pytest.mark.parametrize("tiles", [(), TILES])
def test_a_sample_depends_on_seed_epoch_index_and_repeat_and_nothing_else(competition, variant, tiles):
    settings = (*tiles, *PASTE, f"COPY_PASTE.VARIANT={variant}")
    one, other = train_dataset(competition, *settings), train_dataset(competition, *settings)
    keys = [SampleKey(epoch, index) for epoch in (1, 2) for index in range(6)]
    samples = {key: one[key][:2] for key in keys}
    assert all(equal(samples[key], other[key][:2]) for key in reversed(keys))
    changed = [not equal(samples[key], one[key._replace(repeat=1)][:2]) for key in keys]
    changed += [not equal(samples[SampleKey(1, index)], samples[SampleKey(2, index)]) for index in range(6)]
    changed += [not equal(samples[key], train_dataset(competition, *settings, seed=8)[key][:2]) for key in keys[:3]]
    assert np.mean(changed) > 0.8


def test_pasting_follows_its_probability_and_takes_from_other_images(competition):
    with_paste = train_dataset(competition, *PLAIN, "COPY_PASTE.ENABLE=true", "COPY_PASTE.MAX_REL_AREA=1.0")
    keys = [SampleKey(epoch, index) for epoch in range(1, 60) for index in range(8)]
    changed = [not equal(with_paste[key][:2], with_paste[key._replace(augment=False)][:2]) for key in keys]
    assert abs(np.mean(changed) - 0.667) < 0.06


def test_pasted_area_stays_below_its_limit(competition):
    dataset = train_dataset(competition, *PLAIN, *PASTE, "COPY_PASTE.MAX_REL_AREA=0.1", "COPY_PASTE.MAX_CLASSES=5")
    for index in range(8):
        for epoch in range(1, 20):
            plain, pasted = (dataset[SampleKey(epoch, index, augment)][1] for augment in (False, True))
            assert (plain != pasted).mean() <= 0.1


def shares_of_images(dataset, num_epochs):
    keys = [SampleKey(epoch, index) for epoch in range(1, num_epochs + 1) for index in range(len(dataset))]
    return np.mean([count_values(dataset[key][1])[: len(CLASSES)] > 0 for key in keys], axis=0)


def test_occurrence_keeps_each_class_share_of_images_and_random_does_not(competition):
    """The shares of the augmented samples without pasting are compared with those of composites, same geometry."""
    plain = shares_of_images(train_dataset(competition, *TILES), num_epochs=12)
    matched = shares_of_images(
        train_dataset(competition, *TILES, *PASTE, "COPY_PASTE.VARIANT=occurrence"), num_epochs=12
    )
    random = shares_of_images(train_dataset(competition, *TILES, *PASTE), num_epochs=12)
    assert matched == pytest.approx(plain, abs=1e-12)
    assert (random > plain + 0.01).all()


def test_occurrence_does_paste(competition):
    dataset = train_dataset(competition, *PLAIN, *TILES, *PASTE, "COPY_PASTE.VARIANT=occurrence")
    changed = [
        not equal(dataset[(1, index)][:2], dataset[SampleKey(1, index, False)][:2]) for index in range(len(dataset))
    ]
    assert np.mean(changed) > 0.5


def test_weighted_pasting_prefers_classes_of_low_dice_once_the_delay_has_passed(competition):
    settings = (*PLAIN, *PASTE, "COPY_PASTE.VARIANT=weighted", "COPY_PASTE.MAX_CLASSES=1", "COPY_PASTE.DELAY=10")
    dataset = train_dataset(competition, *settings, "COPY_PASTE.MAX_REL_AREA=1.0")
    dataset.set_class_scores([1.0, 1.0, 0.2, 1.0, 1.0])

    def pasted_classes(epochs):
        found = set()
        for key in [SampleKey(epoch, index) for epoch in epochs for index in range(8)]:
            plain, pasted = dataset[key._replace(augment=False)][1], dataset[key][1]
            found |= set(pasted[plain != pasted].tolist())
        return found

    assert pasted_classes(range(1, 11)) == {0, 1, 2, 3, 4}
    assert pasted_classes(range(11, 21)) == {2}


def test_names_of_pasted_classes_become_indices(competition):
    assert train_dataset(competition).paste_classes == [0, 1, 2, 3, 4]
    assert train_dataset(competition, "COPY_PASTE.CLASSES=[Road, Boat]").paste_classes == [2, 4]


def test_ignored_pixels_are_never_pasted(tmp_path):
    folder = tmp_path / "data"
    catalog = make_competition(folder, num_images=4, ignore_index=255)
    dataset = train_dataset(
        (folder, catalog), *PLAIN, *PASTE, "COPY_PASTE.MAX_REL_AREA=1.0", "COPY_PASTE.MAX_CLASSES=5"
    )
    for key in [SampleKey(epoch, index) for epoch in range(1, 10) for index in range(4)]:
        plain, pasted = dataset[key._replace(augment=False)][1], dataset[key][1]
        assert (plain[pasted == 255] == 255).all()


def test_a_single_image_has_nothing_to_paste_from(competition):
    folder, catalog = competition
    for variant in ("random", "occurrence"):
        dataset = train_dataset((folder, catalog[:1]), *PLAIN, *TILES, *PASTE, f"COPY_PASTE.VARIANT={variant}")
        assert all(equal(dataset[(1, index)][:2], dataset[SampleKey(1, index, False)][:2]) for index in range(8))


def test_images_of_mixed_sizes_augment_paste_and_pad(mixed):
    dataset = train_dataset(mixed, *PASTE, "COPY_PASTE.MAX_REL_AREA=1.0", padding="ignore")
    for index in range(6):
        image, mask, _ = dataset[(1, index)]
        assert image.shape[:2] == mask.shape == dataset.frame(index)
        assert set(np.unique(mask)) <= {*range(len(CLASSES)), 255}


def test_the_padding_class_comes_after_the_real_ones(mixed):
    dataset = train_dataset(mixed, *PLAIN, padding="class")
    _, mask, _ = dataset[(1, 1)]
    assert mask.shape == (96, 64) and mask[0, 0] == len(CLASSES)


def test_borders_and_padding_of_other_number_formats_are_as_black_as_was_measured(tmp_path):
    rng, rows = np.random.default_rng(0), []
    (tmp_path / "masks").mkdir()
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", rng.uniform(220, 300, (40, 64, 3)).astype(np.float32))
        cv2.imwrite(str(tmp_path / f"masks/{number}.png"), np.ones((40, 64), np.uint8))
        rows.append((str(number), f"{number}.npy", f"masks/{number}.png", 64, 40))
    catalog = pd.DataFrame(rows, columns=["id", "image", "mask", "width", "height"])
    facts = measure(COMPETITION, tmp_path, catalog["image"].tolist())
    images = ImageSource(COMPETITION, tmp_path, facts)
    store = open_store(build_store(images, catalog, None, tmp_path / "tiles", IndexMasks(tmp_path), lambda line: None))
    settings, black = augmentation("SHIFT_SCALE_ROTATE.BORDER=constant"), black_of(facts)
    dataset = TrainDataset(store, list(catalog.id), settings, 7, CLASSES, "ignore", black)
    samples = [dataset[(epoch, index)] for epoch in range(1, 9) for index in range(3)]
    beyond = np.concatenate([image[mask == 255] for image, mask, _ in samples])
    assert 220 < black < 221 and len(beyond) > 24 * 64 * 24  # 24 rows of padding each, and borders
    assert np.median(beyond) == np.float32(black) and beyond.min() > 219
    image, _, (_, offset, size, _) = whole_images(catalog, images, IndexMasks(tmp_path), "ignore")[0]
    crop(image, offset, size)[:] = black
    assert (image == np.float32(black)).all()


def test_presence_says_which_classes_each_tile_shows(competition):
    dataset = train_dataset(competition, *TILES)
    presence = dataset.class_presence()
    for index in range(len(dataset)):
        mask = dataset[SampleKey(1, index, augment=False)][1]
        assert set(np.flatnonzero(presence[index])) == set(np.unique(mask))


def test_no_training_image_is_refused(competition):
    with pytest.raises(UserError, match="no image to train on"):
        TrainDataset(tile_store(competition), [], augmentation(), 1, CLASSES)


def test_class_scores_lie_in_shared_memory(competition):
    assert train_dataset(competition).class_scores.is_shared()


def test_a_validation_image_is_its_file_padded_and_croppable(mixed):
    folder, catalog = mixed
    dataset = whole_images(catalog, plain_images(folder), IndexMasks(folder))
    for index, row in enumerate(catalog.itertuples()):
        image, mask, (image_id, offset, size, _) = dataset[index]
        assert image_id == row.id and size == (row.height, row.width)
        assert (crop(image, offset, size) == read_image(folder / row.image)).all()
        assert (crop(mask, offset, size) == read_mask(folder / row.mask)).all()
        outside = np.ones(mask.shape, bool)
        crop(outside, offset, size)[:] = False
        assert (mask[outside] == 255).all(), "validation counts unpadded pixels only, whatever the policy"


def test_an_image_whose_row_names_no_mask_has_no_label(mixed):
    folder, catalog = mixed
    dataset = whole_images(catalog.drop(columns="mask"), plain_images(folder), IndexMasks(folder), padding="class")
    assert dataset[0][1] is None and not dataset.has_labels(0)


def test_an_image_that_is_not_what_the_catalog_says_is_named(mixed):
    folder, catalog = mixed
    with pytest.raises(UserError, match=r"imgs/000.png: the size"):
        whole_images(catalog.assign(height=catalog.height + 1), plain_images(folder), IndexMasks(folder))[0]


def test_torch_threads_and_global_seeds_do_not_matter(competition):
    dataset = train_dataset(competition, *PASTE)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    one = dataset[(1, 1)][:2]
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(2)
    assert equal(one, dataset[(1, 1)][:2])


def test_tiles_of_factors_keep_the_scale_of_images_of_different_sizes(mixed):
    settings = ("TILE.ENABLE=true", "TILE.WIDTH=32", "TILE.HEIGHT=32", "TILE.SETS=[[1.0, 0.0], [0.5, 0.0]]")
    dataset = train_dataset(mixed, *settings, *PLAIN, *PASTE, "COPY_PASTE.VARIANT=occurrence")
    # 96x64, 40x70 and 33x33 at their own size and at half of it: 3x2 + 2x1, 2x3 + 1x2, 2x2 + 1x1 tiles.
    assert len(dataset) == 2 * (8 + 8 + 5)
    assert dataset.describe(SampleKey(1, 10)) == "001 32x32+0+19 of 40x70, epoch 1"
    own = dataset.store.image("001", 1.0)
    np.testing.assert_array_equal(dataset[SampleKey(1, 8, False)][0], own[:32, :32])
    assert dataset[SampleKey(1, 20, False)][0].shape == (32, 32, 3)  # half of 33x33, padded
    for index in range(len(dataset)):
        source = dataset._draw_source(index, (0, 1, 2, 3), np.random.default_rng(index))
        assert source is None or dataset.positions[source].image_id != dataset.positions[index].image_id
