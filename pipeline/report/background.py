"""The sections on what went in: data, split and leakage, the submission, the stages and their time, the settings."""

from __future__ import annotations

from pipeline.config.ensemble import is_ensemble
from pipeline.paths import DECODE
from pipeline.report.ensemble import decoding_tables
from pipeline.report.findings import themed
from pipeline.report.markup import bar, join, photo, table, tag
from pipeline.report.plans import PLAN_STEPS, draw_plan, plan_curve
from pipeline.report.plots import draw_class_histogram
from pipeline.report.read import numbers, read_json, show_value
from pipeline.report.record import Record
from pipeline.report.section import Section, command, duration, missing, phases_of, score, scored, steps_of

SUBMISSION_WORDS = {
    "rows": "rows",
    "created_utc": "written (UTC)",
    "local_dice": "local Dice",
    "local_iou": "local IoU",
    "split_by": "split by",
    "csv_sha256": "sha256 of the csv",
    "checkpoint_sha256": "sha256 of the checkpoint",
    "config_sha256": "sha256 of the config",
}


def data_section(record: Record) -> Section:
    """Returns the class histograms, the tile grids and the contact sheets."""
    tile = record.loaded.config.datasets.augmentation.tile
    if record.classes is None:
        histograms = missing(record, "prepare", "The class histograms are")
    else:
        drawn = (
            themed(
                lambda theme, of=of: draw_class_histogram(record.classes, of, theme),
                f"Bars: number of {of} of each class in the training set.",
            )
            for of in ("images", "pixels")
        )
        words = {"train": "with a mask", "test": "to predict"}
        counts = ", ".join(
            f"{scored(count, 'image')} {words.get(subset, subset)}" for subset, count in record.subsets.items()
        )
        histograms = join(
            tag("p", f"{counts}, {scored(record.num_sequences, 'sequence')}."), tag("div", *drawn, class_="pair")
        )
    if not tile.enable:
        grids = tag("p", "Whole images: this experiment cuts no tiles (TILE.ENABLE: false).")
    elif record.grids:
        drawn = (photo(path, f"Where the tiles of a set lie on an image: {path.stem}") for path in record.grids)
        grids = tag("div", *drawn, class_="pair")
    else:
        grids = missing(record, "tile", "Images of the tile grid are")
    sheets = join(*(photo(path, f"Contact sheet of samples with their masks: {path.stem}") for path in record.sheets))
    if not record.sheets:
        sheets = missing(record, "tile", "The contact sheet of samples is")
    parts = (tag("h3", "Tiles"), grids, tag("h3", "Samples"), sheets)
    return Section("data", "Data", "Data", join(histograms, *parts))


def split_section(record: Record) -> Section:
    """Returns the split, its near-duplicates, and the score under every split that was judged."""
    if record.split is None:
        return Section("split", "Split", "Split and leakage", missing(record, "prepare", "The split is"))
    datasets = record.loaded.config.datasets
    counts = f"{record.split.get('train', 0):,} train, {record.split.get('valid', 0):,} validate"
    parts = [tag("p", f"By {datasets.split.by}, SPLIT_INDEX {datasets.split_index}: {counts}.")]
    parts.append(tag("p", _leakage(record)))
    if record.judged:
        rows = [
            (
                join(one.run, tag("em", "this run") if one.run == record.folder.name else None),
                f"{one.split_by} {one.split_index}",
                bar(tag("b", score(one.metrics["dice"]["mean"])), one.metrics["dice"]["mean"]),
                score(one.metrics["dataset_iou"]["mean"]),
                f"{one.metrics['images']:,}",
                f"{(one.metrics.get('duplicates') or {}).get('near_duplicates', 0):,}",
            )
            for one in record.judged
        ]
        head = ("run", "split", "Dice", "data set IoU", "images", "near-duplicates across")
        parts.append(table(head, rows, "The same settings, judged on each split that was computed"))
    if record.num_sequences > 1 and not {one.split_by for one in record.judged} >= {"slice", "sequence"}:
        other = "slice" if datasets.split.by == "sequence" else "sequence"
        call = tag("code", f"{command(record, 'evaluate')} DATASETS.SPLIT.BY={other}")
        words = " trains anew on that split, in a run folder of its own, and judges."
        parts.append(tag("p", f"Not judged by {other} yet. ", call, words, class_="missing"))
    return Section("split", "Split", "Split and leakage", join(*parts))


def submission_section(record: Record) -> Section:
    """Returns the facts of the submission."""
    submission = record.submission
    if submission is None:
        return Section("submission", "Submission", "Submission", missing(record, "submit", "The submission is"))
    facts = {word: submission.facts[key] for key, word in SUBMISSION_WORDS.items() if key in submission.facts}
    facts |= {key: value for key, value in submission.facts.items() if key not in (*SUBMISSION_WORDS, "experiment")}
    rows = [("file", tag("code", submission.path.name))]
    rows += [(word, tag("code", _fact(value))) for word, value in facts.items()]
    fitted = None if is_ensemble(record.loaded) else decoding_tables(read_json(record.folder / DECODE))
    verdict = "ids, rows, overlaps, ranges and orientation are right" if submission.is_checked else "not checked"
    rows.append(("check", verdict if submission.is_intact else "the csv was changed after it was written"))
    content = table(("what", "value"), rows, "The file to upload")
    decoding = (tag("h3", "Decoding fitted for it"), fitted) if fitted else ()
    return Section("submission", "Submission", "Submission", join(content, *decoding))


def stages_section(record: Record) -> Section:
    """Returns which stages were done, and how long each took."""
    seconds = record.stage_seconds
    longest = max(seconds.values(), default=1.0) or 1.0
    rows = []
    for stage in record.stages:
        if stage.name == "report":  # the page itself is being written just now
            continue
        done = stage.name in seconds
        took = bar(duration(seconds[stage.name]), seconds[stage.name] / longest) if done else "not done yet"
        rows.append((stage.name, stage.does, took))
    total = sum(value for stage, value in seconds.items() if stage != "report")
    rows.append(("all", "", tag("b", duration(total))))
    content = table(("stage", "what it does", "time"), rows, "What was run", class_="stages")
    return Section("stages", "Stages", "Stages and time", content)


def settings_section(record: Record) -> Section:
    """Returns the plan, the settings that differ from base.yaml, and all settings."""
    loaded = record.loaded
    phases = phases_of(record)
    points, spans = plan_curve(phases, steps_of(record) or PLAN_STEPS)
    is_plain = not is_ensemble(loaded)
    drawn = themed(lambda theme: draw_plan(points, spans, theme=theme), "Learning rate of the plan over epochs.")
    plan_rows = [
        (
            phase.name,
            phase.epochs,
            phase.lr,
            phase.patience or "–",
            phase.start_from,
            ", ".join(f"{name} {show_value(value)}" for name, value in _extras(phase).items()) or "–",
        )
        for phase in phases
    ]
    head = ("phase", "epochs", "LR", "patience", "starts from", "besides")
    plan = table(head, plan_rows, f"The plan {loaded.config.solver.plan}, if no patience runs out")
    settings = [
        (tag("code", key), tag("code", show_value(value)), loaded.origins.get(key, ""))
        for key, value in loaded.values.items()
    ]
    own = [row for row in settings if not row[2].startswith("configs/base.yaml")]
    head = ("key", "value", "set in")
    differing = table(head, own, "What this experiment sets, on top of base.yaml")
    every = tag("details", tag("summary", f"All {len(settings)} settings"), table(head, settings, "All settings"))
    content = join(tag("div", drawn, plan, class_="pair") if is_plain else None, differing, every)
    return Section("settings", "Settings", "Plan and settings" if is_plain else "Settings", content)


def _leakage(record: Record) -> str:
    if record.leaks is None:
        return "Near-duplicates across the split were not scored."
    pairs, touched = len(record.leaks["valid_id"]), len(set(record.leaks["valid_id"]))
    if not pairs:
        return "No near-duplicates lie across the split."
    closest, affected = min(numbers(record.leaks["distance"])), record.split.get("valid", 0)
    looks = "looks the same" if closest == 0 else "looks almost the same" if closest < 4 else "is alike, not the same"
    verbs = ("lies", "touches") if pairs == 1 else ("lie", "touch")
    return (
        f"{scored(pairs, 'near-duplicate pair')} {verbs[0]} across the split and {verbs[1]} {touched:,} of "
        f"{scored(affected, 'validation image')}; the closest pair {looks}."
    )


def _extras(phase) -> dict[str, object]:
    """Returns what a phase sets beyond the usual."""
    usual = {"warmup": 0.0, "freeze": (), "loss": None, "augment": True}
    return {name: getattr(phase, name) for name, value in usual.items() if getattr(phase, name) != value}


def _fact(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {show_value(inner) or 'blank'}" for key, inner in value.items())
    return f"{value:.4f}" if isinstance(value, float) else show_value(value)
