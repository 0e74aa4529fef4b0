"""What each option of losses, copies and component rules costs, as a ratio to the plain one of the same run.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m tests.benchmarks.bench_options [losses] [copies] [rules]

A loss: forward and backward of a training step on 2 x 12 x 224 x 416 with FPN/resnet18, and the loss alone. Copies: the
prediction of one image. Rules: decoding of one stored prediction of 720 x 1280 of blobs, and what fitting tries of it.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.config.component_rules import parse_components
from pipeline.config.load import load
from pipeline.config.loss_mix import parse_mix
from pipeline.segmentation import losses, losses_by_class
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.component_fitting import try_components
from pipeline.segmentation.components import Changing, with_components
from pipeline.segmentation.ensemble import Recipe, combine
from pipeline.segmentation.input_scale import with_input_scale
from pipeline.segmentation.networks import build_network
from pipeline.segmentation.planes import FULL
from pipeline.segmentation.predict import Prediction, Predictor, averaged_logits
from pipeline.segmentation.scores import image_scores
from tests.benchmarks.timing import Seconds, alternate

NUM_CLASSES, BATCH, HEIGHT, WIDTH, BLOB_PX = 12, 2, 224, 416, 16
IMAGE_PX = (720, 1280)
SOFTMAX_MIXES = (
    *("ce", "ce(stride=8)", "ce(top=0.2)", "ce(top=0.1, below=0.7)", "ce(smooth=0.1)", "focal", "focal(gamma=0.5)"),
    *("focal(top=0.2)", "tversky", "tversky(alpha=0.5, beta=1)", "0.7 ce + 0.3 tversky(alpha=0.3, beta=0.7)"),
)
SIGMOID_MIXES = (
    "bce",
    "bce(stride=8)",
    "bce(top=0.2)",
    "bce(top=0.1, below=0.7)",
    "bce(smooth=0.1)",
    "bce(positive=3)",
)
COPIES = {
    "scales 0.75, 1, 1.25": {"scales": (0.75, 1.0, 1.25)},
    "the same, weighted": {"scales": (0.75, 1.0, 1.25), "scale_weights": (1.0, 2.0, 1.0)},
    "scales 0.75, 1, 1.5": {"scales": (0.75, 1.0, 1.5)},
    "flip": {"tta": "flip"},
    "d2": {"tta": "d2"},
    "flip at three scales": {"tta": "flip", "scales": (0.75, 1.0, 1.25)},
    "d4 at three scales": {"tta": "d4", "scales": (0.75, 1.0, 1.25)},
}
RULES = (
    *("min_area(all, share=0.001)", "fill_holes(all, share=0.01)", "largest(all)", "hysteresis(all, high=0.8)"),
    *("hysteresis(all, high=0.8, low=0.3)", "min_area(all, share=0.001) + fill_holes(all, share=0.01)"),
)


def show(title: str, seconds: dict[str, list[Seconds]], note: str) -> None:
    """Prints the median processor time of each way, and its ratio to the first one, the plain one."""
    medians = {name: statistics.median(processor for _, processor in rows) for name, rows in seconds.items()}
    plain = next(iter(medians.values()))
    print(f"\n{title} ({note})")
    for name, own in medians.items():
        print(f"  {name:52s} {1e3 * own:9.1f} ms  x{own / plain:.2f}")


def blobs(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Returns class indices, constant in squares, uint8."""
    *first, height, width = shape
    small = torch.randint(0, NUM_CLASSES, (*first, -(-height // BLOB_PX), -(-width // BLOB_PX)), generator=generator)
    return small.repeat_interleave(BLOB_PX, -2).repeat_interleave(BLOB_PX, -1)[..., :height, :width].to(torch.uint8)


def time_losses(network: torch.nn.Module) -> None:
    """Prints the losses alone, and in a step of the network."""
    generator = torch.Generator().manual_seed(0)
    mask = blobs(generator, BATCH, HEIGHT, WIDTH)
    planes = F.one_hot(mask.long(), NUM_CLASSES).to(torch.uint8) * FULL
    logits = 2 * torch.randn((BATCH, NUM_CLASSES, HEIGHT, WIDTH), generator=generator)
    image = torch.randn((BATCH, 3, HEIGHT, WIDTH), generator=generator).contiguous(memory_format=torch.channels_last)
    kinds = (
        ("one class", losses.mixed_loss, mask, SOFTMAX_MIXES),
        ("several", losses_by_class.mixed_loss, planes, SIGMOID_MIXES),
    )
    for kind, mixed, labels, texts in kinds:
        mixes = {text: parse_mix(text) for text in texts}

        def alone(mix: tuple, mixed=mixed, labels=labels) -> None:
            mixed(mix, logits.detach().requires_grad_(), labels).total.backward()

        def step(mix: tuple, mixed=mixed, labels=labels) -> None:
            network.zero_grad(set_to_none=True)
            mixed(mix, network(image), labels).total.backward()

        for name, way, rounds in (("loss alone", alone, 7), ("step", step, 3)):
            ways = {text: lambda mix=mix, way=way: way(mix) for text, mix in mixes.items()}
            show(f"{name}, {kind} per pixel", alternate(ways, rounds), f"forward and backward, against {texts[0]}")


def time_copies(network: torch.nn.Module) -> None:
    """Prints the prediction of an image by TTA and scales, and through an enlarged network."""
    config = load("demo").config
    image = torch.randn((1, 3, HEIGHT, WIDTH)).contiguous(memory_format=torch.channels_last)

    def predictor(own: torch.nn.Module, **settings: object) -> Predictor:
        predict = dataclasses.replace(config.predict, **{"mode": "full", "tta": "none", **settings})
        return Predictor(own, config.model.encoder, predict, NUM_CLASSES, torch.device("cpu"), torch.float32)

    larger = with_input_scale(build(), 2.0).eval()
    ways = {"plain": predictor(network), **{name: predictor(network, **own) for name, own in COPIES.items()}}
    ways["INPUT_SCALE 2"] = predictor(larger)
    with torch.inference_mode():
        timed = {name: lambda own=own: averaged_logits(own, image) for name, own in ways.items()}
        show(f"prediction of {HEIGHT} x {WIDTH}", alternate(timed, 3), "against one copy at its own size")


def time_rules() -> None:
    """Prints decoding with rules for components, and the trial of all candidates that a fit makes of an image."""
    generator = torch.Generator().manual_seed(1)
    truth = blobs(generator, *IMAGE_PX).numpy()
    low = F.one_hot(blobs(generator, IMAGE_PX[0] // 4, IMAGE_PX[1] // 4).long(), NUM_CLASSES).permute(2, 0, 1).float()
    noise = torch.randn(low.shape, generator=generator)
    prediction, recipe = (
        Prediction((4 * low + noise).numpy().astype(np.float16), 4, False, (0, 0), IMAGE_PX),
        Recipe("AP"),
    )
    classes = tuple(f"class {index}" for index in range(NUM_CLASSES))

    def decoded(rules: tuple) -> np.ndarray:
        return with_components([prediction], recipe, combine([prediction], [recipe])[0], rules)

    def tried() -> object:
        mask = combine([prediction], [recipe])[0]
        changing = Changing([prediction], recipe, mask, (), range(NUM_CLASSES))
        score = lambda found: image_scores(SOFTMAX.count_masks(found, truth, NUM_CLASSES))["dice"]  # noqa: E731
        return try_components("a", "a", changing, score, range(NUM_CLASSES))

    ways = {"plain": lambda: decoded(())}
    for text in RULES:
        rules = parse_components(text, classes, range(NUM_CLASSES))
        ways[text] = lambda rules=rules: decoded(rules)
    ways["all candidates of DECODE.COMPONENTS: fitted"] = tried
    show("decoding of 720 x 1280, 12 classes of blobs", alternate(ways, 3), "against no rules")


def build() -> torch.nn.Module:
    """Returns the network of the measurement."""
    torch.manual_seed(0)
    model = load("demo").config.model
    encoder = dataclasses.replace(model.encoder, name="resnet18", weights=None)
    return build_network(dataclasses.replace(model, name="FPN", encoder=encoder), NUM_CLASSES)


def main() -> None:
    """Prints the parts that are named on the command line, or all of them."""
    torch.set_num_threads(1)
    network, chosen = build(), sys.argv[1:] or ("losses", "copies", "rules")
    if "losses" in chosen:
        time_losses(network.train())
    if "copies" in chosen:
        time_copies(network.eval())
    if "rules" in chosen:
        time_rules()


if __name__ == "__main__":
    main()
