"""Tries encoder families with every architecture, and writes the table of docs/networks.md.

    python -m tests.long.encoders                      all families, into docs/networks.md
    python -m tests.long.encoders --only swin maxvit   prints the rows of some

What the network of each pair takes is found on the meta device, as training does it, for tiles of 256 x 192. One pair
of each family then runs with random weights on the CPU, where its logits must be finite.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import torch

from pipeline.config.schema import Encoder, Model
from pipeline.data.padding import STRIDE
from pipeline.paths import PROJECT
from pipeline.segmentation.architectures import architectures, make_network
from pipeline.segmentation.networks import build_network, whole_logits
from pipeline.segmentation.probe import Build, find_build, other_sizes

TILE = (192, 256)  # height, width
OUTPUTS, CHANNELS = 3, 3
REFUSED = "refused: "
BEGIN, END = "<!-- the table begins: python -m tests.long.encoders -->", "<!-- the table ends -->"
# The smallest of each family, or nearly so.
NAMES = """
resnet18 resnext50_32x4d efficientnet-b0 timm-efficientnet-b0 timm-skresnet18 timm-resnest14d timm-regnetx_002
se_resnet50 densenet121 dpn68 vgg11_bn xception inceptionv4 inceptionresnetv2 mobilenet_v2 mobileone_s0 mit_b0
tu-convnext_atto tu-convnextv2_atto tu-maxvit_tiny_tf_512.in1k tu-maxvit_rmlp_pico_rw_256 tu-coatnet_nano_rw_224
tu-coat_lite_tiny tu-swin_tiny_patch4_window7_224 tu-swinv2_tiny_window8_256 tu-swinv2_cr_tiny_ns_224
tu-hiera_tiny_224 tu-hieradet_small tu-davit_tiny tu-pvt_v2_b0 tu-mvitv2_tiny tu-nest_tiny tu-twins_svt_small
tu-efficientvit_b0 tu-efficientformerv2_s0 tu-poolformer_s12 tu-edgenext_xx_small tu-mobilevit_xxs
tu-nextvit_small tu-fastvit_t8 tu-focalnet_tiny_srf tu-gcvit_xxtiny tu-tiny_vit_5m_224 tu-levit_128s
tu-cait_xxs24_224 tu-xcit_nano_12_p16_224 tu-vit_tiny_patch16_224 tu-deit_tiny_patch16_224
tu-beit_base_patch16_224 tu-vit_small_patch16_dinov3 tu-vit_small_patch14_dinov2 tu-hrnet_w18_small tu-dla34
tu-tresnet_m tu-lcnet_035 tu-repvit_m0_9 tu-starnet_s1 tu-mambaout_femto
"""
FAMILIES = NAMES.split()


def model_of(name: str, encoder: str) -> Model:
    return Model(name, "X", Encoder(encoder, "X", None))


def rule_of(build: Build) -> str:
    """Returns the size rule of a network in a cell: what frames are multiples of, and their smallest side; or `one`."""
    sizes = build.sizes
    least = f", from {sizes.smallest}" if sizes.smallest else ""
    return "one" if sizes.fixed else f"{sizes.multiple}{least}"


def row_of(encoder: str) -> tuple[list[str], str]:
    """Returns the cells of one encoder, a size rule or the words of a refusal each, and which architecture ran."""
    torch.set_num_threads(1)
    cells, names = [], columns()
    for name in names:
        make = functools.partial(make_network, model_of(name, encoder), OUTPUTS, CHANNELS, False)
        found = find_build(make, (CHANNELS, OUTPUTS), TILE, is_given=False)
        if isinstance(found, Build):
            cells.append(rule_of(found))
            continue
        words = found.reason.replace(encoder.removeprefix("tu-"), "ENCODER")
        sizes = " or ".join(f"{width} x {height}" for height, width in other_sizes(make, (CHANNELS, OUTPUTS), TILE))
        cells.append(f"{REFUSED}{words}{f'; runs at {sizes}' if sizes else ''}")
    try:
        return cells, run_one(encoder, names, cells)
    except Exception as error:  # the other rows are wanted all the same
        return cells, f"FAILED: {type(error).__name__}: {error}"


def columns() -> list[str]:
    return [name for name in architectures() if name != "PlainUnet"]


def run_one(encoder: str, names: Sequence[str], cells: Sequence[str]) -> str:
    """Runs the first pair that works with random weights; returns what it was given, or `no pair`."""
    name = next((name for name, cell in zip(names, cells, strict=True) if not cell.startswith(REFUSED)), None)
    if name is None:
        return "no pair"
    torch.manual_seed(0)
    network = build_network(model_of(name, encoder), OUTPUTS, CHANNELS, TILE).eval()
    larger = network.sizes.padded(TILE[0] + STRIDE, TILE[1] + 3 * STRIDE)
    with torch.inference_mode():
        for size in (network.sizes.padded(*TILE), larger):
            logits = whole_logits(network, torch.rand(1, CHANNELS, *size))
            if logits.shape != (1, OUTPUTS, *size) or not bool(torch.isfinite(logits).all()):
                return f"{name} FAILED at {size}: {tuple(logits.shape)}"
    return name


def table(encoders: Sequence[str], num_workers: int) -> str:
    """Returns the table as Markdown, and below it what the numbers of refusals mean."""
    names, reasons, lines, failed = columns(), [], [], []
    # Not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn")) as pool:
        for encoder, (cells, ran) in zip(encoders, pool.map(row_of, encoders), strict=True):
            words = [cell.removeprefix(REFUSED) for cell in cells if cell.startswith(REFUSED)]
            reasons += [one for one in dict.fromkeys(words) if one not in reasons]
            shown = [
                f"({reasons.index(cell.removeprefix(REFUSED)) + 1})" if cell.startswith(REFUSED) else cell
                for cell in cells
            ]
            lines.append(f"| `{encoder}` | {' | '.join(shown)} |")
            print(lines[-1], f"ran: {ran}", flush=True)
            failed += [f"{encoder}: {ran}"] if "FAILED" in ran else []
    if failed:
        raise SystemExit("\n".join(["on the CPU these did not run:", *failed]))
    head = f"| encoder | {' | '.join(names)} |\n|---|{'---|' * len(names)}"
    below = [f"{number}. {reason}" for number, reason in enumerate(reasons, start=1)]
    return "\n".join([head, *lines, "", "Refused, in the library's words:", "", *below])


def main(arguments: Sequence[str]) -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--only", nargs="*", default=[], help="parts of the names of encoders")
    options.add_argument("--workers", type=int, default=1, help="processes at once, about 1 GB each")
    chosen_options = options.parse_args(arguments)
    only = chosen_options.only
    chosen = [encoder for encoder in FAMILIES if not only or any(word in encoder for word in only)]
    text = table(chosen, chosen_options.workers)
    if only:
        print(text)
        return
    path = PROJECT / "docs" / "networks.md"
    before, _, rest = path.read_text().partition(BEGIN)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main(sys.argv[1:])
