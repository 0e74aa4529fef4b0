"""What experiments and ensembles share once images have become masks: scores, panels, the checked submission.

In: masks by image id, the catalog. Out: the files of `evaluate` and `submit`, see `stages.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline.chain import Run
from pipeline.config.competition import mask_code
from pipeline.files import sha256_file, write_atomic
from pipeline.inference.baseline import score_warning
from pipeline.paths import shown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from pipeline.inference.decoding import Rule, Suppression
    from pipeline.inference.ensemble import Recipe
    from pipeline.inference.offsets import Offsets
    from pipeline.inference.predict import Prediction

NUM_PANELS = 3  # of each: best, median, worst
MaskOf = Callable[[str], "np.ndarray"]
Arrays = dict[str, "np.ndarray"]
Make = Callable[[str, Sequence["Prediction"]], Arrays]
MakeEach = Callable[[str, Make], Callable[[str], Arrays]]


@dataclass(frozen=True)
class Decoding:
    """What is done to probabilities before and after the best class is chosen.

    Attributes:
        factors: float64 (C,) on the classes' probabilities, or None.
        rules: by which classes are dropped from an image.
    """

    factors: np.ndarray | None
    rules: tuple[Rule, ...]


def truth_masks(run: Run, folder: Path, rows: pd.DataFrame) -> Iterator[np.ndarray]:
    """Yields the true masks (uint8, 255 ignored) of catalog rows, in their order."""
    from pipeline.data.images import read_mask

    code = mask_code(run.loaded.competition)
    return (read_mask(folder / mask, code) for mask in rows["mask"])


def write_outcome(
    run: Run, folder: Path, rows: pd.DataFrame, confusion_ICC: torch.Tensor, facts: dict[str, Any], mask_of: MaskOf
) -> None:
    """Writes metrics.json, per_image.csv, confusion.csv and the panels of the validation images.

    Args:
        folder: of the competition.
        rows: catalog rows of the validation images.
        confusion_ICC: a confusion matrix per row.
        facts: the rest of metrics.json: `split` and `checkpoint`.
        mask_of: the predicted mask of an image.
    """
    import pandas as pd

    from pipeline.inference.evaluate import image_table, majority_guess, summarise, write_scores

    competition = run.loaded.competition
    classes, scored = competition.class_names, competition.scored_indices
    per_image = image_table(rows["id"], rows["sequence"], confusion_ICC, classes, scored)
    metrics = summarise(confusion_ICC, classes, scored, competition.score)
    leaks = pd.read_csv(run.paths / "leakage.csv", dtype=str)
    majority = int(pd.read_csv(run.paths / "classes.csv")["pixels"].idxmax())
    metrics["majority"] = majority_guess(truth_masks(run, folder, rows), majority, classes, scored)
    metrics |= facts
    metrics["duplicates"] = {"near_duplicates": len(leaks), "valid_images_affected": int(leaks["valid_id"].nunique())}
    write_scores(run.paths.folder, metrics, per_image, confusion_ICC.sum(0), classes)
    _draw_panels(run, folder, rows, per_image, mask_of)
    tqdm.write(_scores_line(metrics))
    if warning := score_warning(metrics):
        tqdm.write(f"warning: {warning}")


def _scores_line(metrics: Mapping[str, Any]) -> str:
    """Returns the mean of each score, the competition's own first, and what the majority class gets of that.

    >>> scores = {"dice": {"mean": 0.75}, "miou": {"mean": None}}
    >>> majority = {"class": "Road", "scores": {"dice": 0.5}}
    >>> _scores_line({"score": "dice", "scores": scores, "scored": ["Car"], "majority": majority})
    'validation  dice 0.7500  miou –  (over Car; always predicting Road: dice 0.5000)'
    """

    def text(name: str, value: float | None) -> str:
        return f"{name} {'–' if value is None else format(value, '.4f')}"

    main, names, majority = metrics["score"], metrics["scored"], metrics["majority"]
    scores = sorted(metrics["scores"].items(), key=lambda item: item[0] != main)
    means = "  ".join(text(name, family["mean"]) for name, family in scores)
    over = names[0] if len(names) == 1 else f"{len(names)} classes"
    guess = f"always predicting {majority['class']}: {text(main, majority['scores'][main])}"
    return f"validation  {means}  (over {over}; {guess})"


def fitted_decoding(
    run: Run, folder: Path, rows: pd.DataFrame, recipe_of: Callable[[str], Recipe], make_each: MakeEach
) -> Decoding:
    """Returns what DECODE asks for, fitted on out-of-fold images; writes decode.json.

    Args:
        folder: of the competition.
        rows: catalog rows of the out-of-fold images.
        recipe_of: how the predictions of an image's out-of-fold members are combined.
        make_each: from the name of a pass and what to make of an image's predictions to a function of its id.
    """
    from pipeline.data.images import read_mask
    from pipeline.inference.decoding import DecodedImage, fit_suppression, measure_image
    from pipeline.inference.ensemble import combine
    from pipeline.inference.offsets import fit_offsets, sample_combined, with_factors
    from pipeline.inference.out_of_fold import arrays_of, image_from
    from pipeline.inference.pixel_sample import PixelSample
    from pipeline.scores import per_image_score

    settings, competition = run.loaded.config.decode, run.loaded.competition
    classes, scored, score = competition.class_names, competition.scored_indices, per_image_score(competition.score)
    files, facts = rows.set_index("id"), {}
    factors, rules = None, ()

    def truth_of(image_id: str) -> np.ndarray:
        return read_mask(folder / files.at[image_id, "mask"], mask_code(competition))

    def sample(image_id: str, predictions: Sequence[Prediction]) -> Arrays:
        sequence, truth = files.at[image_id, "sequence"], truth_of(image_id)
        return arrays_of(sample_combined(image_id, sequence, predictions, recipe_of(image_id), truth))

    def measure(image_id: str, predictions: Sequence[Prediction]) -> Arrays:
        recipe, sequence = recipe_of(image_id), files.at[image_id, "sequence"]
        mask = combine(predictions, [recipe if factors is None else with_factors(recipe, factors, len(predictions))])[0]
        return arrays_of(measure_image(image_id, sequence, predictions, mask, truth_of(image_id), score))

    def images_of(kind: type, name: str, make: Make) -> list:
        made = make_each(name, make)
        bar = tqdm(files["sequence"].items(), total=len(files), desc=name, leave=False, disable=None)
        return [image_from(kind, image_id, sequence, made(image_id)) for image_id, sequence in bar]

    if settings.offsets == "fitted":
        moved = fit_offsets(images_of(PixelSample, "offsets", sample), classes, scored, score)
        factors = moved.factors if (moved.factors != 1).any() else None
        pairs = zip(classes, moved.factors.tolist(), strict=True)
        facts["offsets"] = {**_fit_facts(moved, classes), "factors": {name: own for name, own in pairs if own != 1}}
    if settings.suppress == "fitted":
        dropped = fit_suppression(images_of(DecodedImage, "rules", measure), classes, scored, score)
        rules = dropped.rules
        facts["rules"] = [vars(rule) | {"class": classes[rule.class_index]} for rule in rules]
        facts |= _fit_facts(dropped, classes)
    if facts:
        write_atomic(run.paths / "decode.json", json.dumps(facts, indent=1))
    else:
        (run.paths / "decode.json").unlink(missing_ok=True)
    return Decoding(factors, rules)


def _fit_facts(fitted: Offsets | Suppression, classes: Sequence[str]) -> dict[str, Any]:
    """Logs what was decided; returns it for decode.json."""
    tqdm.write("\n".join(fitted.words))
    facts = fitted.trials.facts(classes.__getitem__)
    return {**facts, "survived": fitted.trials.survived, "words": fitted.words[0]}


def write_checked_submission(run: Run, folder: Path, mask_of: MaskOf, decoding: Decoding) -> None:
    """Encodes the test images' masks, writes the submission and checks what was written.

    Args:
        folder: of the competition.
        mask_of: the predicted mask of a test image.
        decoding: what was fitted, for the submission's origin file.
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
        "score": metrics["score"],
        "local_score": metrics["scores"][metrics["score"]]["mean"],
        "local_scores": {name: family["mean"] for name, family in metrics["scores"].items()},
        "split_by": metrics["split"]["by"],
    }
    if warning := score_warning(metrics):
        origin["warning"] = warning
        tqdm.write(f"warning: {warning}")
    if run.loaded.config.decode.suppress == "fitted":
        names = [competition.classes[rule.class_index] for rule in decoding.rules]
        origin["dropped_where_small"] = ", ".join(names) or "no class"
    if run.loaded.config.decode.offsets == "fitted":
        factors = [] if decoding.factors is None else zip(competition.classes, decoding.factors, strict=False)
        names = [f"{name} times {factor:g}" for name, factor in factors if factor != 1]
        origin["probabilities"] = ", ".join(names) or "as predicted"
    bar = tqdm(test["id"], desc="encode", leave=False, disable=None)
    masks = ((image_id, mask_of(image_id)) for image_id in bar)
    path = write_submission(run.paths.submission, masks, test["id"].tolist(), competition, origin)
    sizes = {row.id: (row.height, row.width) for row in test.itertuples()}
    sample = folder / competition.sample_submission if competition.sample_submission else None
    require_good(path, competition, sizes, sample)
    facts = {"csv_sha256": sha256_file(path), "rows": path.read_bytes().count(b"\n") - 1, "checked": True}
    write_atomic(run.paths / "submission.json", json.dumps(facts, indent=1))
    tqdm.write(f"checked: {shown(path)}, {facts['rows']:,} rows")


def _draw_panels(run: Run, folder: Path, rows: pd.DataFrame, per_image: pd.DataFrame, mask_of: MaskOf) -> None:
    """Draws image, truth and prediction of the best, median and worst validation images."""
    from pipeline.data.images import read_image, read_mask
    from pipeline.report.figure import write_image
    from pipeline.report.panels import draw_panel
    from pipeline.report.scores import choose_images
    from pipeline.scores import LABELS, per_image_score

    competition, classes = run.loaded.competition, run.loaded.competition.class_names
    score = per_image_score(competition.score)
    files, scores = rows.set_index("id"), per_image.set_index("id")
    for old in run.paths.panels.glob("*.png"):
        old.unlink()
    for kind, chosen in choose_images(per_image, score, NUM_PANELS).items():
        for rank, image_id in enumerate(chosen, start=1):
            image = read_image(folder / files.at[image_id, "image"])
            truth = read_mask(folder / files.at[image_id, "mask"], mask_code(competition))
            row = scores.loc[image_id]
            own = {name: float(row[f"{score}_{name}"]) for name in classes}
            path = run.paths.panels / f"{kind}_{rank}_{image_id}.png"
            title = f"{kind} {rank}: {image_id}, mean {LABELS[score]} {row[score]:.3f}"
            prediction = mask_of(image_id)
            write_image(path, draw_panel(image, truth, prediction, classes, competition.colors, title, own))
