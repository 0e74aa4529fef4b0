"""Reading five members of one image and reducing them to AP, BP and MW, and writing them, against the naive way.

    python -m tests.benchmarks.bench_ensemble

Naive (the original's): float32 softmax as .npy per member; load, stack, one-hot votes. Ours: quarter-size float16
logits in a store, upsampled and summed a few rows at a time. Memory is what a process of its own holds beyond the
start (anonymous pages at their peak), for 5 and for 20 members, with full-size bytes too.

A store is written shard by shard and made durable at its end, so its writing is measured over one shard of images
per member and given per image: first as the naive way does it, which leaves the bytes to the operating system, then
with both flushed to the disk. Wall times depend on the disk and on what else is written there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.prediction.progress import IMAGES_PER_FILE
from pipeline.prediction.store import PredictionStore, StoreWriter
from pipeline.segmentation.compact import CompactLogits, to_codes
from pipeline.segmentation.ensemble import Recipe, combine
from pipeline.segmentation.predict import Prediction, full_logits, pack, unpack
from tests.benchmarks.timing import alternate, show

NUM_CLASSES, HEIGHT, WIDTH = 12, 720, 1280
RECIPES = [Recipe("AP"), Recipe("BP"), Recipe("MW")]


def draw_member(seed: int) -> Prediction:
    """Smooth logits of a quarter of the frame 1280x736, as an FPN gives them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((1, NUM_CLASSES, 23, 40), generator=generator) * 4
    logits = torch.nn.functional.interpolate(coarse, size=(184, 320), mode="bicubic")[0].half().numpy()
    return Prediction(logits, 4, True, (8, 0), (HEIGHT, WIDTH))


def full_size(member: Prediction) -> Prediction:
    """The same as a network without an upsampling head gives it."""
    codes = to_codes(full_logits(member)[None])[0].numpy()
    return Prediction(CompactLogits(codes), 1, False, (0, 0), (HEIGHT, WIDTH))


def naive_masks(folder: Path, num_members: int) -> list[np.ndarray]:
    stacked_MCHW = torch.stack(
        [torch.from_numpy(np.load(folder / f"naive-{member}.npy")) for member in range(num_members)]
    )
    votes_CHW = torch.nn.functional.one_hot(stacked_MCHW.argmax(1), NUM_CLASSES).sum(0).movedim(-1, 0)
    highest_CHW = stacked_MCHW.amax(0)
    majority = torch.where(votes_CHW == votes_CHW.amax(0), highest_CHW, -1.0).argmax(0)
    return [mask.numpy().astype(np.uint8) for mask in (stacked_MCHW.mean(0).argmax(0), highest_CHW.argmax(0), majority)]


def numpy_masks(folder: Path, num_members: int) -> list[np.ndarray]:
    stacked = np.stack([np.load(folder / f"naive-{member}.npy") for member in range(num_members)])
    average = stacked.mean(0).argmax(0)
    best = stacked.max(0).argmax(0)
    votes = np.eye(NUM_CLASSES, dtype=np.float32)[stacked.argmax(1)].sum(0).transpose(2, 0, 1)
    majority = np.where(votes == votes.max(0), stacked.max(0), -1).argmax(0)
    return [mask.astype(np.uint8) for mask in (average, best, majority)]


def our_masks(folder: Path, num_members: int, kind: str = "store") -> list[np.ndarray]:
    views = [PredictionStore(folder / f"{kind}-{member}", unpack).view("p") for member in range(num_members)]
    return combine(views, RECIPES)


def our_full_masks(folder: Path, num_members: int) -> list[np.ndarray]:
    return our_masks(folder, num_members, "full")


def write_naive(folder: Path, members: list[Prediction]) -> None:
    for index, member in enumerate(members):
        np.save(folder / f"naive-{index}.npy", full_logits(member).softmax(0).numpy())


def write_ours(folder: Path, members: list[Prediction], kind: str = "store") -> None:
    for index, member in enumerate(members):
        writer = StoreWriter(folder / f"{kind}-{index}", str(index), ["p"], {}, pack)
        writer.put("p", member)
        writer.finish()


def peak_anonymous_mb(folder: Path, way: str, num_members: int) -> float:
    """Peak of a child's anonymous memory while it reduces, less what it held before (in MB)."""
    code = (
        "import sys, threading, time\n"
        "from pathlib import Path\n"
        "from tests.benchmarks import bench_ensemble as bench\n"
        "import torch; torch.set_num_threads(1); torch.randn(9).softmax(0)\n"
        "def held():\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    return next(int(line.split()[1]) for line in lines if line.startswith('RssAnon')) / 1024\n"
        "start, peak = held(), [0.0]\n"
        "def watch():\n"
        "    while True:\n"
        "        peak[0] = max(peak[0], held()); time.sleep(0.002)\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
        f"bench.{way}(Path(sys.argv[1]), {num_members})\n"
        "print(max(peak[0], held()) - start)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    return float(result.stdout)


def main() -> None:
    torch.set_num_threads(1)
    members = [draw_member(seed) for seed in range(20)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_naive(folder, members[:5])
        write_ours(folder, members)
        write_ours(folder, [full_size(member) for member in members], "full")
        naive = naive_masks(folder, 5)
        for name, ours in (("", our_masks(folder, 5)), (" at full size", our_full_masks(folder, 5))):
            agreement = [f"{(one == other).mean():.6f}" for one, other in zip(naive, ours, strict=True)]
            print(f"same pixels as the naive way{name}, AP, BP, MW: {', '.join(agreement)}")
        print("  (independent random members, the hardest case; bench_members has trained ones)")
        ways = {
            "load, stack, one-hot votes": lambda: naive_masks(folder, 5),
            "the same in NumPy": lambda: numpy_masks(folder, 5),
            "store, a few rows at a time": lambda: our_masks(folder, 5),
            "store at full size, a few rows at a time": lambda: our_full_masks(folder, 5),
            "store, AP only": lambda: combine(
                [PredictionStore(folder / f"store-{index}", unpack).view("p") for index in range(5)], [Recipe("AP")]
            ),
        }
        show("5 members of one image, 12 x 720 x 1280, to AP, BP and MW", alternate(ways, 3), "x4 (x12 compiled)")
        naive_mb = peak_anonymous_mb(folder, "naive_masks", 5)
        print(f"\npeak memory: naive {naive_mb:.0f} MB")
        for name, way in (("store", "our_masks"), ("store at full size", "our_full_masks")):
            five, twenty = (peak_anonymous_mb(folder, way, num_members) for num_members in (5, 20))
            print(f"  {name}: {five:.0f} MB ({five / naive_mb:.3f}), with 20 members {twenty:.0f} MB")
        print("bar: at most a quarter, independent of the number of members")
        compare_writing(folder, members[:5])


def compare_writing(folder: Path, members: list[Prediction]) -> None:
    ids = [f"{number}" for number in range(IMAGES_PER_FILE)]
    probs = [full_logits(member).softmax(0).numpy() for member in members]
    fresh = iter(range(10**6))

    def save_naive(is_durable: bool) -> None:
        for index, array in enumerate(probs):
            with open(folder / f"naive-{index}.npy", "wb") as file:
                np.save(file, array)
                if is_durable:
                    os.fsync(file.fileno())

    def save_stores(is_durable: bool, kept: list[Prediction]) -> None:
        target = folder / f"again-{next(fresh)}"
        for index, member in enumerate(kept):
            writer = StoreWriter(target / f"{index}", f"{index}", ids, {}, pack)
            for image_id in ids:
                writer.put(image_id, member)
            if is_durable:
                writer.finish()
        shutil.rmtree(target)

    full = [full_size(member) for member in members]
    for is_durable, title in ((False, "left to the operating system"), (True, "flushed to the disk")):
        ways = {
            "np.save float32 softmax": partial(save_naive, is_durable),
            "store": partial(save_stores, is_durable, members),
            "store, full size": partial(save_stores, is_durable, full),
        }
        seconds = alternate(ways, 3)
        for name in list(ways)[1:]:
            seconds[name] = [(wall / len(ids), processor / len(ids)) for wall, processor in seconds[name]]
        show(f"writing 5 members of one image, {title}", seconds, "x10 before the head's upsampling")


if __name__ == "__main__":
    main()
