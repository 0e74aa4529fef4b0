"""The sections on calibration, errors and suspicious masks say what the files hold."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from pipeline.paths import crop_file
from pipeline.report.figure import DARK
from pipeline.report.page import write_page
from pipeline.report.reliability import draw_distances, draw_reliability, read_reliability
from pipeline.segmentation.diagnosis import examine
from pipeline.segmentation.findings import Findings
from pipeline.segmentation.predict import decode
from tests.report.small_run import CLASSES
from tests.report.test_page import read
from tests.segmentation.members import draw_prediction
from tests.tiny import run_of

HEIGHT, WIDTH = 90, 120


def write_findings(loaded, folder, num_images: int = 3, trained: set[str] | None = frozenset()) -> dict:
    """Writes what some drawn predictions are examined for."""
    competition, rng = loaded.competition, np.random.default_rng(0)
    findings = Findings(competition, trained)
    for index in range(num_images):
        prediction = draw_prediction(rng, (HEIGHT, WIDTH), 16, sharpness=8.0, num_classes=competition.num_classes)
        truth = np.roll(decode(prediction), 6 * index, axis=1)
        found = examine([prediction], decode(prediction), truth, with_suspects=findings.is_searched(str(index)))
        findings.add(str(index), truth.shape, found)
    facts = json.loads(json.dumps(findings.facts()))
    (folder / "diagnosis.json").write_text(json.dumps(facts))
    findings.table().to_csv(folder / "suspicious.csv", index=False)
    return facts


@pytest.fixture
def examined_run(finished_run, quick_plots, monkeypatch):
    loaded, folder = finished_run
    return loaded, folder, write_findings(loaded, folder)


def test_the_calibration_error_is_said_with_what_it_means(examined_run):
    loaded, _, facts = examined_run
    reader = read(write_page(run_of(loaded)))
    whole = read_reliability(facts["calibration"])
    assert reader.faults == [] and f"Expected calibration error: {whole.error:.3f}." in reader.words
    side = "high" if whole.excess > 0 else "low"
    points = f"{abs(100 * whole.excess):.2f} percentage points too {side}"
    assert f"Overall, probabilities are {points}." in reader.words


def test_a_class_of_few_pixels_has_no_calibration_of_its_own(examined_run):
    loaded, _, facts = examined_run
    words = read(write_page(run_of(loaded))).words
    pixels = np.array(facts["calibration"]["pixels"]).sum(1)
    assert words.count("too few pixels") == (pixels < 10_000).sum() > 0


def test_objects_by_size_come_with_their_number(examined_run):
    loaded, _, facts = examined_run
    section = write_page(run_of(loaded)).read_text().split('id="errors"')[1].split("</table>")[0]
    scored = [loaded.competition.class_names.index(name) for name in CLASSES]
    whole = np.array(facts["sizes"]["counts"])[scored].sum(0)
    line = section[section.index("all scored classes") :]
    shown = [int(number.replace(",", "")) for number in re.findall(r"<small>([\d,]+)</small>", line)]
    assert shown == [int(own) for own in whole[:, 0] if own]
    found = [f"{share:.2f}" for objects, _, pixels, right in whole if objects for share in [right / pixels]]
    assert re.findall(r">(\d\.\d\d)<small>", line) == found


def test_regions_are_shown_in_their_order_the_rest_behind_a_click_and_all_words_are_plain(examined_run):
    loaded, folder, facts = examined_run
    (folder / "suspicious").mkdir()
    (folder / crop_file(1)).write_bytes(b"")
    text = write_page(run_of(loaded)).read_text()
    section = text.split('<section id="suspicious"')[1].split("</section>")[0]
    assert "Likely label errors or systematic mistakes: check them." in section
    assert "3 images searched, none of which was trained on." in section
    sizes = [
        int(own.replace(",", ""))
        for own in re.findall(r"([\d,]+) px, 0\.9|([\d,]+) px, 1\.0", section)
        for own in own
        if own
    ]
    assert len(sizes) == min(30, facts["suspects"]["regions"]) and sizes
    assert section.count("<img") == 1 and section.count("no image") == len(sizes) - 1
    assert section.count("<details>") == (len(sizes) > 12)


def test_a_run_without_suspects_says_so(finished_run, quick_plots):
    loaded, folder = finished_run
    write_findings(loaded, folder, num_images=1)  # the mask is what is predicted
    assert "None found." in read(write_page(run_of(loaded))).words


def test_images_that_were_trained_on_are_not_searched(finished_run, quick_plots):
    loaded, folder = finished_run
    write_findings(loaded, folder, trained=None)
    words = read(write_page(run_of(loaded))).words
    assert "Not searched: the first weights are from a file that may have been trained on these images." in words


def test_without_files_there_are_no_sections_and_damaged_ones_do_not_matter(finished_run, quick_plots):
    loaded, folder = finished_run
    (folder / "diagnosis.json").write_text("{")
    reader = read(write_page(run_of(loaded)))
    assert reader.faults == [] and not {"#calibration", "#errors", "#suspicious"} & set(reader.values("href"))


def test_the_plots_are_drawn_for_empty_and_full_bins():
    found = {"pixels": [[0] * 19 + [10**6]], "probability": [[0.0] * 19 + [9.8e5]], "right": [[0] * 19 + [9.7e5]]}
    for is_chosen in (True, False):
        assert draw_reliability(read_reliability(found), is_chosen, DARK).startswith(b"\x89PNG")
    assert draw_distances((1, 2), [[0, 0], [10, 5], [0, 0]], "a seam").startswith(b"\x89PNG")
    assert draw_distances((1, 2), [[0, 0]] * 3, "a seam").startswith(b"\x89PNG")
