"""Members predict straight from their networks, in the batches of their stores, each of them once."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.config.load import load
from pipeline.data.loaders import image_loader, valid_batches
from pipeline.data.padding import Sizes
from pipeline.data.whole_images import WholeImages
from pipeline.prediction.streaming import Source, plan_jobs, stream
from pipeline.segmentation.predict import Predictor, predict_batches
from pipeline.segmentation.samples import whole_images
from pipeline.segmentation.task import SEGMENTATION
from tests.data.catalogs import IndexMasks, plain_images

NUM_CLASSES = 4
HEIGHT, WIDTH = 40, 56


class Colours(torch.nn.Module):
    """Logits of a pixel are fixed sums of its colours; no layer looks at other images of the batch."""

    def __init__(self, seed: int):
        super().__init__()
        self.mix = torch.nn.Conv2d(3, NUM_CLASSES, 1, bias=False)
        torch.nn.init.normal_(self.mix.weight, generator=torch.Generator().manual_seed(seed))

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        return self.mix(image_BCHW)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(3)
    for number in range(7):
        cv2.imwrite(str(tmp_path / f"p{number}.png"), rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    return tmp_path


def dataset(folder, numbers, padding="reflect", smallest=0) -> WholeImages:
    rows = [{"id": f"p{n}", "image": f"p{n}.png", "width": WIDTH, "height": HEIGHT} for n in numbers]
    return whole_images(pd.DataFrame(rows), plain_images(folder), IndexMasks(folder), padding, Sizes(smallest=smallest))


def predictor(seed: int) -> Predictor:
    config = load("demo").config
    network = Colours(seed).eval()
    return Predictor(network, config.model.encoder, config.predict, NUM_CLASSES, torch.device("cpu"), torch.float32)


def source(folder, seed: int, numbers, batch_size: int, *options) -> Source:
    return Source(lambda: predictor(seed), dataset(folder, numbers, *options), batch_size, SEGMENTATION)


def test_images_come_in_the_order_wanted_with_what_each_store_would_hold(folder, monkeypatch):
    monkeypatch.setattr("pipeline.segmentation.predict.upsample_factor", lambda network: 1)
    monkeypatch.setattr("pipeline.segmentation.predict.low_logits", lambda network, image: network(image))
    monkeypatch.setattr("pipeline.segmentation.predict.align_corners", lambda network: False)
    sources = [source(folder, 0, range(7), 4), source(folder, 1, [1, 3, 5, 6], 3, "background")]
    wanted = {"p1": [0, 1], "p2": [0], "p5": [1, 0], "p6": [1]}
    stored = []
    for seed, member in enumerate(sources):
        loader = image_loader(member.dataset, member.batch_size, SEGMENTATION.collate_valid, 0)
        stored.append(dict(predict_batches(predictor(seed), valid_batches(loader))))
    for num_threads in (0, 2):
        found = list(stream(sources, wanted, num_threads))
        assert [image_id for image_id, _ in found] == list(wanted)
        for image_id, predictions in found:
            for number, prediction in zip(wanted[image_id], predictions, strict=True):
                assert np.array_equal(prediction.logits, stored[number][image_id].logits)
                assert prediction.offset == stored[number][image_id].offset


def test_members_that_see_the_same_batch_share_it_and_no_batch_is_planned_twice(folder):
    alike = [source(folder, seed, range(7), 4) for seed in range(3)]
    others = [source(folder, 3, range(7), 4, "background"), source(folder, 4, range(7), 4, "reflect", 128)]
    wanted = {f"p{number}": [0, 1, 2, 3, 4] for number in range(7)}
    jobs = plan_jobs([*alike, *others], wanted)
    assert [(job.batches, job.members) for job in jobs] == [
        (((0, 1, 2, 3),), [0, 1, 2]),
        (((0, 1, 2, 3),), [3]),
        (((0, 1, 2, 3),), [4]),
        (((4, 5, 6),), [0, 1, 2]),
        (((4, 5, 6),), [3]),
        (((4, 5, 6),), [4]),
    ]


def test_after_a_stop_only_batches_with_missing_images_are_planned_and_those_are_whole(folder):
    jobs = plan_jobs([source(folder, 0, range(7), 4)], {"p6": [0]})
    assert [job.batches for job in jobs] == [((4, 5, 6),)]


def test_no_network_is_opened_when_nothing_is_wanted(folder):
    def refuse():
        raise AssertionError("opened")

    assert list(stream([Source(refuse, dataset(folder, range(3)), 2, SEGMENTATION)], {})) == []
