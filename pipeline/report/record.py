"""What a page is made from: the files of a run, its submission, and the scores of the same settings on other splits.

In: `runs/<NAME>/`, the submission and its origin. Out: `Record`.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.config.load import Loaded, config_path, with_max_lr
from pipeline.config.schema import pseudo_per_batch
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.files import sha256_file
from pipeline.report.folders import without_split
from pipeline.report.read import (
    Metrics,
    read_classes,
    read_columns,
    read_config,
    read_header,
    read_json,
    read_metrics,
    read_stage_seconds,
    read_steps_per_epoch,
    show_value,
)
from pipeline.report.words import words_of
from pipeline.scores import per_image_score
from pipeline.submission.file import origin_path
from pipeline.submission.formats import format_of
from pipeline.training.all_data import settled_plan

ENSEMBLE_KEYS = ("score", "held_out", "single", "members", "methods")  # a file without one has another form


@dataclass(frozen=True)
class Submission:
    """The submission of a run.

    Attributes:
        facts: content of the .json beside it.
        is_checked: the stage has compared it with the competition: ids, rows, overlaps, ranges, orientation.
        is_intact: the file has still the hash that `facts` names.
    """

    path: Path
    facts: Mapping[str, Any]
    is_checked: bool
    is_intact: bool


class Record:
    """All that a run has written so far. What is not there yet is None, empty or 0.

    Attributes:
        stages: of the run, in order.
        words: those of the competition's task.
        subsets: number of images by subset; `split`: the same of the split.
        refusal: stage and message of the stage that was refused the last time; empty: none.
        pseudo: what is known of the run's pseudo-labels; empty: there are none.
        provenance: how a stage was carried out, by its name; empty before such files were written.
        diagnosis: where and how surely pixels are wrong; `suspicious`: regions where the mask may be; `gallery`: the
            list of drawn validation images. Empty or None where the run was evaluated before there were such.
        box_facts: precision, thresholds and kinds of errors of predicted boxes; `anchors`: how well RetinaNet's
            fit. Empty of other tasks and networks.
        panels: group, rank, image id and path of `panels/<group>_<rank>_<id>.png`.
        split_scores: name and scores of this run and of those that differ from it in their split alone, best first.
        score: name of the competition's own score; `image_score`: of that by which single images are compared.
        max_lr: SOLVER.MAX_LR, or what the sweep chose for it; None before the sweep.
        phases: the plan, with the sweep's suggestion where SOLVER.MAX_LR is auto and there was a sweep.
        steps_per_epoch: optimizer steps; None before the run has tiles.
        is_on_all_images: it has no validation, and never a score.
    """

    def __init__(self, run: Run) -> None:
        folder, loaded = run.paths.folder, run.loaded
        self.folder, self.loaded, self.stages = folder, loaded, run.stages
        self.words = words_of(loaded.competition)
        self.colors = dict(zip(loaded.competition.classes, loaded.competition.colors, strict=True))
        self.header = read_header(config_path(loaded.name))
        self.stage_seconds = read_stage_seconds(folder)
        self.classes = read_classes(folder / paths.CLASSES)
        subsets = (("train", paths.TRAIN_CATALOG), ("test", paths.TEST_CATALOG))
        catalogs = {subset: columns for subset, name in subsets if (columns := read_columns(folder / name))}
        self.subsets = {subset: len(columns["id"]) for subset, columns in catalogs.items()}
        self.num_sequences = len({one for columns in catalogs.values() for one in columns["sequence"]} - {""})
        self.split = Counter((read_columns(folder / paths.SPLIT) or {}).get("subset"))
        self.leaks = read_columns(folder / paths.LEAKAGE)
        self.sweep = read_columns(folder / paths.SWEEP_TABLE)
        self.sweep_found: dict[str, Any] = read_json(folder / paths.SWEEP_FACTS) or {}
        self.history = read_columns(folder / paths.HISTORY) or {}
        self.plan_changes = read_columns(folder / paths.PLAN_CHANGES) or {}
        self.timings = read_columns(folder / paths.TIMINGS) or {}
        kept = {stage: read_json(folder / paths.provenance_file(stage)) for stage in ("train", "evaluate")}
        self.provenance: dict[str, Any] = {stage: found for stage, found in kept.items() if found}
        self.average: dict[str, Any] = (read_json(folder / paths.AVERAGE) or {}) if loaded.is_averaged else {}
        self.metrics = read_metrics(folder)
        self.per_image = read_columns(folder / paths.PER_IMAGE) or {}
        counts, is_multilabel = read_columns(folder / paths.CONFUSION), loaded.competition.is_multilabel
        self.confusion, self.class_counts = (None, counts) if is_multilabel else (counts, None)
        self.diagnosis: dict[str, Any] = read_json(folder / paths.DIAGNOSIS) or {}
        self.box_facts: dict[str, Any] = read_json(folder / paths.BOX_FACTS) or {}
        self.anchors: dict[str, Any] = read_json(folder / paths.ANCHORS) or {}
        self.suspicious = read_columns(folder / paths.SUSPICIOUS)
        self.gallery = read_columns(folder / paths.GALLERY_LIST)
        self.members: list[Any] = read_json(folder / paths.MEMBERS, list) or []
        self.stores: list[Any] = read_json(folder / paths.STORES, list) or []
        ensemble = read_json(folder / paths.ENSEMBLE) or {}
        self.ensemble: dict[str, Any] = ensemble if set(ENSEMBLE_KEYS) <= set(ensemble) else {}
        self.decoding: dict[str, Any] = read_json(folder / paths.DECODE) or {}
        self.panels = [(*path.stem.split("_", 2), path) for path in sorted((folder / paths.PANELS).glob("*_*_*.png"))]
        self.sheet = folder / paths.SAMPLES_PLOT
        self.pseudo: dict[str, Any] = {}
        self.pseudo_table, self.pseudo_sheet = None, folder / paths.PSEUDO_PLOT
        if loaded.has_pseudo_labels:  # otherwise the files are of an earlier state of the config
            self.pseudo = read_json(folder / paths.PSEUDO_FACTS) or {}
            self.pseudo_table = read_columns(folder / paths.PSEUDO_TABLE)
        self.grids = sorted(folder.glob(paths.TILE_PLOTS))
        self.split_scores = _split_scores(folder, loaded)
        path = run.paths.submission(format_of(loaded.competition).suffix)
        self.submission = _submission(path, folder / paths.SUBMISSION)
        self.refusal: dict[str, Any] = read_json(folder / paths.REFUSAL) or {}
        self.score = self.metrics.main.name if self.metrics else loaded.competition.score
        self.image_score = per_image_score(self.score)
        max_lr = loaded.config.solver.max_lr
        self.max_lr: float | None = self.sweep_found.get("max_lr") if max_lr == "auto" else max_lr
        self.phases = with_max_lr(loaded, self.max_lr) if max_lr == "auto" and self.max_lr else loaded.plan
        self.is_on_all_images = loaded.is_on_all_images
        if self.is_on_all_images:
            with contextlib.suppress(UserError):  # what it was trained by may be gone
                self.phases = settled_plan(loaded, run.folders)
                self.max_lr = self.phases[0].max_lr
        loader = loaded.config.dataloaders.train
        self.steps_per_epoch = read_steps_per_epoch(folder, loader, pseudo_per_batch(loaded.config))

    def command(self, *stages: str) -> str:
        """Returns the command for stages of this run, its overrides included."""
        overrides = [f"{key}={show_value(self.loaded.values[key])}" for key in self.loaded.changed]
        return shlex.join(["./run.sh", self.loaded.name, *stages, *overrides])


def _split_scores(folder: Path, loaded: Loaded) -> list[tuple[str, Metrics]]:
    own, found = without_split(json.loads(json.dumps(loaded.values))), []
    for other in sorted({folder, *folder.parent.glob(f"{loaded.name}*")}):
        metrics, values = read_metrics(other), read_config(other / paths.CONFIG)
        if metrics and values and without_split(values) == own:
            found.append((other.name, metrics))
    return sorted(found, key=lambda one: -(one[1].main.mean or 0.0))


def _submission(path: Path, check_path: Path) -> Submission | None:
    facts, check = read_json(origin_path(path)), read_json(check_path) or {}
    if facts is None or not path.is_file():
        return None
    content_hash = sha256_file(path)
    is_checked = bool(check.get("checked")) and check.get("sha256") == content_hash
    return Submission(path, facts, is_checked, content_hash == facts.get("sha256"))
