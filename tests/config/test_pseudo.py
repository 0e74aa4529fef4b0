"""Pseudo-labels that contradict batches, losses, padding or the competition are refused, with what to type."""

from __future__ import annotations

import pytest

from pipeline.config.load import load
from pipeline.config.schema import pseudo_per_batch
from pipeline.errors import UserError

ON = "PSEUDO.TEACHER=DemoAAB"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        (
            ("PSEUDO.SHARE=0.3",),
            r"PSEUDO\.SHARE: 0\.3 of DATALOADERS\.TRAIN\.BATCH_SIZE 8 is 2\.4 samples.*set 0\.25 \(2 of 8\)",
        ),
        (("PSEUDO.SHARE=1",), r"expected a whole number from 1 to 7; set 0\.875"),
        (("PSEUDO.SHARE=0.01",), r"is 0\.08 samples.*set 0\.125 \(1 of 8\)"),
        (
            ("DATALOADERS.TRAIN.BATCH_SIZE=1",),
            r"a batch needs a labelled and a pseudo-labelled one, so raise BATCH_SIZE",
        ),
        (("PSEUDO.SHARE=0",), r"PSEUDO\.SHARE"),
        (("PSEUDO.CONFIDENCE=1.1",), r"PSEUDO\.CONFIDENCE"),
        (
            ("PSEUDO.LABELS=soft", "LOSS_FN.MIX=1 ce + 1 lovasz"),
            r"LOSS_FN\.MIX: lovasz takes no soft labels.*set PSEUDO.LABELS: hard",
        ),
        (
            ("PSEUDO.LABELS=soft", "LOSS_FN.MIX=ce(top=0.2)"),
            r"top of ce ranks pixels .* remove it, or set PSEUDO.LABELS: hard",
        ),
        (("PSEUDO.LABELS=soft", "DATASETS.PADDING=class"), r"DATASETS\.PADDING: class has no soft label"),
        (("PSEUDO.LABELS=soft", "DATASETS.PADDING=background"), r"set reflect or ignore"),
        (("PSEUDO.LABELS=sort",), r"PSEUDO\.LABELS"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_type(changes, wanted):
    with pytest.raises(UserError, match=wanted):
        load("DemoAAA", (ON, *changes))


@pytest.mark.parametrize(
    "changes",
    [
        ("PSEUDO.SHARE=0.375",),
        ("PSEUDO.LABELS=soft", "LOSS_FN.MIX=0.5 ce(smooth=0.1) + 0.5 dice + bce(top=0.5)", "DATASETS.PADDING=ignore"),
        ("PSEUDO.LABELS=hard", "LOSS_FN.MIX=1 lovasz", "DATASETS.PADDING=class"),
    ],
)
def test_what_can_be_is_not_refused(changes):
    assert load("DemoAAA", (ON, *changes)).has_pseudo_labels


def test_without_a_teacher_nothing_of_it_is_asked():
    loaded = load("DemoAAA", ("PSEUDO.SHARE=0.3", "PSEUDO.LABELS=soft", "LOSS_FN.MIX=1 lovasz"))
    assert not loaded.has_pseudo_labels and pseudo_per_batch(loaded.config) == 0


def test_an_ensemble_hands_it_on_to_its_members_and_its_file_may_not_set_it(configs):
    assert not load("DemoEns", (ON,)).has_pseudo_labels
    path = configs / "DemoEns.yaml"
    path.write_text(path.read_text() + "PSEUDO:\n  TEACHER: DemoAAA\n")
    with pytest.raises(UserError, match=r"PSEUDO\.TEACHER: has no effect in an ensemble"):
        load("DemoEns")


def test_a_share_that_a_float_does_not_hold_exactly_is_a_whole_number_of_samples():
    for batch in range(2, 33):
        for number in range(1, batch):
            changes = (ON, f"DATALOADERS.TRAIN.BATCH_SIZE={batch}", f"PSEUDO.SHARE={number / batch:.7g}")
            assert pseudo_per_batch(load("DemoAAA", changes).config) == number
            if batch > 6:
                break
