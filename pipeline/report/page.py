"""One self-contained page on a run, `report.html`: its head with score and warnings, and the sections below it.

In: `runs/<NAME>/` as far as it has come. Out: a page with its plots inside, for light and dark, wide and narrow
screens. It loads nothing but the images of `gallery/` and `suspicious/` beside it: its own content policy forbids it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.load import run_name
from pipeline.engine.run import Run
from pipeline.files import write_atomic
from pipeline.intervals import Interval
from pipeline.paths import REPORT
from pipeline.report import averaging, background, boxes, diagnosis, images, results, scenes
from pipeline.report.certainty import certainty, score_interval, shown_range
from pipeline.report.curves import best_row
from pipeline.report.frame import document
from pipeline.report.gallery import SCRIPT, gallery_section
from pipeline.report.markup import Html, digits, join, missing, quantity, tag
from pipeline.report.provenance import provenance_section
from pipeline.report.pseudo import pseudo_leakage, pseudo_section
from pipeline.report.read import ON_ALL_IMAGES, Metrics, numbers, score_warning
from pipeline.report.record import Record
from pipeline.report.results import never_predicted
from pipeline.report.table import read_state
from pipeline.scores import ABSENT_IS_1, KINDS
from pipeline.training.state import start_warning
from pipeline.wording import duration

# Name in the table of contents, title, stage that writes its files, function that returns its content.
SECTIONS = (
    ("Members", "Members and what combining them gains", "predict", results.members_section),
    ("Classes", "Score per class", "evaluate", results.classes_section),
    ("Boxes", "Boxes", "evaluate", boxes.boxes_section),
    ("Images", "Label and prediction", "evaluate", images.images_section),
    ("Gallery", "All validation images", "evaluate", gallery_section),
    ("Suspicious", "Suspicious masks", "evaluate", diagnosis.suspicious_section),
    ("Errors", "Where pixels are wrong", "evaluate", diagnosis.errors_section),
    ("Calibration", "How far probabilities can be trusted", "evaluate", diagnosis.calibration_section),
    ("Epochs", "The same images at chosen epochs", "train", scenes.scenes_section),
    ("Confusion", "Confusion between classes", "evaluate", results.confusion_section),
    ("Training", "Training", "train", background.training_section),
    ("Averaging", "Averaged weights", "average", averaging.averaging_section),
    ("LR sweep", "Learning rate sweep", "sweep", background.sweep_section),
    ("Pseudo-labels", "Pseudo-labels", "pseudo", pseudo_section),
    ("Data", "Data", "prepare", background.data_section),
    ("Split", "Split and leakage", "prepare", background.split_section),
    ("Submission", "Submission", "submit", results.submission_section),
    ("Stages", "Stages and time", "prepare", background.stages_section),
    ("Provenance", "Versions, machine, memory, speed", "evaluate", provenance_section),
    ("Settings", "Settings", "prepare", background.settings_section),
)
OF_BOXES = {"Confusion": boxes.confusion_section}  # instead of those of pixels
OF_TRAINING = ("Epochs", "Training", "LR sweep", "Data", "Split")  # an ensemble trains nothing and cuts no tiles

OF_VALIDATION = ("Classes", "Boxes", "Images", "Confusion", "LR sweep")  # a run on all images has none


def write_page(run: Run) -> Path:
    """Writes `report.html` into a run's folder from the files that are there; returns its path.

    A part whose file is missing names the command that makes it, so the page can be written after any stage.
    """
    record, path = Record(run), run.paths / REPORT
    absent = OF_TRAINING if record.loaded.is_ensemble else ("Members",)
    if not record.loaded.has_pseudo_labels:
        absent += ("Pseudo-labels",)
    if record.is_on_all_images:
        absent += OF_VALIDATION
    if not record.loaded.is_averaged:
        absent += ("Averaging",)
    if not record.loaded.config.report.epochs:
        absent += ("Epochs",)
    if not record.provenance:
        absent += ("Provenance",)
    if not record.gallery:
        absent += ("Gallery",)
    if not record.diagnosis:
        absent += ("Suspicious", "Errors", "Calibration")
    if record.loaded.competition.is_multilabel:
        absent += ("Confusion",)  # no class is taken for another
    absent += record.words.absent
    sections = [section for section in SECTIONS if section[0] not in absent]
    score, name = record.metrics.main if record.metrics else None, record.folder.name
    own = OF_BOXES if record.loaded.competition.has_boxes else {}
    sections = [(section, title, stage, own.get(section, make)) for section, title, stage, make in sections]
    made = [(name, title, make(record) or missing(record.command(stage))) for name, title, stage, make in sections]
    title = f"{name}, {score.label} {digits(score.mean)}" if score else name
    script = SCRIPT if "Gallery" in (own[0] for own in sections) else None
    has_files = script is not None or bool(record.diagnosis)
    write_atomic(path, document(title, name, _headline(record), made, script, has_files=has_files))
    return path


def _headline(record: Record) -> Html:
    """Returns the header of the page: score, state, and what to know before trusting the score."""
    loaded, found = record.loaded, warnings(record)
    words = _member_words(loaded.config.ensemble.members) if loaded.is_ensemble else _spoken_name(record)
    name = tag("h1", record.folder.name, " ", tag("small", words))
    state = read_state(record.folder, record.stages) or "not started"
    listed = tag("ul", *(tag("li", text) for text in found))
    refusal = record.refusal if "message" in record.refusal else None
    refused = refusal and (tag("h2", f"{refusal['stage']} was refused"), tag("pre", refusal["message"]))
    return tag(
        "header",
        tag("p", f"{loaded.competition.name}: {loaded.competition.title}", class_="eyebrow"),
        tag("div", name, tag("span", state, class_="state"), class_="title"),
        tag("p", record.header.question, class_="question") if record.header.question else None,
        tag("aside", *refused, class_="caution") if refused else None,
        _score(record, record.metrics) if record.metrics else None,
        tag("aside", tag("h2", "Read before trusting the score"), listed, class_="caution") if found else None,
    )


def _member_words(members: Sequence[str]) -> str:
    """Returns an ensemble's members in a few words.

    >>> _member_words(["ExpBAA", "ExpBAB"]), _member_words(["ExpBAA SOLVER.POWER=1", "ExpBAA SOLVER.POWER=2"])
    ('ExpBAA, ExpBAB', '2 runs of ExpBAA')
    """
    configs = {member.split()[0] for member in members}
    return f"{len(members)} runs of {configs.pop()}" if len(configs) == 1 else ", ".join(members)


def _spoken_name(record: Record) -> str:
    """Returns the run name without the prefix and suffix of base.yaml, which nobody has chosen."""
    experiment, words, origins = record.loaded.config.experiment, run_name(record.loaded.config), record.loaded.origins
    if origins.get("EXPERIMENT.PREFIX", "").startswith("configs/base.yaml"):
        words = words.removeprefix(f"{experiment.prefix}-")
    if origins.get("EXPERIMENT.SUFFIX", "").startswith("configs/base.yaml"):
        words = words.removesuffix(f"-{experiment.suffix}")
    return words


def _score(record: Record, metrics: Metrics) -> Html:
    """Returns the competition's own score beside what the majority class reaches and what was published."""
    main, header = metrics.main, record.header
    marks = []
    if (majority := metrics.majority.get(main.name)) is not None:
        marks.append(("majority", majority, f"predicting {metrics.majority_class} everywhere"))
    if header.published is not None and "DATASETS.COMPETITION" not in record.loaded.changed:
        is_same = header.published_label == main.label
        words = "published for this experiment" if is_same else f"published {header.published_label}"
        marks.append(("published" if is_same else "other", header.published, words))
    shares = [("own", main.mean or 0.0), *((kind, value) for kind, value, _ in marks if kind != "other")]
    scale = [tag("span", class_=kind, style=f"--at:{100 * min(max(value, 0), 1):.1f}%") for kind, value in shares]
    scale.insert(1, _range_mark(found := score_interval(record)))
    keys = (tag("li", tag("b", digits(value)), " ", meaning, class_=kind) for kind, value, meaning in marks)
    words = f"validation {main.label}, {_over_classes(metrics)}"
    left = tag(
        "div",
        tag("p", tag("strong", digits(main.mean)), _range_words(found), " ", words, class_="score"),
        tag("div", *scale, class_="scale", aria_hidden="true"),
        tag("ul", *keys, class_="key"),
        certainty(record, found),
        class_="main",
    )
    return tag("div", left, _facts(record, metrics), class_="result")


def _range_mark(found: Interval | None) -> Html | None:
    """Returns the interval on the scale of the score."""
    if found is None or found.num_groups < 2:
        return None
    low, high = (100 * end for end in shown_range(found))
    return tag("span", class_="range", style=f"--at:{low:.1f}%;--to:{high - low:.1f}%")


def _range_words(found: Interval | None) -> Html | None:
    if found is None or found.num_groups < 2:
        return None
    return tag("span", " to ".join(map(digits, shown_range(found))), class_="interval", title="95 % interval")


def _over_classes(metrics: Metrics) -> str:
    """Returns of which classes the mean scores are: of all, or of those that the competition or the config scores."""
    names = metrics.scored
    if len(names) == len(metrics.main.classes):
        return "mean over classes"
    return f"of {names[0]} alone" if len(names) == 1 else f"mean over {', '.join(names[:-1])} and {names[-1]}"


def _facts(record: Record, metrics: Metrics) -> Html:
    ensemble = record.loaded.config.ensemble
    how = {True: "per image and class, then averaged", False: "over the whole data set at once"}
    facts = [(score.label, digits(score.mean), how[score.name in record.per_image]) for score in metrics.others]
    if ensemble.members is not None:
        facts.append(("members", len(ensemble.members), f"combined by {ensemble.method}"))
    elif weights := metrics.checkpoint.get("weights"):
        facts.append(("weights", "averaged", weights))
    else:
        loss = digits(metrics.checkpoint.get("valid_loss"))
        facts.append(("best epoch", metrics.checkpoint.get("epoch", "–"), f"validation loss {loss}"))
    seconds = sum(record.stage_seconds.values())
    facts.append(("time", duration(seconds) if seconds else "–", f"{quantity(metrics.images, 'image')} scored"))
    entries = (
        tag("div", tag("dt", name), tag("dd", value, tag("small", note)), class_="fact") for name, value, note in facts
    )
    return tag("dl", *entries, class_="facts")


def warnings(record: Record) -> list[Html | str]:
    """Returns what a reader of the score must know before trusting it."""
    metrics = record.metrics
    if record.is_on_all_images:
        source = record.loaded.config.solver.from_
        text = f"No score: this run {ON_ALL_IMAGES}. Its epochs, thresholds and auto rate are those of {source}"
        return [f"{text}, whose score is the nearest that is known.", *_submission_warnings(record)]
    found: list[Html | str | None] = [score_warning(metrics.content) if metrics else None, _start_warning(record)]
    if metrics and "train" not in record.stage_seconds and not record.loaded.is_ensemble:
        found.append("Training is not finished: the scores are of an earlier training.")
    found += [*_leakage_warnings(record), _class_warning(record)]
    plot = join(" (", tag("a", "plot", href="#sweep"), ").")
    found += [join(text, plot) for text in record.sweep_found.get("warnings") or []]
    found += _submission_warnings(record)
    return [text for text in found if text]


def _leakage_warnings(record: Record) -> list[Html | str]:
    datasets, found = record.loaded.config.datasets, []
    if text := background.near_duplicates(record):
        text += ": the score is optimistic. "
        if record.loaded.is_ensemble:
            split = tag("code", "DATASETS.SPLIT.BY=sequence")
            text = join(text, "To measure by how much, train the members with ", split, ".")
        elif datasets.split.by != "sequence" and record.num_sequences > 1:
            call = tag("code", f"{record.command()} DATASETS.SPLIT.BY=sequence")
            text = join(text, call, " trains again and validates on other sequences.")
        found.append(text)
    if text := pseudo_leakage(record.pseudo):
        found.append(text)
    if datasets.split_index < 0:
        share = f"{-datasets.split_index} % of the images (SPLIT_INDEX {datasets.split_index})"
        found.append(f"A quick run on {share}: not comparable with runs on all of them.")
    return found


def _start_warning(record: Record) -> str | None:
    best = best_row(record.history) if record.history and "train" in record.stage_seconds else None
    if best is None:
        return None
    monitor, load_prev = record.loaded.config.solver.monitor, record.loaded.config.experiment.load_prev
    return start_warning(numbers(record.history[monitor]), best, monitor, load_prev)


def _class_warning(record: Record) -> str | None:
    names, metrics = never_predicted(record), record.metrics
    if not names or not metrics:
        return None
    main, verb, owner = metrics.main, *(("is", "its") if len(names) == 1 else ("are", "their"))
    listed = ", ".join(f"{name} ({digits(main.classes.get(name))})" for name in names)
    reason = f": {owner} {main.label} is only the share of images without the class"
    return f"{listed} {verb} never predicted{reason if KINDS[main.name].meaning == ABSENT_IS_1 else ''}."


def _submission_warnings(record: Record) -> list[Html | str]:
    submission, main = record.submission, record.metrics.main if record.metrics else None
    if submission is None:
        return []
    found = []
    if not submission.is_intact:
        found.append(f"{submission.path.name} was changed after it was written: its hash is not the one in its .json.")
    if shortened := submission.facts.get("shortened"):
        found.append(f"{submission.path.name} was shortened: {shortened}.")
    local = submission.facts.get("local_score")
    is_comparable = main and main.mean is not None and submission.facts.get("score") == main.name and local is not None
    if is_comparable and abs(local - main.mean) > 1e-6:
        text = f"{submission.path.name} is of an earlier state of this run (local {main.label} {digits(local)}); "
        found.append(join(text, tag("code", record.command("submit")), " writes it again."))
    return found
