"""What a reader has to know of pseudo-labels: in the report of a run, and in the origin of its submission."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.markup import Html, bar, join, photo, quantity, table, tag
from pipeline.report.read import numbers, percent
from pipeline.report.record import Record

RULES = (
    "These test images were themselves in training, with pseudo-labels (transductive learning). Many competitions "
    "allow that and some forbid it: read the rules. A hidden test set cannot be used so, and the gain is likely "
    "smaller there"
)
NUM_WEAKEST = 10  # images of the table


def pseudo_words(facts: Mapping[str, Any]) -> str:
    """Returns what a run was trained on beside labelled images, in a sentence.

    >>> facts = {"images": 3, "of_test": True, "teacher": "Ens", "members": {"A": "", "B": ""}, "labels": "hard"}
    >>> pseudo_words(facts | {"confidence": 0.9, "agreement": None, "labelled": 0.51})
    'hard pseudo-labels of 3 test images, by Ens (A, B): 51 % of the pixels, of a confidence of 0.9 or more'
    """
    images = f"{facts['images']:,} {'test' if facts['of_test'] else 'unlabelled'} {_images(facts['images'])}"
    members = ", ".join(facts["members"])
    by = facts["teacher"] if members == facts["teacher"] else f"{facts['teacher']} ({members})"
    sure = f"of a confidence of {facts['confidence']:g} or more"
    agreed = "" if facts["agreement"] is None else f", on which {_agreeing(facts['agreement'])} agree"
    share = f"{100 * facts['labelled']:.0f} % of the pixels"
    return f"{facts['labels']} pseudo-labels of {images}, by {by}: {share}, {sure}{agreed}"


def _agreeing(share: float) -> str:
    """Returns how many members have to agree.

    >>> _agreeing(1.0), _agreeing(0.6)
    ('all members', 'at least 60 % of the members')
    """
    return "all members" if share == 1 else f"at least {percent(share)} of the members"


def pseudo_origin(facts_by_run: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Returns what a submission's origin says of the pseudo-labels of its runs; empty where none has some.

    Args:
        facts_by_run: the content of the file of facts, by the name of each run that has some.
    """
    if not facts_by_run:
        return {}
    several = len(facts_by_run) > 1
    words = [
        f"{name}: {pseudo_words(facts)}" if several else pseudo_words(facts) for name, facts in facts_by_run.items()
    ]
    origin = {"trained_on_pseudo_labels": "; ".join(words)}
    left_out = {name: why for facts in facts_by_run.values() for name, why in facts["left_out"].items()}
    if left_out:
        origin["left_out_of_teacher"] = "; ".join(f"{name}: {why}" for name, why in left_out.items())
    if any(facts["of_test"] for facts in facts_by_run.values()):
        origin["transductive"] = RULES
    return origin


def pseudo_leakage(facts: Mapping[str, Any]) -> str | None:
    """Returns a warning where validation images have near-duplicates among the pseudo-labelled ones, else None."""
    affected = facts.get("valid_images_affected")
    if not affected:
        return None
    found = f"{affected:,} of {quantity(facts['valid_images'], 'validation image')}"
    return (
        f"{found} have a near-duplicate among the pseudo-labelled images. No member of the teacher was trained on "
        "these validation images, but their scenes were seen in training: expect a lower score on new scenes."
    )


def pseudo_section(record: Record) -> Html | None:
    """Returns the teacher, what is labelled, the near-duplicates, and a sheet of images with their labels."""
    facts, columns = record.pseudo, record.pseudo_table
    if not facts or columns is None:
        return None
    paragraphs = [tag("p", f"Beside labelled images this run was trained on {pseudo_words(facts)}.")]
    if facts["images_left_out"]:
        least = record.loaded.config.pseudo.min_labelled
        words = f"{quantity(facts['images_left_out'], 'image')} of which less than {100 * least:g} % is labelled"
        paragraphs.append(tag("p", f"Left out: {words}."))
    for name, why in facts["left_out"].items():
        paragraphs.append(tag("p", f"Of the teacher, {name} is left out: {why}."))
    paragraphs.append(tag("p", pseudo_leakage(facts) or "No near-duplicates among validation images."))
    if facts["of_test"]:
        paragraphs.append(tag("p", f"{RULES}."))
    sheet = (
        photo(record.pseudo_sheet, "Unlabelled images and their pseudo-labels")
        if record.pseudo_sheet.is_file()
        else None
    )
    return join(*paragraphs, _classes(facts), _weakest(columns), sheet)


def _classes(facts: Mapping[str, Any]) -> Html:
    total = max(1, sum(facts["pixels"].values()))
    rows = [
        (name, f"{pixels:,}", bar(percent(pixels / total), pixels / total)) for name, pixels in facts["pixels"].items()
    ]
    return table(("class", "pixels", "share of what is labelled"), rows, "Pseudo-labels by class")


def _weakest(columns: Mapping[str, list[str]]) -> Html:
    """Returns the images of which the least is labelled: where the teacher is unsure, the network learns the least."""
    labelled, confidence = numbers(columns["labelled"]), numbers(columns["confidence"])
    order = sorted(range(len(labelled)), key=labelled.__getitem__)[:NUM_WEAKEST]
    rows = [
        (
            columns["id"][index],
            bar(percent(labelled[index]), labelled[index]),
            f"{confidence[index]:.3f}",
            "yes" if columns["is_used"][index] == "1" else "no",
        )
        for index in order
    ]
    return table(("image", "labelled", "mean confidence", "used"), rows, "The images that are labelled the least")


def _images(number: int) -> str:
    return "image" if number == 1 else "images"
