"""What experiments and ensembles share once images have become masks: scores, panels, the checked submission.

In: masks by image id, the catalog. Out: the files of `evaluate` and `submit`, see `stages.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline.config.competition import mask_code
from pipeline.engine.run import Run
from pipeline.files import sha256_file, write_atomic
from pipeline.paths import CLASSES, CONFIG, DECODE, LEAKAGE, METRICS, PANELS, SUBMISSION, TEST_CATALOG, shown
from pipeline.work.inputs import competition_folder, sample_path

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from pipeline.inference.decoding import Rule
    from pipeline.inference.ensemble import Recipe
    from pipeline.inference.predict import Prediction

NUM_PANELS = 3  # of each: best, median, worst
Arrays = dict[str, "np.ndarray"]
MaskOf = Callable[[str], "np.ndarray"]
Look = Callable[[str, Sequence["Prediction"]], dict[str, "np.ndarray"]]
LookWith = Callable[[str, Look], Callable[[str], dict[str, "np.ndarray"]]]


@dataclass(frozen=True)
class Decoding:
    """What is done to probabilities before and after the best class is chosen.

    Attributes:
        factors: float64 (C,) on the classes' probabilities, or None.
        rules: by which classes are dropped from an image.
    """

    factors: np.ndarray | None
    rules: tuple[Rule, ...]


def true_masks(run: Run, folder: Path, rows: pd.DataFrame) -> Iterator[np.ndarray]:
    """Yields the true masks (uint8, 255 ignored) of catalog rows, in their order."""
    from pipeline.data.images import read_mask

    code = mask_code(run.loaded.competition)
    return (read_mask(folder / mask, code) for mask in rows["mask"])


def write_outcome(
    run: Run, folder: Path, rows: pd.DataFrame, confusion_PCC: torch.Tensor, facts: dict[str, Any], mask_of: MaskOf
) -> dict[str, Any]:
    """Writes metrics.json, per_image.csv, confusion.csv and the panels of judged images; returns the metrics.

    Args:
        folder: of the competition.
        rows: catalog rows of the judged images.
        confusion_PCC: a confusion matrix per row.
        facts: what else metrics.json says: `split` and `checkpoint`.
        mask_of: the predicted mask of a judged image.
    """
    import pandas as pd

    from pipeline.inference.evaluate import image_table, majority_guess, summarise, write_scores

    classes, scored = run.loaded.competition.class_names, run.loaded.competition.scored_indices
    per_image = image_table(rows["id"], rows["sequence"], confusion_PCC, classes, scored)
    metrics = summarise(per_image, confusion_PCC.sum(0), classes, scored)
    metrics["scored"] = [classes[index] for index in scored]
    table = pd.read_csv(run.paths / CLASSES)
    leaks = pd.read_csv(run.paths / LEAKAGE, dtype=str)
    majority = int(table["pixels"].idxmax())
    metrics["majority"] = majority_guess(true_masks(run, folder, rows), majority, classes, scored)
    metrics |= facts
    metrics["duplicates"] = {"near_duplicates": len(leaks), "valid_images_affected": int(leaks["valid_id"].nunique())}
    write_scores(run.paths.folder, metrics, per_image, confusion_PCC.sum(0), classes)
    _draw_panels(run, folder, rows, per_image, mask_of)
    of_what = f"Dice of {classes[scored[0]]}" if len(scored) == 1 else "mean Dice"
    miou = metrics["dataset_iou"]["mean"]  # None where no pixel is of a class that counts
    run.log(
        f"validation {of_what} {metrics['dice']['mean']:.4f}, mIoU {'–' if miou is None else format(miou, '.4f')}; "
        f"always guessing {metrics['majority']['class']}: {metrics['majority']['dice']:.4f}"
    )
    return metrics


def fitted_decoding(run: Run, rows: pd.DataFrame, recipe_of: Callable[[str], Recipe], look_with: LookWith) -> Decoding:
    """Returns what DECODE asks for, fitted on out-of-fold images; writes what came of it, decode.json.

    Only a fit needs the competition's folder: a hidden test set is submitted without it.

    Args:
        rows: catalog rows of the out-of-fold images.
        recipe_of: how the predictions of an image's judges are combined.
        look_with: from the name of a pass and what to make of an image's predictions to a function of its id.
    """
    from pipeline.data.images import read_mask
    from pipeline.inference.decoding import arrays_of, fit_suppression, see, sight_from
    from pipeline.inference.ensemble import combine
    from pipeline.inference.offsets import fit_offsets, margin, margin_arrays, margin_from, with_factors

    settings, competition = run.loaded.config.decode, run.loaded.competition
    classes, scored = competition.class_names, list(competition.scored_indices)
    files, ids, facts = rows.set_index("id"), rows["id"].tolist(), {}
    sequences = dict(zip(ids, rows["sequence"], strict=True))
    factors, rules = None, ()
    folder = competition_folder(run) if "fitted" in (settings.offsets, settings.suppress) else None

    def truth_of(image_id: str) -> np.ndarray:
        return read_mask(folder / files.at[image_id, "mask"], mask_code(competition))

    def weigh(image_id: str, ones: Sequence[Prediction]) -> dict[str, np.ndarray]:
        truth, recipe = truth_of(image_id), recipe_of(image_id)
        return margin_arrays(margin(image_id, sequences[image_id], ones, recipe, truth))

    def look(image_id: str, ones: Sequence[Prediction]) -> dict[str, np.ndarray]:
        recipe = recipe_of(image_id)
        mask = combine(ones, [recipe if factors is None else with_factors(recipe, factors, len(ones))])[0]
        return arrays_of(see(image_id, sequences[image_id], ones, mask, truth_of(image_id)))

    if settings.offsets == "fitted":
        seen = look_with("offsets", weigh)
        bar = tqdm(ids, desc="offsets", leave=False, disable=None)
        moved = fit_offsets([margin_from(one, sequences[one], seen(one)) for one in bar], classes, scored)
        factors = moved.factors if (moved.factors != 1).any() else None
        facts["offsets"] = _fit_facts(moved, classes) | {
            "factors": {
                name: factor for name, factor in zip(classes, moved.factors.tolist(), strict=True) if factor != 1
            }
        }
        run.log(moved.words)
    if settings.suppress == "fitted":
        seen = look_with("rules", look)
        bar = tqdm(ids, desc="rules", leave=False, disable=None)
        dropped = fit_suppression([sight_from(one, sequences[one], seen(one)) for one in bar], classes, scored)
        rules = dropped.rules
        facts["rules"] = [vars(rule) | {"class": classes[rule.class_index]} for rule in rules]
        facts |= _fit_facts(dropped, classes)
        run.log(dropped.words)
    if facts:
        write_atomic(run.paths / DECODE, json.dumps(facts, indent=1))
    else:
        (run.paths / DECODE).unlink(missing_ok=True)
    return Decoding(factors, tuple(rules))


def _fit_facts(found: Any, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "gains": {classes[index]: vars(gain) for index, gain in found.gains.items()},
        "in_sample": {classes[index]: gain for index, gain in found.in_sample.items()},
        "survived": found.survived,
        "words": found.words,
    }


def write_checked_submission(run: Run, mask_of: MaskOf, decoding: Decoding) -> None:
    """Encodes the test images' masks, writes the submission and checks what was written.

    Args:
        mask_of: the predicted mask of a test image.
        decoding: what was fitted for it, to be remembered with the submission.
    """
    from pipeline.data.catalog import read_catalog
    from pipeline.submission.check import require_good
    from pipeline.submission.write import write_submission

    competition = run.loaded.competition
    test = read_catalog(run.paths / TEST_CATALOG)
    metrics = json.loads((run.paths / METRICS).read_text())
    origin = {
        "experiment": run.loaded.name,
        "run": run.name,
        "config_sha256": sha256_file(run.paths / CONFIG),
        "checkpoint_sha256": metrics["checkpoint"]["sha256"],
        "local_dice": metrics["dice"]["mean"],
        "local_iou": metrics["iou"]["mean"],
        "split_by": metrics["split"]["by"],
    }
    if run.loaded.config.decode.suppress == "fitted":
        names = [competition.classes[rule.class_index] for rule in decoding.rules]
        origin["dropped_where_small"] = ", ".join(names) or "no class"
    if run.loaded.config.decode.offsets == "fitted":
        factors = [] if decoding.factors is None else zip(competition.classes, decoding.factors, strict=False)
        names = [f"{name} times {factor:g}" for name, factor in factors if factor != 1]
        origin["probabilities"] = ", ".join(names) or "as predicted"
    bar = tqdm(test["id"], desc="encode", leave=False, disable=None)
    masks = ((image_id, mask_of(image_id)) for image_id in bar)
    path = write_submission(run.paths.submission(), masks, test["id"].tolist(), competition, origin)
    sizes = {row.id: (row.height, row.width) for row in test.itertuples()}
    sample = sample_path(run)
    require_good(path, competition, sizes, sample)
    facts = {"csv_sha256": sha256_file(path), "rows": path.read_bytes().count(b"\n") - 1, "checked": True}
    write_atomic(run.paths / SUBMISSION, json.dumps(facts, indent=1))
    run.log(f"checked: {shown(path)}, {facts['rows']:,} rows")


def _draw_panels(run: Run, folder: Path, rows: pd.DataFrame, per_image: pd.DataFrame, mask_of: MaskOf) -> None:
    """Draws image, truth and prediction of the best, median and worst validation images."""
    from pipeline.data.images import read_image, read_mask
    from pipeline.report.figure import write_image
    from pipeline.report.panels import choose_images, draw_panel

    competition, classes = run.loaded.competition, run.loaded.competition.class_names
    files, scores = rows.set_index("id"), per_image.set_index("id")
    for old in (run.paths / PANELS).glob("*.png"):
        old.unlink()
    for kind, chosen in choose_images(per_image, NUM_PANELS).items():
        for rank, image_id in enumerate(chosen, start=1):
            image = read_image(folder / files.at[image_id, "image"])
            truth = read_mask(folder / files.at[image_id, "mask"], mask_code(competition))
            row = scores.loc[image_id]
            dice = {name: float(row[f"dice_{name}"]) for name in classes}
            path = run.paths / PANELS / f"{kind}_{rank}_{image_id}.png"
            title = f"{kind} {rank}: {image_id}, mean Dice {row['dice']:.3f}"
            prediction = mask_of(image_id)
            write_image(path, draw_panel(image, truth, prediction, classes, competition.colors, title, dice))
