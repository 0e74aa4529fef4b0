"""Writes and checks a run's submission and its origin, under the run's name and under SUBMIT.FILE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from tqdm import tqdm

from pipeline.config.members import member_names
from pipeline.data.catalog import read_catalog
from pipeline.engine.run import Run
from pipeline.files import second_name, sha256_file, write_json
from pipeline.paths import BEST, CONFIG, MEMBERS, METRICS, SUBMISSION, TEST_CATALOG, shown
from pipeline.report.pseudo import pseudo_origin
from pipeline.report.read import ON_ALL_IMAGES, read_json, score_warning
from pipeline.submission.file import amend_origin, require_good, write_submission
from pipeline.submission.formats import format_of
from pipeline.work.inputs import member_runs, sample_path, submission_files
from pipeline.work.members import pseudo_facts, weights_used


def write_checked_submission(
    run: Run,
    decoded: Callable[[str], Any],
    decoding: Mapping[str, Any],
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Encodes the decoded test images, writes the submission and checks what was written.

    Args:
        decoded: what is submitted of a test image, by its id.
        decoding: the content of decode.json, for the submission's origin file.
        facts: what the origin says in addition, or instead.
    """
    form, sample = format_of(run.loaded.competition), sample_path(run)
    competition = form.like_sample(run.loaded.competition, sample)
    test = read_catalog(run.paths / TEST_CATALOG)
    origin = {
        "experiment": run.loaded.name,
        "run": run.name,
        "config_sha256": sha256_file(run.paths / CONFIG),
        **_local_scores(run),
        **_weights_used(run),
        **run.task.decoding_origin(decoding),
        **_pseudo_labels(run),
    }
    metrics = read_json(run.paths / METRICS)
    if metrics is None:
        run.log(f"note: no local score: {run.name} {ON_ALL_IMAGES}")
    elif warning := score_warning(metrics):
        origin["warning"] = warning
        run.log(f"warning: {warning}")
    bar = tqdm(test["id"], desc="encode", leave=False, disable=None)
    masks = ((image_id, decoded(image_id)) for image_id in bar)
    sizes = {row.id: (row.height, row.width) for row in test.itertuples()}
    path, *others = submission_files(run).values()
    write_submission(path, masks, test["id"].tolist(), competition, {**origin, **facts}, sizes)
    for warning in require_good(path, competition, sizes, sample):
        run.log(warning)
    for other in others:
        other.parent.mkdir(parents=True, exist_ok=True)
        second_name(path, other)
    write_json(run.paths / SUBMISSION, {"sha256": sha256_file(path), "images": len(test), "checked": True})
    names = " and ".join(map(shown, (path, *others)))
    run.log(f"checked: {names}, {len(test):,} images")


def _local_scores(run: Run) -> dict[str, Any]:
    """Returns what the origin says of checkpoint and local scores; a run on all images has none."""
    metrics = read_json(run.paths / METRICS)
    if metrics is None:
        facts = {"score": run.loaded.competition.score, "local_score": None, "local_scores": {}, "split_by": "none"}
        facts["no_local_score"] = f"{ON_ALL_IMAGES}; its epochs are those of {run.loaded.config.solver.from_}"
        return {"checkpoint_sha256": sha256_file(run.paths / BEST), **facts}
    return {
        "checkpoint_sha256": metrics["checkpoint"]["sha256"],
        "score": metrics["score"],
        "local_score": metrics["scores"][metrics["score"]]["mean"],
        "local_scores": {name: family["mean"] for name, family in metrics["scores"].items()},
        "split_by": metrics["split"]["by"],
    }


def _weights_used(run: Run) -> dict[str, str]:
    """Returns which weights predicted, where AVERAGE has decided that; of an ensemble, its members' by name."""
    if not run.loaded.is_ensemble:
        return weights_used(run)
    members = member_runs(run)
    named = zip(member_names([member.loaded for member in members]), members, strict=True)
    used = {name: found["weights"] for name, member in named if (found := weights_used(member))}
    return {"weights": "; ".join(f"{name}: {text}" for name, text in used.items())} if used else {}


def _pseudo_labels(run: Run) -> dict[str, str]:
    """Returns what the origin says of the pseudo-labels that the run, or a member of it, was trained on."""
    members = {member["name"]: member for member in read_json(run.paths / MEMBERS, list) or ()}
    found = {name: member["pseudo"] for name, member in members.items() if member.get("pseudo")}
    if not run.loaded.is_ensemble:
        found = {run.name: pseudo_facts(run)} if run.loaded.has_pseudo_labels else {}
    return pseudo_origin(found)


def amend(run: Run, facts: Mapping[str, Any]) -> None:
    """Writes into the origin of the run's submission what it says in addition, or instead."""
    amend_origin(next(iter(submission_files(run).values())), facts)
