"""What experiments and ensembles share once pictures have become masks: scores, panels, the checked submission.

In: masks by picture id, the catalog. Out: the files of `evaluate` and `submit`, see `stages.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline.chain import Run
from pipeline.config.competition import scored_classes
from pipeline.files import sha256_file, write_atomic
from pipeline.paths import shown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from pipeline.inference.decoding import Rule, Sight
    from pipeline.inference.ensemble import Recipe
    from pipeline.inference.predict import Prediction

NUM_PANELS = 3  # of each: best, median, worst
MaskOf = Callable[[str], "np.ndarray"]


def truth_masks(run: Run, folder: Path, rows: pd.DataFrame) -> Iterator[np.ndarray]:
    """Yields the true masks (uint8, 255 ignored) of catalog rows, in their order."""
    from pipeline.data.pictures import read_mask

    return (read_mask(folder / mask, run.loaded.competition.ignore_index) for mask in rows["mask"])


def write_outcome(
    run: Run, folder: Path, rows: pd.DataFrame, confusion_PCC: torch.Tensor, facts: dict[str, Any], mask_of: MaskOf
) -> dict[str, Any]:
    """Writes metrics.json, per_image.csv, confusion.csv and the panels of judged pictures; returns the metrics.

    Args:
        folder: of the competition.
        rows: catalog rows of the judged pictures.
        confusion_PCC: a confusion matrix per row.
        facts: what else metrics.json says: `split` and `checkpoint`.
        mask_of: the predicted mask of a judged picture.
    """
    import pandas as pd

    from pipeline.inference.evaluate import majority_guess, picture_table, summarise, write_scores

    classes = scored_classes(run.loaded.competition)
    per_image = picture_table(rows["id"], rows["sequence"], confusion_PCC, classes)
    metrics = summarise(per_image, confusion_PCC.sum(0), classes)
    table = pd.read_csv(run.paths / "classes.csv")
    leaks = pd.read_csv(run.paths / "leakage.csv", dtype=str)
    metrics["majority"] = majority_guess(truth_masks(run, folder, rows), int(table["pixels"].idxmax()), classes)
    metrics |= facts
    metrics["duplicates"] = {"near_duplicates": len(leaks), "valid_pictures_affected": int(leaks["valid_id"].nunique())}
    write_scores(run.paths.folder, metrics, per_image, confusion_PCC.sum(0), classes)
    _draw_panels(run, folder, rows, per_image, mask_of)
    tqdm.write(
        f"validation mean Dice {metrics['dice']['mean']:.4f}, mIoU {metrics['dataset_iou']['mean']:.4f}; "
        f"always guessing {metrics['majority']['class']}: {metrics['majority']['dice']:.4f}"
    )
    return metrics


def sight_maker(
    run: Run, folder: Path, rows: pd.DataFrame, recipe_of: Callable[[str], Recipe]
) -> Callable[[str, Sequence[Prediction]], Sight]:
    """Returns a function from an out-of-fold picture and what is predicted there to what its decoding shows.

    Args:
        folder: of the competition.
        rows: catalog rows of the out-of-fold pictures.
        recipe_of: how a picture's predictions are decoded.
    """
    from pipeline.data.pictures import read_mask
    from pipeline.inference.decoding import see
    from pipeline.inference.ensemble import combine

    files = rows.set_index("id")

    def sight_of(picture_id: str, predictions: Sequence[Prediction]) -> Sight:
        row = files.loc[picture_id]
        truth = read_mask(folder / row["mask"], run.loaded.competition.ignore_index)
        return see(picture_id, row["sequence"], predictions, combine(predictions, [recipe_of(picture_id)])[0], truth)

    return sight_of


def fitted_rules(run: Run, rows: pd.DataFrame, sight_of: Callable[[str], Sight]) -> tuple[Rule, ...]:
    """Returns the rules of DECODE.SUPPRESS and writes what came of fitting them, decode.json; none unless it is set.

    Args:
        rows: catalog rows of the out-of-fold pictures.
        sight_of: what those who did not train on a picture show there, by its id.
    """
    from pipeline.inference.decoding import fit_suppression

    if run.loaded.config.decode.suppress == "none":
        (run.paths / "decode.json").unlink(missing_ok=True)
        return ()
    sights = [sight_of(picture_id) for picture_id in tqdm(rows["id"], desc="look", leave=False, disable=None)]
    classes = scored_classes(run.loaded.competition)
    found = fit_suppression(sights, classes)
    facts = {
        "rules": [vars(rule) | {"class": classes[rule.class_index]} for rule in found.rules],
        "gains": {classes[index]: vars(gain) for index, gain in found.gains.items()},
        "in_sample": {classes[index]: gain for index, gain in found.in_sample.items()},
        "survived": found.survived,
        "words": found.words,
    }
    write_atomic(run.paths / "decode.json", json.dumps(facts, indent=1))
    tqdm.write(found.words)
    return found.rules


def write_checked_submission(run: Run, folder: Path, mask_of: MaskOf, rules: Sequence[Rule] = ()) -> None:
    """Encodes the test pictures' masks, writes the submission and checks what was written.

    Args:
        folder: of the competition.
        mask_of: the predicted mask of a test picture.
        rules: by which classes were dropped, to be remembered with the submission.
    """
    from pipeline.data.catalog import read_catalog
    from pipeline.submission.check import require_good
    from pipeline.submission.write import write_submission

    competition = run.loaded.competition
    catalog = read_catalog(run.paths / "catalog.csv")
    test = catalog[catalog["subset"] == "test"]
    metrics = json.loads((run.paths / "metrics.json").read_text())
    origin = {
        "experiment": run.loaded.name,
        "run": run.paths.name,
        "config_sha256": sha256_file(run.paths / "config.yaml"),
        "checkpoint_sha256": metrics["checkpoint"]["sha256"],
        "local_dice": metrics["dice"]["mean"],
        "local_iou": metrics["iou"]["mean"],
        "split_by": metrics["split"]["by"],
    }
    if run.loaded.config.decode.suppress == "fitted":
        names = [competition.classes[rule.class_index] for rule in rules]
        origin["dropped_where_small"] = ", ".join(names) or "no class"
    bar = tqdm(test["id"], desc="encode", leave=False, disable=None)
    masks = ((picture_id, mask_of(picture_id)) for picture_id in bar)
    path = write_submission(run.paths.submission, masks, test["id"].tolist(), competition, origin)
    sizes = {row.id: (row.height, row.width) for row in test.itertuples()}
    sample = folder / competition.sample_submission if competition.sample_submission else None
    require_good(path, competition, sizes, sample)
    facts = {"csv_sha256": sha256_file(path), "rows": path.read_bytes().count(b"\n") - 1, "checked": True}
    write_atomic(run.paths / "submission.json", json.dumps(facts, indent=1))
    tqdm.write(f"checked: {shown(path)}, {facts['rows']:,} rows")


def _draw_panels(run: Run, folder: Path, rows: pd.DataFrame, per_image: pd.DataFrame, mask_of: MaskOf) -> None:
    """Draws picture, truth and prediction of the best, median and worst validation pictures."""
    from pipeline.data.pictures import read_mask, read_picture
    from pipeline.report.panels import choose_pictures, draw_panel

    competition, classes = run.loaded.competition, scored_classes(run.loaded.competition)
    files, scores = rows.set_index("id"), per_image.set_index("id")
    for old in run.paths.panels.glob("*.png"):
        old.unlink()
    for kind, chosen in choose_pictures(per_image, NUM_PANELS).items():
        for rank, picture_id in enumerate(chosen, start=1):
            picture = read_picture(folder / files.at[picture_id, "picture"])
            truth = read_mask(folder / files.at[picture_id, "mask"], competition.ignore_index)
            row = scores.loc[picture_id]
            dice = {name: float(row[f"dice_{name}"]) for name in classes}
            path = run.paths.panels / f"{kind}_{rank}_{picture_id}.png"
            title = f"{kind} {rank}: {picture_id}, mean Dice {row['dice']:.3f}"
            prediction = mask_of(picture_id)
            write_picture(path, draw_panel(picture, truth, prediction, classes, competition.colors, title, dice))


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes a uint8 RGB picture as PNG."""
    import cv2

    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    write_atomic(path, data.tobytes())
