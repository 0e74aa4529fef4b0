"""Prediction in overlapping windows against the whole image: how near to the cost of the windows' pixels.

    python -m tests.benchmarks.bench_windows

FPN/resnet18, 12 classes, a frame of 1280x736 in windows of 640x352. The whole image is the reference; a window way
costs at best the pixels of its windows, and what it takes beyond that is cutting, weighting and summing. On a busy
machine that is lost in the noise of the network, so it is also measured alone, with a network that answers at once.
The peer is the sliding window of pytorch-toolbelt.
"""

from __future__ import annotations

import dataclasses
import warnings

import torch

from pipeline.config.load import load
from pipeline.segmentation.networks import build_network
from pipeline.segmentation.predict import Predictor, averaged_logits
from pipeline.segmentation.windows import window_starts
from tests.benchmarks.timing import alternate

NUM_CLASSES, HEIGHT, WIDTH = 12, 736, 1280
WINDOW = (640, 352)
OVERLAPS = (0.0, 0.25, 0.5)


class Answer(torch.nn.Module):
    """Takes no time to answer."""

    def __init__(self, logits_BCHW: torch.Tensor) -> None:
        super().__init__()
        self.logits_BCHW = logits_BCHW

    def forward(self, window_BCHW: torch.Tensor) -> torch.Tensor:
        return self.logits_BCHW


def toolbelt_logits(network: torch.nn.Module, image_BCHW: torch.Tensor, step: tuple[int, int]) -> torch.Tensor:
    """The peer's way: a pyramid-weighted merger over the same windows, one window at a time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_toolbelt.inference.tiles import ImageSlicer, TileMerger
    slicer = ImageSlicer((HEIGHT, WIDTH, 3), tile_size=WINDOW[::-1], tile_step=step)
    merger = TileMerger(slicer.target_shape, NUM_CLASSES, slicer.weight, device="cpu")
    padded = torch.zeros((1, 3, *slicer.target_shape[:2]))
    top, left = slicer.margin_top, slicer.margin_left
    padded[:, :, top : top + HEIGHT, left : left + WIDTH] = image_BCHW
    for x, y, width, height in slicer.crops:
        merger.integrate_batch(network(padded[:, :, y : y + height, x : x + width]), [(x, y, width, height)])
    return merger.merge()


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    loaded = load("demo")
    encoder = dataclasses.replace(loaded.config.model.encoder, name="resnet18", weights=None)
    model = dataclasses.replace(loaded.config.model, name="FPN", encoder=encoder)
    network = build_network(model, NUM_CLASSES).eval()
    network = network.to(memory_format=torch.channels_last)
    image = torch.randn((1, 3, HEIGHT, WIDTH)).contiguous(memory_format=torch.channels_last)

    def predictor(mode: str, overlap: float, network: torch.nn.Module = network) -> Predictor:
        settings = dataclasses.replace(loaded.config.predict, mode=mode, window=WINDOW, overlap=overlap)
        return Predictor(network, encoder, settings, NUM_CLASSES, torch.device("cpu"), torch.float32)

    with torch.inference_mode():
        answer = Answer(network(image[:, :, : WINDOW[1], : WINDOW[0]]))
    pixels = {}
    ways = {"whole": lambda: averaged_logits(predictor("full", 0.0), image)}
    for overlap in OVERLAPS:
        starts = [
            window_starts(length, window, overlap) for length, window in zip((HEIGHT, WIDTH), WINDOW[::-1], strict=True)
        ]
        shapes = len(starts[0]) * len(starts[1])
        crop = image[:, :, : WINDOW[1], : WINDOW[0]].contiguous(memory_format=torch.channels_last)
        name = f"windows, overlap {overlap}"
        pixels[name] = shapes * WINDOW[0] * WINDOW[1] / (HEIGHT * WIDTH)
        ways[name] = lambda overlap=overlap: averaged_logits(predictor("window", overlap), image)
        ways[f"bare network, {shapes} windows"] = lambda crop=crop, shapes=shapes: [
            network(crop) for _ in range(shapes)
        ]
        ways[f"no network, {shapes} windows"] = lambda overlap=overlap: averaged_logits(
            predictor("window", overlap, answer), image
        )
    step = tuple(int(side * 0.75) for side in WINDOW[::-1])
    ways["pytorch-toolbelt, overlap 0.25"] = lambda: toolbelt_logits(network, image, step)
    with torch.inference_mode():
        seconds = {name: min(one[1] for one in rows) for name, rows in alternate(ways, 2).items()}
    print(f"FPN/resnet18, {WIDTH}x{HEIGHT}, windows of {WINDOW[0]}x{WINDOW[1]}; least processor time of the rounds")
    names = list(seconds)
    for name in names:
        line = f"  {name:32s} {1e3 * seconds[name]:9.1f} ms   x{seconds[name] / seconds['whole']:.2f} of the whole"
        if name in pixels:
            bare, rest = (seconds[names[names.index(name) + further]] for further in (1, 2))
            line += f", pixels x{pixels[name]:.2f}; {100 * (seconds[name] / bare - 1):+.1f} % over the bare network, "
            line += f"{100 * rest / bare:+.1f} % measured alone"
        print(line)
    print("  bar: within 5 % of pixel cost")


if __name__ == "__main__":
    main()
