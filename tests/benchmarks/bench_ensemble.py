"""Reading five members of one picture and reducing them to AP, BP and MW, and writing them, against the naive way.

    python -m tests.benchmarks.bench_ensemble

Naive (the original's): float32 softmax as .npy per member; load, stack, one-hot votes. Ours: quarter-size float16
logits in a store, upsampled and summed a few rows at a time. Memory is what a process of its own holds beyond the
start (anonymous pages at their peak), for 5 and for 20 members.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from pipeline.inference.ensemble import Recipe, combine
from pipeline.inference.predict import Prediction, full_logits
from pipeline.inference.probability_store import ProbabilityStore, StoreWriter
from tests.benchmarks.timing import alternate, show

NUM_CLASSES, HEIGHT, WIDTH = 12, 720, 1280
RECIPES = [Recipe("AP"), Recipe("BP"), Recipe("MW")]


def draw_member(seed: int) -> Prediction:
    """Smooth logits of a quarter of the frame 1280x736, as an FPN gives them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((1, NUM_CLASSES, 23, 40), generator=generator) * 4
    logits = torch.nn.functional.interpolate(coarse, size=(184, 320), mode="bicubic")[0].half().numpy()
    return Prediction(logits, 4, True, (8, 0), (HEIGHT, WIDTH))


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


def our_masks(folder: Path, num_members: int) -> list[np.ndarray]:
    views = [ProbabilityStore(folder / f"store-{member}").view("p") for member in range(num_members)]
    return combine(views, RECIPES)


def write_naive(folder: Path, members: list[Prediction]) -> None:
    for index, member in enumerate(members):
        np.save(folder / f"naive-{index}.npy", full_logits(member).softmax(0).numpy())


def write_ours(folder: Path, members: list[Prediction]) -> None:
    for index, member in enumerate(members):
        writer = StoreWriter(folder / f"store-{index}", str(index), ["p"], {"classes": [], "competition": "bench"})
        if writer.missing():
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
        naive, ours = naive_masks(folder, 5), our_masks(folder, 5)
        agreement = [float((one == other).mean()) for one, other in zip(naive, ours, strict=True)]
        print(f"same pixels as the naive way, AP, BP, MW: {', '.join(f'{share:.6f}' for share in agreement)}")
        ways = {
            "load, stack, one-hot votes": lambda: naive_masks(folder, 5),
            "the same in NumPy": lambda: numpy_masks(folder, 5),
            "store, a few rows at a time": lambda: our_masks(folder, 5),
            "store, AP only": lambda: combine(
                [ProbabilityStore(folder / f"store-{index}").view("p") for index in range(5)], [Recipe("AP")]
            ),
        }
        show("5 members of one picture, 12 x 720 x 1280, to AP, BP and MW", alternate(ways, 3), "x4 (x12 compiled)")
        memory = [peak_anonymous_mb(folder, *of) for of in (("naive_masks", 5), ("our_masks", 5), ("our_masks", 20))]
        ratio = memory[1] / memory[0]
        print(
            f"\npeak memory: naive {memory[0]:.0f} MB, ours {memory[1]:.0f} MB ({ratio:.3f}), "
            f"with 20 members {memory[2]:.0f} MB"
        )
        print("bar: at most a quarter, independent of the number of members")
        fresh = iter(range(10**6))

        def write_afresh() -> None:
            target = folder / f"again-{next(fresh)}"
            target.mkdir()
            write_ours(target, members[:5])

        probs = [full_logits(member).softmax(0).numpy() for member in members[:5]]

        def save_naive() -> None:
            for index, array in enumerate(probs):
                np.save(folder / f"naive-{index}.npy", array)

        ways = {"np.save float32 softmax": save_naive, "store": write_afresh}
        show("writing 5 members of one picture", alternate(ways, 3), "x10")


if __name__ == "__main__":
    main()
