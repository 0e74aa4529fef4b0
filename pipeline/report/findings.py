"""The sections on what came out: score per class, images, confusions, training, learning rate."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.report.class_curves import draw_class_dice
from pipeline.report.curves import draw_learning_curves, phase_spans
from pipeline.report.figure import DARK, LIGHT, Theme
from pipeline.report.headline import never_predicted
from pipeline.report.markup import Html, bar, body, join, photo, plot, table, table_of, tag
from pipeline.report.plans import trained_curve
from pipeline.report.plots import draw_confusion, largest_confusions
from pipeline.report.rates import SWEEP_MARKS, draw_sweep
from pipeline.report.read import numbers, two_digits
from pipeline.report.record import Record
from pipeline.report.section import Section, missing, percent, phases_of, score, scored, steps_of

GROUP_TITLES = {"best": "Best", "median": "In the middle", "worst": "Worst"}
CLASS_HEADINGS = ("class", "Dice", "IoU", "data set IoU", "images, validation", "images, all", "share of pixels")


def themed(draw: Callable[[Theme], bytes], alt: str, caption: object = None) -> Html:
    """Returns a plot for light and for dark screens."""
    return plot(draw(LIGHT), draw(DARK), alt, caption)


def classes_section(record: Record) -> Section:
    """Returns the table of scores per class, the weakest first or in the competition's order."""
    if record.metrics is None:
        content = missing(record, "evaluate", "The score of each class is")
    else:
        content = _class_table(record)
    return Section("classes", "Classes", "Score per class", content)


def images_section(record: Record) -> Section:
    """Returns the panels of the best, median and worst images."""
    parts: list[Html] = []
    dice = {}
    if record.per_image:
        dice = dict(zip(record.per_image["id"], numbers(record.per_image["dice"]), strict=True))
    for group, title in GROUP_TITLES.items():
        panels = [panel for panel in record.panels if panel.group == group]
        figures = []
        for panel in panels:
            about = f"{panel.image_id}, Dice {score(dice.get(panel.image_id))}"
            figures.append(photo(panel.path, f"{title} {panel.rank}: {about}. Image, truth, prediction, errors."))
        if figures:
            parts.append(tag("h3", title))
            parts += figures
    if not parts:
        parts.append(missing(record, "evaluate", "Images of truth and prediction are"))
    return Section("images", "Images", "What the network sees and says", join(*parts))


def confusion_section(record: Record) -> Section:
    """Returns the confusion matrix and its largest entries in words."""
    if record.confusion is None:
        content = missing(record, "evaluate", "The confusion matrix is")
    else:
        found = largest_confusions(record.confusion)
        items = (
            tag("li", bar(tag("b", percent(share)), share), tag("span", f"{truth} taken for ", tag("b", predicted)))
            for truth, predicted, share in found
        )
        words = tag(
            "div",
            tag("h3", "The largest, as share of the true class"),
            tag("ul", *items, class_="confusions") if found else tag("p", "None."),
        )
        alt = "Heat map of true class against predicted class, in per cent of the true class's pixels."
        drawn = themed(lambda theme: draw_confusion(record.confusion, theme), alt)
        content = tag("div", drawn, words, class_="pair")
    return Section("confusion", "Confusion", "Which class is taken for which", content)


def training_section(record: Record) -> Section:
    """Returns the learning curves and the Dice of each class over epochs."""
    if record.history is None or not record.history.get("epoch"):
        return Section("training", "Training", "Training", missing(record, "train", "The learning curves are"))
    history, plan, num_steps = record.history, phases_of(record), steps_of(record)
    reverts = [phase.name for phase in plan if phase.start_from == "best"]
    rates = trained_curve(plan, phase_spans(history), num_steps) if num_steps else []
    monitor = record.loaded.config.solver.monitor
    colors = dict(zip(record.loaded.competition.classes, record.loaded.competition.colors, strict=True))
    timings = record.timings or {"epoch": (), "seconds": (), "samples_per_s": ()}
    trained = [row for row, epoch in enumerate(timings["epoch"]) if epoch != "0"]
    seconds, speed = ([float(timings[name][row]) for row in trained] for name in ("seconds", "samples_per_s"))
    last_phase = history["phase"][-1]
    facts = [f"{scored(len(history['epoch']) - 1, 'epoch')}, the last in phase {last_phase}."]
    if "train" not in record.stage_seconds:
        facts.append("The training is not over.")
    if trained:
        facts.append(f"{sum(seconds) / len(trained):.1f} s an epoch, {sum(speed) / len(trained):.1f} samples a second.")
    curves = themed(
        lambda theme: draw_learning_curves(history, reverts, theme, rates, monitor),
        "Loss, Dice and IoU, and learning rate over epochs, with the phases of the plan and the epoch kept marked.",
    )
    classes = themed(
        lambda theme: draw_class_dice(history, colors, theme), "Validation Dice of each class over epochs."
    )
    content = join(tag("p", " ".join(facts)), tag("div", curves, classes, class_="pair"))
    return Section("training", "Training", "Training", content)


def sweep_section(record: Record) -> Section:
    """Returns the plot of the LR sweep with its suggestions."""
    solver, found = record.loaded.config.solver, record.sweep_found or {}
    max_lr = found.get("max_lr") if solver.max_lr == "auto" else solver.max_lr
    if not record.loaded.config.sweep.enable:
        content = tag("p", "This experiment makes no LR sweep (SWEEP.ENABLE: false).")
    elif record.sweep is None:
        content = missing(record, "sweep", "The LR sweep is")
    else:
        drawn = themed(
            lambda theme: draw_sweep(record.sweep, found, max_lr, theme),
            "Loss against learning rate on a log axis, as measured and smoothed, and the suggestions.",
        )
        suggestions = found.get("suggestions") or {}
        rows = [
            (words, two_digits(suggestions[key]), _ratio(max_lr, suggestions[key]))
            for key, words in SWEEP_MARKS.items()
            if suggestions.get(key)
        ]
        words = (
            table(("suggestion", "learning rate", "MAX_LR is"), rows, "Suggestions of the sweep") if rows else Html()
        )
        origin = "taken from the sweep (auto)" if solver.max_lr == "auto" else "set in the config"
        note = tag("p", f"MAX_LR is {max_lr:.3g}, {origin}." if max_lr else "MAX_LR waits for the sweep (auto).")
        hint = tag("p", _sweep_hint(len(set(record.sweep.get("repeat", "0")))), class_="note")
        content = tag("div", drawn, tag("div", words, note, hint), class_="pair")
    return Section("sweep", "LR sweep", "Learning rate sweep", content)


def _sweep_hint(num_repeats: int) -> str:
    """Returns how the plot is to be read."""
    words = "Thin: the loss as it was measured at each rate. Thick: smoothed"
    if num_repeats == 1:
        return f"{words}. Dots: the suggestions, on the curve of the validation and one below the other."
    return (
        f"{words}, the median of {num_repeats} repeats; band: from the lowest repeat to the highest. Dots: the "
        f"suggestions, on the curve of the validation and one below the other, with the span of the single repeats."
    )


def _class_table(record: Record) -> Html:
    metrics, known = record.metrics, {row.name: row for row in record.classes or []}
    colors = dict(zip(record.loaded.competition.classes, record.loaded.competition.colors, strict=True))
    dead = never_predicted(record)
    lines = {}
    for name, dice in metrics["dice"]["classes"].items():
        color = "#{:02x}{:02x}{:02x}".format(*colors.get(name, (128, 128, 128)))
        swatch = tag("span", class_="swatch", style=f"background:{color}", aria_hidden="true")
        row = known.get(name)
        lines[name] = (
            join(swatch, name, tag("em", "never predicted") if name in dead else None),
            bar(tag("b", score(dice)), _or(dice, 0.0)),
            score(metrics["iou"]["classes"].get(name)),
            score(metrics["dataset_iou"]["classes"].get(name)),
            "–" if row is None or row.valid_images is None else f"{row.valid_images:,}",
            f"{row.images:,}" if row else "–",
            bar(percent(row.pixel_share), row.pixel_share) if row else "–",
        )
    weakest = sorted(lines, key=lambda name: _or(metrics["dice"]["classes"][name], 2.0))
    mean = ("mean", *(score(metrics[family]["mean"]) for family in ("dice", "iou", "dataset_iou")), "", "", "")
    header = tag("thead", tag("tr", *(tag("th", heading, scope="col") for heading in CLASS_HEADINGS)))
    bodies = [
        body((lines[name] for name in weakest), class_="by-score"),
        body(lines.values(), class_="by-index"),
        body([mean], class_="mean"),
    ]
    choices = (
        tag("input", type="radio", name="order", id="by-score", checked=True),
        tag("label", "weakest first", for_="by-score"),
        tag("input", type="radio", name="order", id="by-index"),
        tag("label", "in the competition's order", for_="by-index"),
    )
    note = (
        "Dice and IoU: per image and class, 1 where both lack the class, averaged over images. "
        "Data set IoU: from the summed confusion matrix."
    )
    caption = scored(metrics["images"], "validation image")
    return tag("div", *choices, table_of(header, bodies, caption), tag("p", note, class_="note"), class_="order")


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _ratio(max_lr: float | None, rate: float) -> str:
    if not max_lr:
        return "–"
    factor = max(max_lr / rate, rate / max_lr)
    if factor < 1.5:
        return "there"
    return f"{two_digits(factor)} times {'above' if max_lr > rate else 'below'}"
