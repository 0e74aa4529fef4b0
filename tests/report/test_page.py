"""The page: whole without network or other files, escaped, writable after any stage, honest in its warnings."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pipeline.data.listed import MOST_LISTED
from pipeline.report import background
from pipeline.report.figure import encode_png
from pipeline.report.markup import VOID_TAGS
from pipeline.report.page import write_page
from pipeline.scores import LABELS
from tests.report.small_run import make_history, metrics_of, write_csv, write_evaluated, write_prepared
from tests.tiny import run_of

PNG = encode_png(Image.new("RGB", (20, 10)))


class Reader(HTMLParser):
    """Notes what is not well-formed, every address, every id, and the visible text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open_tags: list[str] = []
        self.faults: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID_TAGS:
            self.open_tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open_tags or self.open_tags.pop() != tag:
            self.faults.append(f"</{tag}> closes something else")

    def handle_data(self, data: str) -> None:
        if self.open_tags and self.open_tags[-1] != "style":
            self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(name)) is not None]

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return reader


@pytest.fixture
def finished_page(finished_run, quick_plots) -> Reader:
    loaded, _ = finished_run
    return read(write_page(run_of(loaded)))


def test_the_page_is_well_formed(finished_page):
    assert finished_page.faults == []
    assert finished_page.open_tags == []
    identities = finished_page.values("id")
    assert len(identities) == len(set(identities))


def test_the_page_loads_nothing(finished_run, quick_plots):
    loaded, folder = finished_run
    content = write_page(run_of(loaded)).read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]", re.sub(r"base64,[\w+/=]+", "", content))
    assert "@import" not in content
    assert "url(" not in content
    assert "<script" not in content
    reader = read(folder / "report.html")
    for address in [*reader.values("src"), *reader.values("srcset")]:
        assert address.startswith("data:image/")
    assert all(address.startswith("#") or address == "data:," for address in reader.values("href"))


def test_every_image_can_be_decoded_and_has_words_beside_it(finished_run):
    loaded, _ = finished_run
    images = [attributes for tag, attributes in read(write_page(run_of(loaded))).elements if tag == "img"]
    assert len(images) == 7 + 3 + 2  # plots, panels, contact sheet and tile grid
    for attributes in images:
        assert attributes["alt"]
        with Image.open(io.BytesIO(base64.b64decode(attributes["src"].partition(",")[2]))) as image:
            assert image.width // 2 == int(attributes["width"])
            image.load()


def test_plots_come_for_light_and_dark_screens(finished_page):
    sources = [attributes for tag, attributes in finished_page.elements if tag == "source"]
    assert len(sources) == 7
    assert all(attributes["media"] == "(prefers-color-scheme: dark)" for attributes in sources)


def test_contents_lead_to_every_section(finished_page):
    links = [address.removeprefix("#") for address in finished_page.values("href") if address.startswith("#")]
    assert set(links) <= set(finished_page.values("id"))
    sections = [attributes["id"] for tag, attributes in finished_page.elements if tag == "section"]
    assert set(sections) < set(links)


def test_the_score_stands_beside_a_guess_and_the_published_one(finished_page):
    assert "0.762 validation Dice" in finished_page.words
    assert "0.310 predicting Road everywhere" in finished_page.words
    assert "0.875 published for this experiment" in finished_page.words


def test_the_weakest_class_leads(finished_run, quick_plots):
    loaded, _ = finished_run
    rows = write_page(run_of(loaded)).read_text().split('id="classes"')[1].split("</tbody>")[0]
    assert re.findall(r"</span>(\w+)(?:<em>|</th>)", rows) == ["Person", "Sky", "Background", "Road"]


def test_warnings_name_leaks_dead_classes_and_the_sweep(finished_page):
    assert (
        "5 near-duplicate pairs cross the split (3 validation images): the score is optimistic." in finished_page.words
    )
    assert "./run.sh ExpAAD DATASETS.SPLIT.BY=sequence" in finished_page.words
    assert (
        "Person (0.400) is never predicted: its Dice is only the share of images without the class."
        in finished_page.words
    )
    assert "lies far below the sweep's suggestion" in finished_page.words


def test_a_score_not_above_the_majority_guess_is_warned_of(finished_run, quick_plots):
    loaded, folder = finished_run
    write_evaluated(folder, dice=(0.3, 0.2, 0.4, 0.1))
    words = read(write_page(run_of(loaded))).words
    assert "The validation Dice 0.2500 is not above 0.3100, the score of predicting Road everywhere." in words


def test_a_changed_submission_is_noticed(finished_run, tmp_path, quick_plots):
    loaded, _ = finished_run
    assert "are right" in read(write_page(run_of(loaded))).words
    with open(tmp_path / "submissions" / "ExpAAD.csv", "a") as file:
        file.write("000004_001_0,0 5\n")
    words = read(write_page(run_of(loaded))).words
    assert "ExpAAD.csv was changed after it was written" in words
    assert "are right" not in words


def test_a_refusal_is_shown_above_everything_with_its_message(finished_run, quick_plots):
    loaded, folder = finished_run
    assert "was refused" not in read(write_page(run_of(loaded))).words
    message = "ExpAAD.csv has 3 problems:\n  row 7: a <b>run</b> ends beyond the image"
    (folder / "refused.json").write_text(json.dumps({"stage": "submit", "message": message}))
    reader = read(write_page(run_of(loaded)))
    assert reader.faults == []
    assert f"submit was refused{message}" in "".join(reader.text)
    assert reader.words.index("submit was refused") < reader.words.index("validation Dice")
    (folder / "refused.json").write_text("{")
    assert "was refused" not in read(write_page(run_of(loaded))).words


def test_a_submission_of_an_earlier_training_is_noticed(finished_run, quick_plots):
    loaded, folder = finished_run
    write_evaluated(folder, dice=(0.9, 0.5, 0.95, 0.8))
    assert "is of an earlier state of this run (local Dice 0.762)" in read(write_page(run_of(loaded))).words


def test_both_scores_are_shown_where_both_were_computed(finished_run, new_run, quick_plots):
    loaded, _ = finished_run
    assert "Not evaluated by sequence yet" in read(write_page(run_of(loaded))).words
    other, other_folder = new_run("ExpAAD", "DATASETS.SPLIT.BY=sequence")
    write_evaluated(other_folder, "sequence", (0.7, 0.2, 0.9, 0.6))
    stranger, stranger_folder = new_run("ExpAAD", "DATASETS.SPLIT.BY=sequence", "SOLVER.POWER=2")
    write_evaluated(stranger_folder, "sequence")
    words = read(write_page(run_of(loaded))).words
    assert "Not evaluated by sequence yet" not in words
    assert f"{other.run}sequence 00.600" in words.replace(" ", "").replace("sequence0", "sequence 0")
    assert stranger.run not in words


def test_numbers_agree_with_their_nouns(finished_run, quick_plots):
    loaded, folder = finished_run
    write_csv(folder / "leakage.csv", ["train_id", "valid_id", "distance"], [["000000_000", "000004_001", 0]])
    metrics = metrics_of() | {"duplicates": {"near_duplicates": 1, "valid_images_affected": 1}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    words = read(write_page(run_of(loaded))).words
    assert "1 near-duplicate pair crosses the split (1 validation image): " in words
    assert "1 near-duplicate pair crosses the split (1 validation image); the images of" in words
    rows = [[f"000000_{index:03d}", "000004_001", 0] for index in range(MOST_LISTED)]
    write_csv(folder / "leakage.csv", ["train_id", "valid_id", "distance"], rows)
    assert (
        "At least 20 near-duplicate pairs cross the split (1 validation image)"
        in read(write_page(run_of(loaded))).words
    )


def test_evaluating_on_another_split_is_said_to_train_again(finished_page):
    assert "DATASETS.SPLIT.BY=sequence trains again on that split, in a run folder of its own" in finished_page.words


def test_the_sweeps_warnings_lead_to_its_plot(finished_page):
    assert "the sweep's suggestion 0.01 (plot)." in finished_page.words
    assert finished_page.values("href").count("#sweep") == 2


def test_a_fitted_decoding_is_shown(finished_run, quick_plots):
    loaded, folder = finished_run
    assert "Fitted decoding" not in read(write_page(run_of(loaded))).words
    gain = {"mean": 0.01, "low": 0.005, "high": 0.02}
    rule = {"class": "Person", "measure": "pixels", "least": 40}
    found = {"rules": [rule], "gains": {"Person": gain}, "in_sample": {"Person": 0.02}, "survived": 0.5, "words": ""}
    (folder / "decode.json").write_text(json.dumps(found))
    words = read(write_page(run_of(loaded))).words
    assert "Fitted decoding" in words
    assert "pixels below 40" in words
    assert "50 % of the gain in sample survives" in words


def test_rules_for_components_are_shown_with_their_gain(finished_run, quick_plots):
    loaded, folder = finished_run
    gain = {"mean": 0.01, "low": 0.005, "high": 0.02}
    gains = {"Person, min_area": gain, "Car, largest": gain | {"low": -0.01}}
    found = {"gains": gains, "in_sample": dict.fromkeys(gains, 0.02), "survived": 0.5, "words": "", "is_given": False}
    found["rules"] = [{"rule": "min_area", "class": "Person", "settings": {"share": 0.001}}]
    (folder / "decode.json").write_text(json.dumps({"components": found}))
    words = read(write_page(run_of(loaded))).words
    assert "Person, min_area" in words and "min_area(Person, share=0.001)" in words
    assert re.search(r"Car, largest\W*kept", words)
    given = {"all rules, as given": gain}
    found |= {"is_given": True, "gains": given, "in_sample": dict.fromkeys(given, 0.01), "survived": None}
    (folder / "decode.json").write_text(json.dumps({"components": found}))
    words = read(write_page(run_of(loaded))).words
    assert "all rules, as given" in words and "min_area(Person, share=0.001)" in words


def test_a_name_has_only_the_parts_that_somebody_set(new_run, quick_plots):
    loaded, _ = new_run("demo")
    assert "DEMO-FPN-RNT18-1C-T-DA" in read(write_page(run_of(loaded))).words
    origins = dict.fromkeys(loaded.origins, "configs/base.yaml:1")
    words = read(write_page(run_of(replace(loaded, origins=origins)))).words
    assert "demo FPN-RNT18" in words


def test_a_page_can_be_written_before_anything_has_run(new_run, quick_plots):
    loaded, _ = new_run("ExpBAA", "SOLVER.MAX_LR=auto", "DATASETS.AUGMENTATION.COPY_PASTE.CLASSES=[Person, Road]")
    reader = read(write_page(run_of(loaded)))
    assert reader.faults == []
    call = "SOLVER.MAX_LR=auto"
    for stage in ("prepare", "tile", "sweep", "train", "evaluate", "submit"):
        assert re.search(rf"not there yet\. \./run\.sh ExpBAA {stage} .*?{call}", reader.words), stage
    assert '\'DATASETS.AUGMENTATION.COPY_PASTE.CLASSES=["Person", "Road"]\'' in reader.words


def test_a_page_can_be_written_after_each_stage(new_run, quick_plots):
    loaded, folder = new_run("ExpAAB")
    write_prepared(folder)
    words = read(write_page(run_of(loaded))).words
    assert "30 images with a label, 5 sequences" in words
    assert "24 train, 6 validation" in words
    assert "this experiment cuts no tiles" in words
    head, rows = make_history()
    write_csv(folder / "history.csv", head, rows[:1])
    assert "0 epochs, the last in phase flat. The training is not finished." in read(write_page(run_of(loaded))).words


def test_a_class_that_no_image_shows_has_a_dash(finished_run, quick_plots):
    loaded, folder = finished_run
    metrics = metrics_of()
    metrics["scores"]["miou"]["classes"]["Person"] = None
    metrics["scores"]["dice"]["classes"]["Sky"] = None
    (folder / "metrics.json").write_text(json.dumps(metrics))
    reader = read(write_page(run_of(loaded)))
    assert reader.faults == []
    assert "–" in reader.words


@pytest.mark.parametrize(
    ("score", "like", "words"),
    [
        ("global_dice", "dice", "global Dice and mIoU: over the data set at once."),
        ("fwiou", "iou", "fwIoU: over the data set at once, all classes weighted with their pixels."),
        ("present_iou", "iou", "IoU where present: per image and class, of images whose label has the class, then"),
    ],
)
def test_a_score_that_the_training_did_not_compute_yet_is_drawn_by_one_like_it(
    finished_run, monkeypatch, score, like, words
):
    loaded, folder = finished_run
    metrics = metrics_of(score=score)
    metrics["scores"][score] = metrics["scores"]["dice"] | {"label": LABELS[score]}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    drawn = []
    monkeypatch.setattr(background, "draw_learning_curves", lambda history, score, *_: drawn.append(score) or PNG)
    monkeypatch.setattr(background, "draw_class_curves", lambda history, score, *_: drawn.append(score) or PNG)
    reader = read(write_page(run_of(loaded)))
    assert reader.faults == [] and set(drawn) == {like}
    assert words in reader.words


def test_texts_from_files_are_escaped(finished_run, quick_plots):
    loaded, folder = finished_run
    evil = "<img src=x onerror=alert(1)>"
    found = json.loads((folder / "lr_sweep.json").read_text())
    (folder / "lr_sweep.json").write_text(json.dumps({**found, "warnings": [evil]}))
    panel = folder / "panels" / "best_1_000004_003.png"
    panel.rename(panel.with_name('best_1_a"b&<i>.png'))
    metrics = metrics_of()
    metrics["majority"]["class"] = "</p><b>Road"
    (folder / "metrics.json").write_text(json.dumps(metrics))
    reader = read(write_page(run_of(loaded)))
    assert reader.faults == []
    assert evil in reader.words
    assert "</p><b>Road" in reader.words
    assert any('a"b&<i>' in alt for alt in reader.values("alt"))
    assert not reader.values("onerror")


def test_settings_of_the_experiment_come_with_the_file_that_set_them(finished_page):
    assert "DATASETS.AUGMENTATION.TILE.ENABLE true configs/ExpAAD.yaml:" in re.sub(
        r"(true|false)configs", r"\1 configs", finished_page.words.replace("ENABLEtrue", "ENABLE true")
    )
    assert re.search(r"All \d{2,3} settings", finished_page.words)


def test_times_of_the_stages_are_added_up(finished_page):
    assert "1 min 40 s" in finished_page.words
    assert "1 min 56 s" in finished_page.words


def test_the_same_run_gives_the_same_page(finished_run, quick_plots):
    loaded, _ = finished_run
    assert write_page(run_of(loaded)).read_bytes() == write_page(run_of(loaded)).read_bytes()


def test_scores_of_an_earlier_training_are_called_so(finished_run, quick_plots):
    loaded, folder = finished_run
    assert "Training is not finished" not in read(write_page(run_of(loaded))).words
    (folder / ".stages" / "train.json").unlink()
    assert "Training is not finished: the scores are of an earlier training." in read(write_page(run_of(loaded))).words
