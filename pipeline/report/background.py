"""The page's sections on what went in: training, LR sweep, data, split and leakage, stages and their time, settings."""

from __future__ import annotations

from pipeline.config.plan import Phase
from pipeline.data.listed import is_capped
from pipeline.paths import CLASSES
from pipeline.report.boxes import anchors_part, sizes_part
from pipeline.report.curves import best_row, draw_learning_curves, draw_plan, draw_sweep, phase_spans, trained_curve
from pipeline.report.markup import Html, bar, digits, join, missing, photo, quantity, table, tag, themed
from pipeline.report.plots import draw_class_curves, draw_class_histogram, unit_of
from pipeline.report.read import Columns, numbers, read_columns, show_value, split_name
from pipeline.report.record import Record
from pipeline.scores import KINDS, label_of, per_image_score
from pipeline.training.state import when
from pipeline.wording import duration

SHEET_WIDTH = 1280  # pixels in the page, which must stay small


def training_section(record: Record) -> Html | None:
    """Returns the learning curves and the score of each class over epochs."""
    history = record.history
    if not history.get("epoch"):
        return None
    reverts = [phase.name for phase in record.phases if phase.start_from == "best"]
    num_steps = record.steps_per_epoch
    rates = trained_curve(record.phases, phase_spans(history), num_steps) if num_steps else []
    score, class_score = _in_history(history, record.score), _with_classes(record, history)
    facts = join(tag("p", _training_facts(record, history)), _plan_changes(record))
    marks = _changes_at(record)
    curves = themed(
        lambda theme: draw_learning_curves(history, score, reverts, theme, rates, marks),
        "Loss, scores and learning rate over epochs, with the phases of the plan and the best epoch marked.",
    )
    if record.is_on_all_images:
        return join(facts, curves)
    classes = themed(
        lambda theme: draw_class_curves(history, class_score, record.colors, theme),
        f"Validation {label_of(class_score)} of each class over epochs.",
    )
    return join(facts, tag("div", curves, classes, class_="pair"))


def _changes_at(record: Record) -> list[float]:
    """Returns the epochs after which the plan was changed, with a fraction within an epoch."""
    epochs, steps = (map(int, record.plan_changes.get(name, ())) for name in ("epoch", "step"))
    num_steps = record.steps_per_epoch or 1
    return [epoch + min(step / num_steps, 1.0) for epoch, step in zip(epochs, steps, strict=True)]


def _plan_changes(record: Record) -> Html | None:
    """Returns what was changed in the plan while it trained."""
    rows = zip(*(record.plan_changes.get(name, ()) for name in ("epoch", "step", "what")), strict=True)
    items = [f"{when(epoch, step).capitalize()}: {what}." for epoch, step, what in rows]
    if not items:
        return None
    text = "The plan was changed while it trained. The plan under Settings is the last one; it describes the whole run."
    return join(tag("p", text), tag("ul", *(tag("li", item) for item in items)))


def _in_history(history: Columns, score: str) -> str:
    """Returns a score, or the one like it where the training was before the competition's SCORE was set to it."""
    known = (name for name in (score, per_image_score(score)) if f"valid_{name}" in history)
    return next(known, "ap" if "valid_ap" in history else KINDS[score].like.removeprefix("present_"))


def _with_classes(record: Record, history: Columns) -> str:
    """Returns the score whose classes are drawn over epochs: that of single images, or where that has none, the own."""
    scores = (_in_history(history, record.image_score), _in_history(history, record.score))
    names = tuple(record.colors)
    return next((score for score in scores if any(f"valid_{score}_{name}" in history for name in names)), scores[0])


def _training_facts(record: Record, history: Columns) -> str:
    trained = [row for row, epoch in enumerate(record.timings.get("epoch", ())) if epoch != "0"]
    facts = [f"{quantity(len(history['epoch']) - 1, 'epoch')}, the last in phase {history['phase'][-1]}."]
    best, monitor = best_row(history), record.loaded.config.solver.monitor.removeprefix("valid_")
    if record.is_on_all_images:
        facts.append("No validation: the last weights are kept.")
    elif best is not None:
        reason = "lowest validation loss" if monitor == "loss" else f"highest validation {label_of(monitor)}"
        facts.append(f"Best: epoch {history['epoch'][best]} ({reason}).")
    if "train" not in record.stage_seconds:
        facts.append("The training is not finished.")
    if trained:
        columns = (record.timings[name] for name in ("seconds", "samples_per_s"))
        seconds, speed = (sum(float(column[row]) for row in trained) / len(trained) for column in columns)
        facts.append(f"{seconds:.1f} s per epoch, {speed:.1f} samples per second.")
    return " ".join(facts)


def sweep_section(record: Record) -> Html | None:
    """Returns the plot of the LR sweep with its suggestions."""
    found, max_lr = record.sweep_found, record.max_lr
    if not record.loaded.config.sweep.enable:
        return tag("p", "This experiment makes no LR sweep (SWEEP.ENABLE: false).")
    if record.sweep is None:
        return None
    drawn = themed(
        lambda theme: draw_sweep(record.sweep, found, max_lr, theme),
        "Loss against learning rate on a log axis, as measured and smoothed, and the suggestions.",
    )
    origin = "from the sweep (auto)" if record.loaded.config.solver.max_lr == "auto" else "set in the config"
    note = tag("p", f"MAX_LR is {max_lr:.3g}, {origin}." if max_lr else "MAX_LR waits for the sweep (auto).")
    num_repeats, median, spans = len(set(record.sweep.get("repeat", "0"))), "", ""
    if num_repeats > 1:
        median = f", the median of {num_repeats} repeats; band: from the lowest repeat to the highest"
        spans = "; in brackets, those of the single repeats"
    hint = f"Thin: the loss as measured at each rate. Thick: smoothed{median}. Marks: the suggestions{spans}."
    return tag("div", drawn, tag("div", note, tag("p", hint, class_="note")), class_="pair")


def data_section(record: Record) -> Html:
    """Returns the class histograms, the tile grids and the contact sheets."""
    if record.classes is None:
        histograms = missing(record.command("prepare"), "The class histograms are")
    else:
        drawn = (
            themed(
                lambda theme, of=of: draw_class_histogram(record.classes, of, theme),
                f"Bars: number of {of} of each class in the training set.",
            )
            for of in ("images", unit_of(record.classes))
        )
        words = {"train": "with a label", "test": "to predict"}
        counts = ", ".join(f"{quantity(count, 'image')} {words[key]}" for key, count in record.subsets.items())
        counts = tag(
            "p", f"{counts}, {quantity(record.num_sequences, 'sequence')}." if record.num_sequences else f"{counts}."
        )
        sizes = sizes_part(read_columns(record.folder / CLASSES))
        histograms = join(counts, tag("div", *drawn, class_="pair"), sizes)
    if not record.loaded.config.datasets.augmentation.tile.enable:
        grids = tag("p", "Whole images: this experiment cuts no tiles (TILE.ENABLE: false).")
    elif record.grids:
        drawn = (photo(path, f"The tiles of one set on an image: {path.stem}") for path in record.grids)
        grids = tag("div", *drawn, class_="pair")
    else:
        grids = missing(record.command("tile"), "Images of the tile grid are")
    if record.sheet.is_file():
        sheet = photo(record.sheet, f"Contact sheet of labelled samples: {record.sheet.stem}", SHEET_WIDTH)
    else:
        sheet = missing(record.command("tile"), "The contact sheet of samples is")
    return join(histograms, tag("h3", "Tiles"), grids, anchors_part(record), tag("h3", "Samples"), sheet)


def split_section(record: Record) -> Html | None:
    """Returns the split, its near-duplicates, and the score on every split that was evaluated."""
    if not record.split:
        return None
    datasets = record.loaded.config.datasets
    counts = f"{record.split['train']:,} train, {record.split['valid']:,} validation"
    if record.is_on_all_images:
        return tag("p", f"None: all {record.split['train']:,} images train, and none validates.")
    folds = f" in {datasets.split.folds} folds" if datasets.split.folds else ""
    parts = [tag("p", f"By {datasets.split.by}{folds}, SPLIT_INDEX {datasets.split_index}: {counts}.")]
    parts.append(tag("p", _leakage(record)))
    if record.split_scores:
        names = sorted(record.split_scores[0][1].scores, key=lambda name: name != record.score)
        rows = [
            (
                join(run, tag("em", "this run") if run == record.folder.name else None),
                split_name(metrics.split),
                bar(tag("b", digits(metrics.main.mean)), metrics.main.mean or 0.0),
                *(digits(metrics.mean(name)) for name in names[1:]),
                f"{metrics.images:,}",
                f"{metrics.duplicates.get('valid_images_affected', 0):,}",
            )
            for run, metrics in record.split_scores
        ]
        head = ("run", "split", *map(label_of, names), "images", "with near-duplicates")
        parts.append(table(head, rows, "The same settings on each split that was evaluated"))
    other = "slice" if datasets.split.by == "sequence" else "sequence"
    evaluated = {metrics.split.get("by") for _, metrics in record.split_scores}
    if record.num_sequences > 1 and other not in evaluated and not folds:  # folds are evaluated on every image
        call = tag("code", f"{record.command('evaluate')} DATASETS.SPLIT.BY={other}")
        words = " trains again on that split, in a run folder of its own, and evaluates."
        parts.append(tag("p", f"Not evaluated by {other} yet. ", call, words, class_="missing"))
    return join(*parts)


def near_duplicates(record: Record) -> str:
    """Returns how many near-duplicate pairs cross the split, or "" where there are none or nobody searched."""
    if not record.leaks or not record.leaks["valid_id"]:
        return ""
    pairs, affected = len(record.leaks["valid_id"]), len(set(record.leaks["valid_id"]))
    verb = "crosses" if pairs == 1 else "cross"
    least = "At least " if is_capped(record.leaks["valid_id"]) else ""
    words = quantity(pairs, "near-duplicate pair")
    return f"{least}{words} {verb} the split ({quantity(affected, 'validation image')})"


def _leakage(record: Record) -> str:
    if record.leaks is None:
        return "Near-duplicates across the split were not searched."
    text = near_duplicates(record)
    if not text:
        return "No near-duplicates across the split."
    distance = min(numbers(record.leaks["distance"]))
    likeness = "the same" if distance == 0 else "almost the same" if distance < 4 else "similar, not the same"
    return f"{text}; the images of the closest pair are {likeness}."


def stages_section(record: Record) -> Html:
    """Returns which stages were done, and how long each took."""
    seconds = dict(record.stage_seconds)
    longest = max(seconds.values(), default=1.0) or 1.0
    seconds.pop("report", None)  # the page itself is being written at this moment
    took = {name: bar(duration(value), value / longest) for name, value in seconds.items()}
    stages = (stage for stage in record.stages if stage.name != "report")
    rows = [(stage.name, stage.does, took.get(stage.name, "not done yet")) for stage in stages]
    rows.append(("all", "", tag("b", duration(sum(seconds.values())))))
    return table(("stage", "what it does", "time"), rows, "Stages of this run", class_="stages")


def settings_section(record: Record) -> Html:
    """Returns the plan, the settings that differ from base.yaml, and all settings."""
    loaded = record.loaded
    settings = [
        (tag("code", key), tag("code", show_value(value)), loaded.origins.get(key, ""))
        for key, value in loaded.values.items()
    ]
    own = [row for row in settings if not row[2].startswith("configs/base.yaml")]
    head = ("key", "value", "set in")
    differing = table(head, own, "What this experiment sets on top of base.yaml")
    every = tag("details", tag("summary", f"All {len(settings)} settings"), table(head, settings, "All settings"))
    return join(None if loaded.is_ensemble else _plan(record), differing, every)


def _plan(record: Record) -> Html:
    phases = record.phases
    drawn = themed(
        lambda theme: draw_plan(phases, record.steps_per_epoch, theme=theme), "Learning rate of the plan over epochs."
    )
    rows = [
        (phase.name, phase.epochs, phase.lr, phase.patience or "–", phase.start_from, _extras(phase))
        for phase in phases
    ]
    head = ("phase", "epochs", "LR", "patience", "starts from", "other settings")
    caption = f"The plan {record.loaded.config.solver.plan}, if patience ends no phase"
    return tag("div", drawn, table(head, rows, caption), class_="pair")


def _extras(phase: Phase) -> str:
    """Returns what a phase sets beyond the usual."""
    usual = {"warmup": 0.0, "warmup_steps": 0, "power": 0.9, "curve_epochs": None, "curve_start": 0.0}
    usual |= {"freeze": (), "loss": None, "augment": True}
    extras = {name: getattr(phase, name) for name, value in usual.items() if getattr(phase, name) != value}
    return ", ".join(f"{name} {show_value(value)}" for name, value in extras.items()) or "–"
