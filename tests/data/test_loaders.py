"""Batches are the same from any number of workers and after a resume; faults of workers end with a clear message."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time

import numpy as np
import pytest
import torch

from pipeline.data import loaders
from pipeline.data.build_store import build_store
from pipeline.data.loaders import (
    EpochSampler,
    available_workers,
    check_shared_memory,
    explained_worker_faults,
    image_loader,
    train_batches,
    valid_batches,
)
from pipeline.data.open_loaders import end_workers
from pipeline.data.store import open_store
from pipeline.data.whole_images import WholeImages
from pipeline.errors import UserError
from pipeline.segmentation.samples import FramedMasks, collate_valid, whole_images
from pipeline.segmentation.train_samples import TrainDataset, collate_train
from pipeline.task import Frame
from tests.data.catalogs import IndexMasks, plain_images
from tests.data.small_competition import CLASSES, augmentation, make_competition

TILES = ("TILE.ENABLE=true", "TILE.WIDTH=32", "TILE.HEIGHT=32", "TILE.SETS=[[96, 64, 3, 2]]")
PASTE = ("COPY_PASTE.ENABLE=true", "COPY_PASTE.VARIANT=weighted")
BATCH_SIZE, SEED = 5, 11
# Two cores are common where tests run; torch advises against four workers there, and four are to be tested.
many_workers = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(autouse=True)
def no_workers_left():
    """A caught error keeps its loader, whose garbage would hold up a later test for ten seconds."""
    yield
    end_workers()


@pytest.fixture(scope="module")
def competition(tmp_path_factory):
    folder = tmp_path_factory.mktemp("competition") / "data"
    return folder, make_competition(folder, num_images=5)


def train_dataset(competition, *overrides):
    folder, catalog = competition
    settings = augmentation(*overrides)
    scales = ((96, 64),) if settings.tile.enable else None
    store = open_store(
        build_store(plain_images(folder), catalog, scales, folder.parent / "tiles", IndexMasks(folder), lambda _: None)
    )
    return TrainDataset(store, list(catalog.id), settings, SEED, CLASSES, "ignore")


def make_loader(dataset, num_workers=0, batch_size=BATCH_SIZE, **settings):
    sampler = EpochSampler(dataset, batch_size, SEED)
    return image_loader(dataset, sampler, collate_train, num_workers, log=lambda _: None, **settings)


def fingerprints(batches):
    return [
        (hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest(), keys)
        for images, labels, keys in batches
    ]


@many_workers
@pytest.mark.parametrize("num_workers", [1, 4])
def test_batches_are_the_same_from_any_number_of_workers_in_every_epoch(competition, monkeypatch, num_workers):
    monkeypatch.setattr(loaders, "num_cores", lambda: 4)
    results = []
    for workers in (0, num_workers):
        dataset = train_dataset(competition, *TILES, *PASTE)
        loader, seen = make_loader(dataset, workers), []
        for epoch in (1, 2, 3):
            seen += fingerprints(train_batches(loader, epoch))
            dataset.set_class_scores(np.linspace(0.1, 0.9, len(CLASSES)) / epoch)
        results.append(seen)
    assert results[0] == results[1] and len(results[0]) == 3 * 6


@many_workers
@pytest.mark.parametrize("num_workers", [0, 1, 2, 4])
def test_a_resumed_epoch_goes_on_with_the_very_next_batch(competition, monkeypatch, num_workers):
    monkeypatch.setattr(loaders, "num_cores", lambda: 4)
    whole = fingerprints(train_batches(make_loader(train_dataset(competition, *TILES, *PASTE)), epoch=2))
    loader = make_loader(train_dataset(competition, *TILES, *PASTE), num_workers)
    for start_step in (4, 0, 6):
        assert fingerprints(train_batches(loader, epoch=2, start_step=start_step)) == whole[start_step:]


def test_an_epoch_left_in_the_middle_does_not_leak_into_the_next(competition):
    loader = make_loader(train_dataset(competition, *TILES), num_workers=2)
    expected = fingerprints(train_batches(make_loader(train_dataset(competition, *TILES)), epoch=3))
    for _ in train_batches(loader, epoch=2):
        break
    assert fingerprints(train_batches(loader, epoch=3)) == expected


def test_workers_that_live_on_see_the_new_class_scores(competition):
    """Pasting by Dice changes when the Dice does, without new workers."""
    dataset = train_dataset(competition, *TILES, *PASTE, "COPY_PASTE.DELAY=0", "COPY_PASTE.PROBABILITY=1.0")
    loader = make_loader(dataset, num_workers=1)
    before = fingerprints(train_batches(loader, epoch=1))
    workers = [worker.pid for worker in loader._iterator._workers]
    dataset.set_class_scores([1.0, 1.0, 0.0, 1.0, 1.0])
    after = fingerprints(train_batches(loader, epoch=1))
    assert before != after and [worker.pid for worker in loader._iterator._workers] == workers


def test_batches_are_uint8_images_with_channels_last_and_index_masks(competition):
    images, labels, keys = next(train_batches(make_loader(train_dataset(competition)), epoch=1))
    assert (images.dtype, images.shape) == (torch.uint8, (BATCH_SIZE, 64, 96, 3))
    assert (labels.dtype, labels.shape) == (torch.uint8, (BATCH_SIZE, 64, 96))
    assert len(keys) == BATCH_SIZE and {key.epoch for key in keys} == {1}


def test_a_phase_may_switch_augmentation_off(competition):
    loader = make_loader(train_dataset(competition))
    plain = [fingerprints(train_batches(loader, epoch, augment=False))[0][0] for epoch in (1, 2)]
    stored = loader.dataset.store
    images, _, keys = next(train_batches(loader, 1, augment=False))
    assert all(
        (image.numpy() == stored.image(f"{key.index:03d}")).all() for image, key in zip(images, keys, strict=True)
    )
    assert len(plain) == 2


@pytest.mark.parametrize("num_workers", [0, 1])
def test_images_of_different_sizes_in_one_batch_get_an_ignored_frame(tmp_path, num_workers):
    folder = tmp_path / "data"
    catalog = make_competition(folder, num_images=4, sizes=((96, 64), (32, 96), (33, 20), (64, 64)))
    dataset = train_dataset((folder, catalog))
    images, labels, keys = next(train_batches(make_loader(dataset, num_workers, batch_size=4), epoch=1))
    assert images.shape == (4, 96, 96, 3)
    for mask, key in zip(labels, keys, strict=True):
        height, width = dataset.frame(key.index)
        scored = (mask != 255).sum()
        assert 0 < scored <= height * width
        top, left = (96 - height) // 2, (96 - width) // 2
        assert (mask[top : top + height, left : left + width].numpy() == dataset[key][1]).all()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_validation_visits_every_image_once_in_batches_of_one_size(tmp_path, num_workers):
    folder = tmp_path / "data"
    catalog = make_competition(folder, num_images=7, sizes=((96, 64), (40, 70)))
    dataset = whole_images(catalog, plain_images(folder), IndexMasks(folder))
    for _ in range(2):
        batches = list(valid_batches(image_loader(dataset, 2, collate_valid, num_workers, log=lambda _: None)))
        ids = [[key.id for key in batch.keys] for batch in batches]
        assert ids == [["000", "002"], ["001", "003"], ["004", "006"], ["005"]]
        assert batches[1].images.shape == (2, 96, 64, 3) and batches[1].labels.shape == (2, 96, 64)
        assert batches[1].keys == [Frame("001", (13, 12), (70, 40)), Frame("003", (13, 12), (70, 40))]


def test_images_of_rows_without_masks_come_without_labels(competition):
    folder, catalog = competition
    loader = image_loader(
        whole_images(catalog.drop(columns="mask"), plain_images(folder), IndexMasks(folder)),
        2,
        collate_valid,
        0,
    )
    assert all(batch.labels is None for batch in valid_batches(loader))


def test_nothing_to_load_is_no_error(competition):
    folder, catalog = competition
    empty = whole_images(catalog[:0], plain_images(folder), IndexMasks(folder))
    assert list(valid_batches(image_loader(empty, 2, collate_valid, 0))) == []


def test_more_workers_than_cores_are_capped_and_that_is_logged(monkeypatch):
    lines = []
    monkeypatch.setattr(loaders, "num_cores", lambda: 2)
    assert (available_workers(8, lines.append), available_workers(2, lines.append)) == (2, 2)
    assert lines == ["NUM_WORKERS is 8, but 2 cores are available: 2 workers load the data"]


def test_too_little_shared_memory_is_refused_with_the_remedy(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=64 * 2**20))
    check_shared_memory(2**20, tmp_path)
    with pytest.raises(UserError, match=r"64 MiB free.*need 100 MiB[\s\S]*--shm-size[\s\S]*NUM_WORKERS=0"):
        check_shared_memory(100 * 2**20, tmp_path)


class Faulty(WholeImages):
    """A dataset whose second image kills its worker, or keeps it busy for ever."""

    fault = "die"

    def __getitem__(self, index):
        if index == 1 and self.fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 1:
            time.sleep(60)
        return super().__getitem__(index)


def test_a_dying_worker_ends_with_a_clear_message(competition):
    folder, catalog = competition
    loader = image_loader(Faulty(catalog, plain_images(folder), FramedMasks(IndexMasks(folder))), 1, collate_valid, 1)
    with pytest.raises(
        UserError, match=r"(killed by signal|exited unexpectedly)[\s\S]*out of memory[\s\S]*NUM_WORKERS=0"
    ):
        list(valid_batches(loader))


def test_a_worker_that_dies_while_a_step_is_taken_ends_with_the_same_message(competition):
    loader = make_loader(train_dataset(competition), num_workers=1)
    batches = train_batches(loader, epoch=1)
    next(batches)
    (worker,) = loader._iterator._workers
    with pytest.raises(UserError, match=r"killed by signal[\s\S]*out of memory[\s\S]*NUM_WORKERS=0"):
        os.kill(worker.pid, signal.SIGKILL)
        time.sleep(30)  # the step: the death interrupts it
    assert hasattr(signal.getsignal(signal.SIGCHLD), "__wrapped__")


@pytest.mark.slow
def test_a_hanging_worker_ends_with_a_clear_message_and_its_stack(competition, capfd, monkeypatch):
    monkeypatch.setattr(loaders, "GRACE_S", 1)  # the worker never hears that it shall end, so two waits run out
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 1)
    folder, catalog = competition
    dataset = Faulty(catalog, plain_images(folder), FramedMasks(IndexMasks(folder)))
    dataset.fault = "hang"
    loader = image_loader(dataset, 1, collate_valid, 1, time_out_s=1)
    with pytest.raises(UserError, match=r"timed out after 1 seconds[\s\S]*died or hung"):
        list(valid_batches(loader))
    time.sleep(0.3)
    assert "__getitem__" in capfd.readouterr().err


def test_a_mistake_in_the_data_keeps_its_own_message_through_a_worker(competition):
    folder, catalog = competition
    loader = image_loader(
        whole_images(catalog.assign(height=1), plain_images(folder), IndexMasks(folder)), 2, collate_valid, 1
    )
    with pytest.raises(UserError, match=r"imgs/000.png: the size is not what the catalog says"):
        list(valid_batches(loader))


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match="something else"), explained_worker_faults():
        raise RuntimeError("something else")


def test_a_mistake_that_a_worker_finds_is_told_without_a_traceback(competition, monkeypatch):
    def lost(*_):
        raise UserError("the store could not be reached.\nType the same command again.")

    dataset = train_dataset(competition, *TILES)
    monkeypatch.setattr(dataset.store, "image", lost)
    loader = make_loader(dataset, num_workers=1)
    with pytest.raises(UserError) as raised:
        list(train_batches(loader, 1))
    assert str(raised.value) == "the store could not be reached.\nType the same command again."
