"""Bytes of one image's prediction on disk, and how often its class is the one of float32, by head and by TTA.

    python -m tests.benchmarks.bench_store

The network is trained for a few steps on street images: the classes of random weights are decided by rounding.
Naive: float32 softmax as .npy. FPN ends in an upsampling head, so the store holds the logits before it; Unet, and
every network under test-time augmentation, has full-size logits only, of which bytes are kept. The class of each pixel
is exact there by construction; what trained members choose together is in `bench_members`.
"""

from __future__ import annotations

import dataclasses
import io
import tempfile
from pathlib import Path

import numpy as np
import torch

from pipeline.config.load import load
from pipeline.paths import Folders
from pipeline.prediction.store import PredictionStore, StoreWriter
from pipeline.segmentation.compact import compress
from pipeline.segmentation.networks import build_network
from pipeline.segmentation.predict import Prediction, Predictor, decode, pack, predict_batches, unpack
from pipeline.task import Batch, Frame
from pipeline.training.encoder import load_encoder, normalise
from pipeline.training.inputs import find_encoder_weights
from tests.benchmarks.street_images import CAMVID, NUM_CLASSES, read_images
from tests.benchmarks.timing import alternate

NUM_IMAGES, NUM_STEPS = 4, 24
Pairs = list[tuple[np.ndarray, np.ndarray]]
CASES = (("FPN", "none", "x30 at 0.9999"), ("Unet", "none", "x20 at 0.9997"), ("FPN", "flip", "x20 at 0.9997"))


def train_briefly(network: torch.nn.Module, encoder, images: Pairs) -> None:
    """A few steps on half-size crops: enough that classes differ by more than rounding."""
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    network.train()
    for step in range(NUM_STEPS):
        chosen = [images[(2 * step + index) % len(images)] for index in range(2)]
        inputs = torch.from_numpy(np.stack([image[:704:2, :1280:2] for image, _ in chosen]))
        masks = torch.from_numpy(np.stack([mask[:704:2, :1280:2] for _, mask in chosen])).long()
        masks[masks >= NUM_CLASSES] = 255
        loss = torch.nn.functional.cross_entropy(network(normalise(inputs, encoder)), masks, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()


def batches(images: Pairs):
    """Images with 8 mirrored rows above and below, one a batch."""
    for number, (image, _) in enumerate(images):
        framed = np.pad(image, ((8, 8), (0, 0), (0, 0)), mode="reflect")
        yield Batch(torch.from_numpy(framed)[None], None, [Frame(f"{number}", (8, 0), image.shape[:2])])


def exact_logits(predictor: Predictor, batch: Batch) -> torch.Tensor:
    """Logarithms of the float32 softmax of the unpadded image, (C, H, W)."""
    with torch.inference_mode():
        inputs = normalise(batch.images, predictor.encoder)
        probs = predictor.network(inputs).softmax(1)
        if predictor.settings.tta == "flip":
            probs = (probs + predictor.network(inputs.flip(-1)).softmax(1).flip(-1)) / 2
    return probs[0, :, 8:-8].log()


def time_codec(prediction: Prediction) -> None:
    """Processor time of what a full-size image costs on its way to the disk and back."""
    codes = prediction.logits.codes
    bands = compress(codes)
    seconds = alternate({"compress": lambda: compress(codes), "decompress": lambda: bands[:, :]}, 5)
    words = ", ".join(f"{name} {1e3 * min(one[1] for one in rows):.0f} ms" for name, rows in seconds.items())
    print(f"an image's bytes: {words} of processor time")


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folders = Folders.from_environment().weights
    loaded = load("CamVidAAA" if CAMVID.is_dir() else "demo")
    images = read_images(NUM_IMAGES)
    naive_file = io.BytesIO()
    np.save(naive_file, np.zeros((NUM_CLASSES, 720, 1280), np.float32))
    naive_bytes = naive_file.getbuffer().nbytes
    print(f"float32 softmax of one image: {naive_bytes / 1e6:.1f} MB")
    networks = {}
    for name, tta, bar in CASES:
        model = dataclasses.replace(loaded.config.model, name=name)
        if name not in networks:
            networks[name] = build_network(model, NUM_CLASSES)
            if find_encoder_weights(model.encoder, folders) is not None:
                load_encoder(networks[name], model.encoder, folders)
            train_briefly(networks[name], model.encoder, images)
        settings = dataclasses.replace(loaded.config.predict, tta=tta)
        device = torch.device("cpu")
        predictor = Predictor(networks[name], model.encoder, settings, NUM_CLASSES, device, torch.float32)
        ids = [f"{number}" for number in range(NUM_IMAGES)]
        with tempfile.TemporaryDirectory() as folder:
            writer = StoreWriter(Path(folder), "key", ids, {}, pack)
            for image_id, prediction in predict_batches(predictor, batches(images)):
                writer.put(image_id, prediction)
            writer.finish()
            size = sum(path.stat().st_size for path in Path(folder).iterdir()) / NUM_IMAGES
            store = PredictionStore(Path(folder), unpack)
            exact = [exact_logits(predictor, batch).argmax(0).numpy() for batch in batches(images)]
            shares = [float((decode(store[id]) == expected).mean()) for id, expected in zip(ids, exact, strict=True)]
        print(
            f"{name:<5} TTA {tta:<5} {size / 1e6:6.2f} MB an image, x{naive_bytes / size:.1f}, "
            f"agreement {np.mean(shares):.6f} (least {min(shares):.6f}); bar {bar}"
        )
    time_codec(prediction)


if __name__ == "__main__":
    main()
