"""The command `export`: a trained network as files that other programs read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.table import Parser, add_config
from pipeline.errors import UserError
from pipeline.files import write_atomic, write_json
from pipeline.optional import install_command
from pipeline.paths import EXPORT, TRAIN_CATALOG, shown

if TYPE_CHECKING:
    from pipeline.engine.run import Run
    from pipeline.training.onnx_file import ExportedFiles

PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def export_command(options: Parser, arguments: Sequence[str]) -> None:
    """Writes the files, compares each with the network, and says how to use them."""
    add_config(options)
    options.add_argument(
        "--to", metavar="FOLDER", type=Path, help="where to write; default: exported/ in the run folder"
    )
    options.add_argument(
        "--trust-code", action="store_true", help="run a network of your own (MODEL.NAME: FILE.py:FUNCTION)"
    )
    chosen = options.parse_args(arguments)

    from pipeline.engine.api import open_run

    run = open_run(chosen.name, chosen.overrides, trust_code=chosen.trust_code)
    if run.loaded.is_ensemble:
        members = ", ".join(run.loaded.config.ensemble.members)
        raise UserError(
            f"{chosen.name} is an ensemble, which cannot be exported; export its members one by one: {members}"
        )
    _export(run, chosen.to or run.paths / EXPORT)


def _export(run: Run, folder: Path) -> None:
    from pipeline.training.assemble import load_predictor, predicting_content

    predictor = load_predictor(run, predicting_content(run))
    try:
        exported = run.task.export(predictor, _usual_size(run), folder)
    except ImportError as error:
        raise UserError(
            f"{error.name or error} is not installed; ONNX needs it (it is optional). Install it: "
            f"{install_command(*PACKAGES)}"
        ) from None
    facts = {"run": run.name, "classes": list(run.loaded.competition.class_names), **exported.facts}
    write_json(folder / "export.json", facts)
    write_atomic(folder / "README.md", read_me(facts, exported))
    for line in summary(facts):
        print(line)
    print(f"how to use them: {shown(folder / 'README.md')}")


def _usual_size(run: Run) -> tuple[int, int]:
    """Returns the (height, width) in which the network saw its training images most often."""
    from pipeline.data.catalog import read_catalog

    tile = run.loaded.config.datasets.augmentation.tile
    if tile.enable:
        return tile.height, tile.width
    catalog = read_catalog(run.paths / TRAIN_CATALOG)
    return catalog[["height", "width"]].value_counts().index[0]


def summary(facts: Mapping[str, Any]) -> list[str]:
    """Returns what was written, a line each."""
    onnx, library = facts["onnx"], facts["library"]
    sizes = "images of any size" if onnx["size"] is None else "only images of {1}x{0} pixels".format(*onnx["size"])
    lines = [f"network.onnx takes {sizes}; {_agreement(onnx)}"]
    if library is None:
        return [*lines, "pretrained/ was not written: the network is not from segmentation_models_pytorch"]
    return [*lines, f"pretrained/ loads with segmentation_models_pytorch; {_agreement(library)}"]


def _agreement(written: Mapping[str, Any]) -> str:
    return f"its outputs differ from the network's by at most {written['difference']:.0e} of the largest value"


def read_me(facts: Mapping[str, Any], exported: ExportedFiles) -> str:
    """Returns how to use the files, as Markdown."""
    step, size, names, channels = facts["multiple"], facts["onnx"]["size"], facts["classes"], len(facts["mean"])
    least = f", at least {facts['smallest']}" if facts["smallest"] else ""
    sizes = f"multiples of {step}{least}" if size is None else "{} and {}, no others".format(*size)
    side = max(4 * step, facts["smallest"])
    example = f"(1, {channels}, {', '.join(map(str, size or (side, side)))})"
    imports = "import json\n\n" if "json." in exported.code else ""
    text = f"""# The network of {facts["run"]}

Classes, in the order of the outputs: {", ".join(f"{number} {name}" for number, name in enumerate(names))}.

## ONNX

- `image`: float32 (batch, {channels}, height, width), the pixel values of the file, {facts["low"]:g} to
  {facts["high"]:g}; the network normalizes them itself.
  Channels are in the order of the file: red, green, blue.
- Height and width: {sizes}. Pad smaller images {exported.padding}.
{exported.outputs}
```python
{imports}import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("network.onnx")
image = np.zeros({example}, np.float32)  # your image
{exported.code}```
"""
    if facts["library"] is None:
        return text
    scale, spread = facts["input_scale"], facts["high"] - facts["low"]
    resize = f"\nThen resize the images by {scale:g}, and the logits back." if scale != 1 else ""
    return f"""{text}
## segmentation_models_pytorch

This network does not normalize the images. From each channel, subtract {facts["low"]:g}, divide by {spread:g}, subtract
the mean and divide by the standard deviation: {list(facts["mean"])} and {list(facts["std"])}.{resize}
The first {len(names)} channels of its logits are those of the classes.

```python
import segmentation_models_pytorch as smp

network = smp.from_pretrained("pretrained").eval()
```
"""
