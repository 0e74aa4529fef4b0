"""What the diagnosis and the gallery add to `evaluate`, per image, against predicting and scoring it.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m tests.benchmarks.bench_evaluate [HEIGHT WIDTH]

CamVid's images and masks where ../shared is there, else drawn ones; FPN on MobileNetV2, 11 classes, no weights.
"""

import statistics
import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import torch

from pipeline.config.load import load
from pipeline.data.padding import Sizes, offset_in, pad
from pipeline.report.gallery_files import MOST_SIDE, draw_thumb, encoded
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.diagnosis import examine
from pipeline.segmentation.gallery import draw_views, views_of
from pipeline.segmentation.networks import network_of
from pipeline.segmentation.predict import decode, make_predictor, pack, predict_batches, unpack
from pipeline.task import Batch, Frame
from tests.benchmarks.timing import alternate, show

NUM_ROUNDS = 5
CAMVID = Path(__file__).resolve().parents[3] / "shared" / "data" / "camvid"
BAR = "the additions take at most a quarter of what predicting and scoring take"


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image (uint8 RGB) and its mask, 255 where nothing is scored."""
    path = next(iter(sorted(CAMVID.glob("masks/masks/*.png"))), None)
    if path is None:
        blobs = np.random.default_rng(0).integers(0, 11, (height // 40, width // 40), dtype=np.uint8)
        mask = cv2.resize(blobs, (width, height), interpolation=cv2.INTER_NEAREST)
        return np.repeat(20 * mask[..., None], 3, 2), mask
    mask = cv2.resize(cv2.imread(str(path), 0), (width, height), interpolation=cv2.INTER_NEAREST)
    image = cv2.resize(cv2.imread(str(CAMVID / f"imgs/imgs/{path.stem}.jpg")), (width, height))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.where(mask == 11, 255, mask).astype(np.uint8)


def main(height: int, width: int) -> None:
    torch.manual_seed(0)
    loaded = load("CamVidBAA", ("MODEL.ENCODER.WEIGHTS=null", "RUNTIME.DEVICE=cpu"))
    competition, (image, truth) = loaded.competition, scene(height, width)
    predictor = make_predictor(loaded, network_of(loaded), torch.device("cpu"), torch.float32)
    frame = Sizes().padded(height, width)
    key = Frame("one", offset_in(frame, (height, width)), (height, width))
    batch = Batch(torch.from_numpy(pad(image, frame, None))[None], None, [key])
    ((_, prediction),) = predict_batches(predictor, [batch])
    kept = unpack(*pack(prediction))
    mask = truth.copy()  # nearly right, as a trained network's
    mask[truth == 255] = 0
    mask = np.roll(mask, 3, axis=1)

    def draw() -> None:
        views = views_of(image, truth, mask)
        encoded(draw_views(views, competition, MOST_SIDE)), encoded(draw_thumb(image))

    ways = {
        "predict": lambda: list(predict_batches(predictor, [batch])),
        "decode and count": lambda: SOFTMAX.count_masks(decode(kept), truth, competition.num_classes),
        "examine (diagnosis.json, suspicious.csv)": lambda: examine([kept], mask, truth),
        "draw and encode for the gallery": draw,
    }
    seconds = alternate(ways, NUM_ROUNDS)
    show(f"{width} x {height}, one image", seconds, BAR)
    spent = [statistics.median(own for _, own in rows) for rows in seconds.values()]
    print(f"  additions: {sum(spent[2:]) / sum(spent[:2]):.2f} of predicting and scoring (processor time)")
    tracemalloc.start()
    examine([kept], mask, truth)
    print(f"  examine: at most {tracemalloc.get_traced_memory()[1] / truth.size:.0f} bytes of arrays per pixel")


if __name__ == "__main__":
    main(*(map(int, sys.argv[1:]) if len(sys.argv) > 2 else (360, 480)))
