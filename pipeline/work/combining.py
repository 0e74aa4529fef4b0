"""Results of an ensemble by image, from its members' stores or directly from their networks.

In: the members that predict each image, and a function of their predictions. Out: small arrays by image. With
ENSEMBLE.STREAM only these arrays are written, to `stream/` of the ensemble's run until the stage is done, so that a
killed stage resumes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from pipeline.data.catalog import read_catalog
from pipeline.data.loaders import available_workers
from pipeline.engine.dependence import why_run
from pipeline.engine.run import Run
from pipeline.errors import DiskTooSmall, Stopped, UserError
from pipeline.files import GIB, check_disk
from pipeline.paths import PROBS, STREAM, TEST_CATALOG
from pipeline.prediction.progress import Progress
from pipeline.prediction.store import USUAL_SHARE, open_predictions
from pipeline.prediction.streaming import Source, stream
from pipeline.task import Arrays, HeldOut, Make
from pipeline.training.assemble import load_predictor, predicting_content
from pipeline.training.inputs import split_rows
from pipeline.work.inputs import image_folder, member_runs
from pipeline.work.members import without_stores

NUM_COMPARED = 2  # images of each store that are held against its network: a million pixels or two


def make_each(run: Run, subset: str, wanted: HeldOut, name: str, make: Make) -> Callable[[str], Arrays]:
    """Returns a function that applies `make` to an image, by its id.

    Args:
        subset: "valid" or "test".
        wanted: numbers of the members that predict an image, by its id.
        name: of this pass, unique in its stage.
        make: see `Make`.
    """
    if not run.loaded.config.ensemble.stream:
        stores = [open_predictions(member, subset) for member in member_runs(run)]
        return lambda image_id: make(image_id, [stores[number].view(image_id) for number in wanted[image_id]])
    return _streamed(run, subset, wanted, name, make)


def check_room(run: Run) -> None:
    """Logs the disk space of all the members' stores, before the first of them is written.

    Raises:
        UserError: the disk is too small; names the way without stores.
    """
    total, names = 0, []
    for member in member_runs(run):
        due = [
            subset
            for subset, stage in (("valid", "evaluate"), ("test", "predict"))
            if why_run(member.stage(stage), member) is not None or not (member.paths / PROBS[subset]).is_dir()
        ]
        sources = {subset: _source(member, subset) for subset in due}
        predictor = sources[due[0]].open() if due else None  # whether it ends in an upsampling decides the size
        for subset, source in sources.items():
            sizes = [(int(row.height), int(row.width)) for row in source.dataset.rows]
            num_bytes, is_exact = member.task.stored_bytes(predictor, sizes)
            written = sum(path.stat().st_size for path in (member.paths / PROBS[subset]).glob("shard-*"))
            total += max(0, (num_bytes if is_exact else round(num_bytes * USUAL_SHARE)) - written)
        names += [member.name] if due else []
    if names:
        more = f"about {total:,} bytes more ({total / GIB:.2f} GiB) than now"
        run.log(f"disk: the predictions of {len(names)} members will take {more}")
        try:
            check_disk(run.folders.runs, total, f"storing the probabilities of {len(names)} members")
        except DiskTooSmall as error:
            has_limit = run.loaded.config.submit.time_limit_hours is not None
            raise UserError(f"{error}{without_stores(run.loaded, has_limit)}") from None


def store_facts(member: Run) -> dict[str, Any]:
    """Returns the size of a member's stores, and how well they keep its classes.

    `float32_bytes` is what full-size float32 probabilities of the same images would take.
    """
    source = _source(member, "test")
    dataset = source.dataset
    rows = [*split_rows(member.paths, "valid").itertuples(), *dataset.rows]
    files = [path for probs in PROBS.values() for path in (member.paths / probs).iterdir()]
    indices = sorted({0, len(dataset) // 2})[:NUM_COMPARED]
    share = member.task.agreement(source.open(), dataset, indices, open_predictions(member, "test"))
    sizes = [(int(row.height), int(row.width)) for row in rows]
    return {
        "bytes": sum(path.stat().st_size for path in files),
        "images": len(rows),
        "float32_bytes": member.task.float32_bytes(member.loaded.competition, sizes),
        "agreement": share,
        "compared": len(indices),
    }


def forget_streamed(run: Run) -> None:
    """Removes a stage's results by image, once it is done."""
    shutil.rmtree(run.paths / STREAM, ignore_errors=True)


def _streamed(run: Run, subset: str, wanted: HeldOut, name: str, make: Make) -> Callable[[str], Arrays]:
    """Predicts the missing images with the networks, and returns the function that gives the results."""

    members = member_runs(run)
    sources = [_source(member, subset) for member in members]
    whole_px = run.loaded.competition.image.whole_px
    alone = {row.id for row in sources[0].dataset.rows if row.height * row.width > whole_px}
    progress = Progress(run.paths / STREAM / name, f"{run.key} {name}", list(wanted), alone)
    missing = progress.missing()
    if not missing:
        return progress.__getitem__
    if len(missing) < len(wanted):
        run.log(f"resuming: {len(wanted) - len(missing)} of {len(wanted)} images are done ({name})")
    num_threads = max(member.loaded.config.dataloaders.valid.num_workers for member in members)
    num_threads = available_workers(num_threads, run.log)
    images = stream(sources, {image_id: wanted[image_id] for image_id in missing}, num_threads)
    with tqdm(total=len(missing), desc=f"stream {name}", unit="image", leave=False, disable=None) as bar:
        for image_id, predictions in images:
            progress.put(image_id, make(image_id, predictions))
            bar.update()
            if run.stop.requested:  # the time budget; whole parts are kept
                raise Stopped(f"{run.stop.reason}, {bar.n} of {len(missing)} images combined ({name})")
    return progress.__getitem__


def _source(member: Run, subset: str) -> Source:
    """Returns a member with the images that its store would hold, in that store's order and batches."""
    is_test = subset == "test"
    rows = read_catalog(member.paths / TEST_CATALOG) if is_test else split_rows(member.paths, "valid")
    rows = rows.drop(columns="mask", errors="ignore")  # predicting needs no masks
    dataset = member.task.valid_data(member, image_folder(member, subset), rows)
    batch_size = member.loaded.config.dataloaders.valid.batch_size
    return Source(lambda: load_predictor(member, predicting_content(member)), dataset, batch_size, member.task)
