"""What an ensemble makes of each image: its members' predictions from their stores, or straight from their networks.

In: who predicts which image, and what is to be made of the predictions. Out: small arrays by image. With
ENSEMBLE.STREAM nothing but these arrays touches the disk; they lie in `stream/` of the ensemble's run until the stage
is done, so that a killed one goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from pipeline.data.catalog import read_catalog
from pipeline.data.dataset import ValidDataset
from pipeline.data.loaders import available_workers
from pipeline.engine.chain import why_run
from pipeline.engine.run import Run
from pipeline.errors import DiskTooSmall, Stopped, UserError
from pipeline.files import GIB, check_disk
from pipeline.inference.agreement import agreement
from pipeline.inference.load import load_predictor
from pipeline.inference.predict import Prediction, stored_bytes
from pipeline.inference.probability_store import USUAL_SHARE, ProbabilityStore
from pipeline.inference.progress import Progress
from pipeline.inference.streaming import Source, stream
from pipeline.paths import BEST, PROBS, STREAM, TEST_CATALOG
from pipeline.training.checkpoint import load_or_refuse
from pipeline.training.inputs import split_rows
from pipeline.work.inputs import image_folder
from pipeline.work.member_inputs import member_runs
from pipeline.work.members import WITHOUT_STORES

Arrays = dict[str, np.ndarray]
Make = Callable[[str, Sequence[Prediction]], Arrays]
NUM_COMPARED = 2  # images of each store that are held against its network: a million pixels or two


def make_each(
    run: Run, subset: str, wanted: Mapping[str, Sequence[int]], make: Make, name: str
) -> Callable[[str], Arrays]:
    """Returns a function that gives what `make` makes of an image.

    Args:
        subset: "valid" or "test".
        wanted: numbers of the members that predict an image, by its id.
        make: from an image's id and the predictions of those members, in that order, to small arrays.
        name: of this pass, which has no other of the same name in its stage.
    """
    if not run.loaded.config.ensemble.stream:
        from pipeline.inference.probability_store import ProbabilityStore

        stores = [ProbabilityStore(member.paths / PROBS[subset]) for member in member_runs(run)]
        return lambda image_id: make(image_id, [stores[number].view(image_id) for number in wanted[image_id]])
    return _streamed(run, subset, wanted, make, name)


def check_room(run: Run) -> None:
    """Logs what the members' stores will take of the disk together, before the first of them is written.

    Raises:
        UserError: the disk is too small; names the way without stores.
    """

    total, names = 0, []
    for number, member in enumerate(member_runs(run)):
        due = [
            subset
            for subset, stage in (("valid", "evaluate"), ("test", "predict"))
            if why_run(member.stage(stage), member) is not None or not (member.paths / PROBS[subset]).is_dir()
        ]
        sources = {subset: _sources(run, subset)[number] for subset in due}
        predictor = sources[due[0]].open() if due else None  # whether it ends in an upsampling decides the size
        for subset, source in sources.items():
            frames = map(source.dataset.frame, range(len(source.dataset)))
            num_bytes, is_exact = stored_bytes(predictor, frames)
            written = sum(path.stat().st_size for path in (member.paths / PROBS[subset]).glob("shard-*"))
            total += max(0, (num_bytes if is_exact else round(num_bytes * USUAL_SHARE)) - written)
        names += [member.name] if due else []
    if names:
        more = f"about {total:,} bytes more ({total / GIB:.2f} GiB) than now"
        run.log(f"disk: the probabilities of {len(names)} members will take {more}")
        try:
            check_disk(run.folders.runs, total, f"storing the probabilities of {len(names)} members")
        except DiskTooSmall as error:
            raise UserError(f"{error}\n{WITHOUT_STORES}") from None


def store_facts(run: Run, number: int) -> dict[str, Any]:
    """Returns what a member's stores take of the disk, and how well they keep its classes.

    `float32_bytes` is what full-size float32 probabilities of the same images would take.
    """

    member = member_runs(run)[number]
    source = _sources(run, "test")[number]
    dataset = source.dataset
    rows = [*split_rows(member.paths, "valid").itertuples(), *dataset.rows]
    files = [path for probs in PROBS.values() for path in (member.paths / probs).iterdir()]
    indices = sorted({0, len(dataset) // 2})[:NUM_COMPARED]
    share = agreement(source.open(), dataset, indices, ProbabilityStore(member.paths / PROBS["test"]))
    num_pixels = sum(int(row.width) * int(row.height) for row in rows)
    return {
        "bytes": sum(path.stat().st_size for path in files),
        "images": len(rows),
        "float32_bytes": 4 * run.loaded.competition.num_classes * num_pixels,
        "agreement": share,
        "compared": len(indices),
    }


def forget_streamed(run: Run) -> None:
    """Removes what a stage kept of each image, once it is done."""
    shutil.rmtree(run.paths / STREAM, ignore_errors=True)


def _streamed(
    run: Run, subset: str, wanted: Mapping[str, Sequence[int]], make: Make, name: str
) -> Callable[[str], Arrays]:
    """Lets the networks predict what is missing, and returns the function that gives the results."""

    progress = Progress(run.paths / STREAM / name, f"{run.key} {name}", list(wanted))
    missing = progress.missing()
    if not missing:
        return progress.__getitem__
    if len(missing) < len(wanted):
        run.log(f"resuming: {len(wanted) - len(missing)} of {len(wanted)} images are done ({name})")
    options = [member.loaded.config.dataloaders.valid for member in member_runs(run)]
    num_threads = available_workers(max(option.num_workers for option in options), run.log)
    images = stream(_sources(run, subset), {image_id: wanted[image_id] for image_id in missing}, num_threads)
    with tqdm(total=len(missing), desc=f"stream {name}", unit="image", leave=False, disable=None) as bar:
        for image_id, predictions in images:
            progress.put(image_id, make(image_id, predictions))
            bar.update()
            if run.stop.requested:  # the time budget; whole parts are kept
                raise Stopped(f"{run.stop.reason}, {bar.n} of {len(missing)} images combined ({name})")
    return progress.__getitem__


def _sources(run: Run, subset: str) -> list[Source]:
    """Returns the members, each with the images that its store would hold, in that store's order and batches."""

    def source(member: Run) -> Source:
        config, path = member.loaded.config, member.paths / BEST
        is_test = subset == "test"
        rows = read_catalog(member.paths / TEST_CATALOG) if is_test else split_rows(member.paths, "valid")
        rows = rows.drop(columns="mask", errors="ignore")  # predicting needs no masks
        dataset = ValidDataset(image_folder(member, subset), rows, padding=config.datasets.padding)

        def open_network():
            content = load_or_refuse(path, f"train it: ./run.sh {member.name} train")
            return load_predictor(member.loaded, content, path)

        return Source(open_network, dataset, config.dataloaders.valid.batch_size)

    return [source(member) for member in member_runs(run)]
