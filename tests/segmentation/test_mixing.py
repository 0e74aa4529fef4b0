"""Samples made of several images: every pixel keeps its own label, and blended images have the loss of both masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.config.load import load
from pipeline.config.loss_mix import LOSS_NAMES
from pipeline.data.build_store import build_store
from pipeline.data.contact_sheet import SHOWN_ALONE, each_alone
from pipeline.data.loaders import EpochSampler, SampleKey, image_loader, train_batches
from pipeline.data.store import open_store
from pipeline.segmentation.activation import SIGMOID, SOFTMAX
from pipeline.segmentation.learning import bind
from pipeline.segmentation.mixing import MixedMasks, half_of_classes
from pipeline.segmentation.train_samples import TrainDataset, collate_train
from tests.data.catalogs import IndexMasks, plain_images
from tests.data.small_competition import CLASSES, GREYS, augmentation, draw_from_masks, make_competition, misplaced

OFF = tuple(
    f"{name}.ENABLE=false" for name in ("HORIZONTAL_FLIP", "SHIFT_SCALE_ROTATE", "COLOR", "GAUSSIAN_NOISE", "TILE")
)
GEOMETRY = ("HORIZONTAL_FLIP", "VERTICAL_FLIP", "QUARTER_TURN", "SHIFT_SCALE_ROTATE")
DISTORTIONS = ("ELASTIC", "GRID_DISTORTION", "OPTICAL_DISTORTION")
MIXES, PASTES = ("MOSAIC", "CUT_MIX"), ("COPY_PASTE", "CLASS_MIX")
FILTERS = ("COLOR", "GAMMA", "BLUR", "SHARPEN", "GAUSSIAN_NOISE", "COARSE_DROPOUT")
CROP = ("RANDOM_CROP.ENABLE=true", "RANDOM_CROP.WIDTH=48", "RANDOM_CROP.HEIGHT=40")
TILES = ("TILE.ENABLE=true", "TILE.WIDTH=40", "TILE.HEIGHT=32", "TILE.SETS=[[96, 64, 3, 2]]")


def on(*names, probability=1.0):
    return [text for name in names for text in (f"{name}.ENABLE=true", f"{name}.PROBABILITY={probability}")]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A competition whose images are drawn from their masks."""
    folder = tmp_path_factory.mktemp("drawn") / "data"
    catalog = make_competition(folder, num_images=6, sizes=((96, 64), (96, 64), (70, 80)))
    draw_from_masks(folder, catalog)
    return folder, catalog


def dataset_of(competition, *overrides, seed=3, padding="ignore", num_images=None):
    folder, catalog = competition
    own = dict(text.split("=", 1) for text in (*OFF, *overrides))  # the later one counts
    rules = augmentation(*(f"{key}={value}" for key, value in own.items()))
    scales, tiles = ((96, 64),) if rules.tile.enable else None, folder.parent / "tiles"
    store = open_store(build_store(plain_images(folder), catalog, scales, tiles, IndexMasks(folder), lambda _: None))
    return TrainDataset(store, list(catalog.id)[:num_images], rules, seed, CLASSES, padding)


@pytest.mark.parametrize("cut", [(), TILES, CROP, (*CROP, "RANDOM_CROP.PER_IMAGE=3")])
@pytest.mark.parametrize("kinds", [GEOMETRY, (*GEOMETRY, *MIXES), (*GEOMETRY, *MIXES, *DISTORTIONS), (*MIXES, *PASTES)])
def test_images_drawn_from_their_masks_stay_equal_to_them_through_all_of_the_chain(drawn, cut, kinds):
    dataset = dataset_of(drawn, *cut, *on(*kinds))
    num_wrong = num_pixels = 0
    for key in [SampleKey(epoch, index) for epoch in (1, 2, 3) for index in range(0, len(dataset), 2)]:
        image, mask, _ = dataset[key]
        assert image.shape[:2] == mask.shape == dataset.frame(key.index)
        num_wrong += misplaced(image, mask, margin=3)
        num_pixels += mask.size
    # The last pixels of a piece are interpolated with what was beside them; what is pasted has a soft seam. Where both
    # sides are of one class, the mask does not show it. A mask that missed a step would differ on a third of them.
    most = 0.04 if set(PASTES) & set(kinds) else 0.005 if set(MIXES) & set(kinds) else 0
    assert num_wrong <= most * num_pixels


@pytest.mark.parametrize("kind", [*GEOMETRY, *MIXES, *PASTES, *DISTORTIONS, *FILTERS])
@pytest.mark.parametrize("cut", [TILES, CROP])
def test_a_sample_depends_on_seed_epoch_index_and_repeat_and_nothing_else(drawn, kind, cut):
    one, other = (dataset_of(drawn, *cut, *on(kind)) for _ in range(2))
    keys = [SampleKey(epoch, index) for epoch in (1, 2) for index in range(6)]
    samples = {key: one[key] for key in keys}
    for key in reversed(keys):
        again = other[key]
        assert (samples[key][0] == again[0]).all() and (samples[key][1] == again[1]).all()
    plain = [one[key._replace(augment=False)] for key in keys]
    assert any((samples[key][0] != image).any() for key, (image, _, _) in zip(keys, plain, strict=True))


@pytest.mark.parametrize(
    "kind", ["VERTICAL_FLIP", "MOSAIC", "CUT_MIX", "CLASS_MIX", "ELASTIC", "GAMMA", "COARSE_DROPOUT"]
)
def test_an_option_that_is_not_drawn_leaves_all_others_as_they_were(drawn, kind):
    others = on("HORIZONTAL_FLIP", "SHIFT_SCALE_ROTATE", "COPY_PASTE", "COLOR", "GAUSSIAN_NOISE", probability=0.5)
    plain, more = dataset_of(drawn, *TILES, *others), dataset_of(drawn, *TILES, *others, *on(kind, probability=0.0))
    for index in range(len(plain)):
        one, other = plain[SampleKey(1, index)], more[SampleKey(1, index)]
        assert (one[0] == other[0]).all() and (one[1] == other[1]).all()


def test_a_mosaic_keeps_one_quarter_of_its_own_and_takes_three(drawn):
    dataset, shares = dataset_of(drawn, *TILES, *on("MOSAIC")), []
    for index in range(len(dataset)):
        plain, mixed = dataset[SampleKey(1, index, False)], dataset[SampleKey(1, index)]
        shares.append((plain[1] == mixed[1]).mean())
    assert min(shares) >= 0.09 and np.mean(shares) < 0.75


def test_cut_mix_changes_a_rectangle_of_its_area(drawn):
    dataset = dataset_of(drawn, *TILES, *on("CUT_MIX"), "CUT_MIX.AREA=[0.2, 0.3]")
    seen = []
    for key in [SampleKey(epoch, index) for epoch in (1, 2) for index in range(len(dataset))]:
        plain, mixed = dataset[key._replace(augment=False)], dataset[key]
        rows, columns = np.nonzero((plain[0] != mixed[0]).any(-1))
        if len(rows):
            seen.append((rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1) / (32 * 40))
    assert len(seen) > 40 and max(seen) < 0.33 and np.median(seen) > 0.12


def test_class_mix_takes_half_of_the_classes_rounded_up():
    mask = np.array([[0, 1, 2, 3, 4, 255]], np.uint8)
    chosen = [half_of_classes(mask, np.random.default_rng(seed)) for seed in range(200)]
    assert {len(classes) for classes in chosen} == {3} and {index for one in chosen for index in one} == set(range(5))
    assert half_of_classes(np.full((2, 2), 255, np.uint8), np.random.default_rng(0)) == []


def test_with_one_training_image_nothing_is_mixed_in(drawn):
    dataset = dataset_of(drawn, *on("MOSAIC", "CUT_MIX", "CLASS_MIX"), num_images=1)
    image, mask, _ = dataset[SampleKey(1, 0)]
    assert (image[mask != 255] == GREYS[mask[mask != 255]][:, None]).all()
    assert (image == dataset[SampleKey(1, 0, False)][0]).all()


MIX_UP = (*TILES, *on("MIX_UP"))


def batches_of(dataset, num_workers=0, start_step=0, augment=True):
    sampler = EpochSampler(dataset, 4, 3)
    loader = image_loader(dataset, sampler, collate_train, num_workers, log=lambda _: None)
    return list(train_batches(loader, 2, start_step, augment))


def test_mix_up_blends_each_image_of_a_batch_with_the_one_before_it(drawn):
    dataset, shares = dataset_of(drawn, *MIX_UP), []
    for batch in batches_of(dataset):
        images, (first, second, share), keys = batch
        plain = [dataset[key] for key in keys]
        for index, (image, mask, _) in enumerate(plain):
            other, other_mask, _ = plain[index - 1]
            expected = (1 - share) * image + share * other
            assert np.abs(images[index].numpy() - expected).max() <= 0.51
            assert (first[index].numpy() == mask).all() and (second[index].numpy() == other_mask).all()
        shares.append(share)
    assert len(set(shares)) == len(shares) and min(shares) >= 0 and max(shares) <= 0.5


def flat(batches):
    return [
        (images.numpy().tobytes(), labels.first.numpy().tobytes(), labels.second.numpy().tobytes(), labels.share)
        for images, labels, _ in batches
    ]


@pytest.mark.parametrize(("num_workers", "start_step"), [(0, 3), (1, 0), (1, 2)])
def test_blended_batches_are_the_same_from_any_step_and_any_worker(drawn, num_workers, start_step):
    whole = flat(batches_of(dataset_of(drawn, *MIX_UP)))
    assert flat(batches_of(dataset_of(drawn, *MIX_UP), num_workers, start_step)) == whole[start_step:]


def test_batches_without_augmentation_or_not_drawn_are_not_blended(drawn):
    assert all(
        isinstance(batch.labels, torch.Tensor) for batch in batches_of(dataset_of(drawn, *MIX_UP), augment=False)
    )
    some = batches_of(dataset_of(drawn, *TILES, *on("MIX_UP", probability=0.5)))
    assert len({type(batch.labels) for batch in some}) == 2


def learning_of(activation, mix):
    loss_fn = replace(load("ExpAAB").config.loss_fn, mix=mix)
    every = range(len(CLASSES))
    return bind(CLASSES, every, every, len(CLASSES), loss_fn, torch.device("cpu"), activation=activation)


def masks_like(activation, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (4, 16, 16) if not activation.is_sigmoid else (4, 16, 16, len(CLASSES))
    values = torch.randint(0, len(CLASSES), shape, generator=generator, dtype=torch.uint8)
    masks = torch.where(values > 2, 240, 0).to(torch.uint8) if activation.is_sigmoid else values
    masks[:, :3] = 255
    return masks


@pytest.mark.parametrize(
    ("activation", "name"),
    [(activation, name) for activation in (SOFTMAX, SIGMOID) for name in LOSS_NAMES if name in activation.terms],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_loss_of_blended_images_is_that_of_both_masks_in_their_shares(activation, name):
    learning = learning_of(activation, f"1 {name}")
    logits = torch.randn((4, len(CLASSES), 16, 16), generator=torch.Generator().manual_seed(0), requires_grad=True)
    first, second = masks_like(activation, 1), masks_like(activation, 2)
    criterion = learning.criterion(f"1 {name}", 1, ())
    mixed = criterion(logits, MixedMasks(first, second, 0.3))
    (gradient,) = torch.autograd.grad(mixed.total, logits)
    alone = [criterion(logits, masks) for masks in (first, second)]
    gradients = [torch.autograd.grad(loss.total, logits)[0] for loss in alone]
    torch.testing.assert_close(mixed.total, 0.7 * alone[0].total + 0.3 * alone[1].total)
    torch.testing.assert_close(mixed.terms[name], mixed.total.detach())
    torch.testing.assert_close(gradient, 0.7 * gradients[0] + 0.3 * gradients[1])


def test_of_the_cross_entropy_it_is_the_loss_by_a_soft_label():
    criterion = learning_of(SOFTMAX, "1 ce").criterion("1 ce", 1, ())
    logits = torch.randn((4, len(CLASSES), 16, 16), generator=torch.Generator().manual_seed(0))
    first, second = (masks_like(SOFTMAX, seed).masked_fill_(masks_like(SOFTMAX, seed) == 255, 0) for seed in (1, 2))
    shares = [F.one_hot(masks.long(), len(CLASSES)).movedim(-1, 1).float() for masks in (first, second)]
    expected = F.cross_entropy(logits, 0.6 * shares[0] + 0.4 * shares[1])
    torch.testing.assert_close(criterion(logits, MixedMasks(first, second, 0.4)).total, expected)


def test_blended_batches_are_cut_into_micro_batches_and_scored_by_the_heavier_mask():
    learning = learning_of(SOFTMAX, "1 ce")
    first, second = masks_like(SOFTMAX, 1), masks_like(SOFTMAX, 2)
    masks = learning.to_device(MixedMasks(first, second, 0.3))
    parts = learning.split_labels(masks, 2)
    assert [part.share for part in parts] == [0.3, 0.3]
    assert torch.equal(torch.cat([part.first for part in parts]), first)
    assert torch.equal(torch.cat([part.second for part in parts]), second)
    logits = torch.randn((4, len(CLASSES), 16, 16), generator=torch.Generator().manual_seed(0))
    assert torch.equal(learning.sample_sums(logits, masks), learning.sample_sums(logits, first))


def test_the_contact_sheet_shows_every_option_that_is_on_by_itself(drawn):
    names = [name.upper() for name in SHOWN_ALONE]
    every = [f"{name}.ENABLE=true" for name in names if name != "RANDOM_CROP"]
    dataset = dataset_of(drawn, *TILES, *every, *on("COLOR", "COARSE_DROPOUT"), "QUARTER_TURN.PROBABILITY=0.0")
    keys = [SampleKey(1, index) for index in (0, 6)]
    alone = [(name, image, getattr(mask, "first", mask)) for name, image, mask in each_alone(dataset, keys)]
    shown = {name: (image, mask) for name, image, mask in alone}
    assert list(shown) == [name for name in names if name != "RANDOM_CROP"]
    plain = dataset[keys[0]._replace(augment=False)]
    assert [name for name, (image, _) in shown.items() if (image == plain[0]).all()] == []
    kept = {name for name, (_, mask) in shown.items() if (mask == plain[1]).all()}
    assert {"GAMMA", "BLUR", "SHARPEN", "COARSE_DROPOUT", "MIX_UP"} <= kept and "MOSAIC" not in kept
    assert list(each_alone(dataset_of(drawn, *TILES, *on("COLOR", "COPY_PASTE")), keys)) == []
