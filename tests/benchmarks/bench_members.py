"""Classes that trained members choose together, from stores and from float32 logits: agreement and bytes.

    RUNS_DIR=... DATA_DIR=... python -m tests.benchmarks.bench_members CamVidAAB CamVidAAC CamVidAAD CamVidAAE CamVidAAF

Every member predicts the same public images, plainly (logits before the head's upsampling) and with mirrored copies
(full-size bytes). Exact: float32 logits at full size of the same network. The choice of one member alone is exact in
full-size bytes by construction; that of several depends on how near each probability is.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pipeline.data.catalog import read_catalog
from pipeline.data.whole_images import WholeImages
from pipeline.engine.api import open_run
from pipeline.paths import TRAIN_CATALOG
from pipeline.prediction.store import PredictionStore, StoreWriter
from pipeline.segmentation.ensemble import Recipe, combine
from pipeline.segmentation.predict import Prediction, Predictor, averaged_logits, pack, predict_batches, unpack
from pipeline.segmentation.samples import collate_valid
from pipeline.training.assemble import load_predictor, predicting_content
from pipeline.training.encoder import normalise, scaling_of
from pipeline.work.inputs import competition_folder

NUM_IMAGES = 6
RECIPES = [Recipe("AP"), Recipe("BP"), Recipe("MW"), Recipe("GEO")]


def open_member(name: str, tta: str) -> tuple[Predictor, WholeImages]:
    """The network of a trained run and some public images, spread over the list."""
    run = open_run(name)
    predictor = load_predictor(run, predicting_content(run))
    catalog = read_catalog(run.paths / TRAIN_CATALOG).drop(columns="mask")
    rows = catalog.iloc[len(catalog) // (2 * NUM_IMAGES) :: len(catalog) // NUM_IMAGES][:NUM_IMAGES]
    predictor = dataclasses.replace(predictor, settings=dataclasses.replace(predictor.settings, tta=tta))
    return predictor, run.task.valid_data(run, competition_folder(run), rows)


def predict_both(name: str, tta: str, folder: Path) -> tuple[PredictionStore, dict[str, Prediction]]:
    """A member's store, and the same predictions in float32."""
    predictor, dataset = open_member(name, tta)
    writer = StoreWriter(folder, "key", [row.id for row in dataset.rows], {}, pack)
    exact = {}
    for index in range(len(dataset)):
        batch = collate_valid([dataset[index]])
        ((image_id, prediction),) = predict_batches(predictor, [batch])
        writer.put(image_id, prediction)
        images_BHWC, frame = batch.images.to(predictor.device), batch.keys[0]
        with torch.inference_mode():
            logits_CHW = averaged_logits(
                predictor, normalise(images_BHWC, scaling_of(predictor.network, predictor.encoder))
            )[0]
        logits_CHW = logits_CHW[: predictor.num_classes].float().cpu().contiguous()
        exact[image_id] = Prediction(logits_CHW.numpy(), 1, False, frame.offset, frame.size)
    writer.finish()
    return PredictionStore(folder, unpack), exact


def compare(names: Sequence[str], tta: str, folder: Path) -> None:
    """Prints bytes and agreement of one kind of prediction."""
    stores, exact = zip(*[predict_both(name, tta, folder / name) for name in names], strict=True)
    shares, alone, num_pixels = [], [], 0
    for image_id in stores[0]:
        views, expected = [store.view(image_id) for store in stores], [member[image_id] for member in exact]
        pairs = zip(combine(views, RECIPES), combine(expected, RECIPES), strict=True)
        shares.append([(one == other).mean() for one, other in pairs])
        singles = [combine([member], RECIPES[:1])[0] for member in expected]
        alone.append(np.mean([(one == other).mean() for one in singles for other in singles if one is not other]))
        num_pixels += singles[0].size
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / len(names)
    share = num_bytes / (4 * len(views[0].logits) * num_pixels)
    print(
        f"{len(names)} members, TTA {tta}, {len(shares)} images; alone they agree on {np.mean(alone):.3f}\n"
        f"  {num_bytes / len(shares) / 1e6:.2f} MB an image, x{1 / share:.1f} of float32"
    )
    for recipe, mean, least in zip(RECIPES, np.mean(shares, 0), np.min(shares, 0), strict=True):
        bar = "" if recipe.method == "GEO" else "; bar 0.9997"
        print(f"  {recipe.method:<4} agreement {mean:.6f} (least {least:.6f}){bar}")


def main() -> None:
    torch.set_num_threads(1)
    for tta in ("none", "flip"):
        with tempfile.TemporaryDirectory() as folder:
            compare(sys.argv[1:], tta, Path(folder))


if __name__ == "__main__":
    main()
