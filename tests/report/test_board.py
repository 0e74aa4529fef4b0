"""The board: every run a row with what is known of it, whatever is damaged; nothing of two competitions together."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.__main__ import main
from pipeline.config.load import load
from pipeline.intervals import group_numbers, interval
from pipeline.paths import BOARD, CONFIGS, Folders, search_file
from pipeline.report.board import best_runs, read_board, read_curve
from pipeline.report.board_charts import rank_correlation, ticks, uploads_of
from pipeline.report.board_page import board_page
from pipeline.report.study_names import read_studies
from pipeline.stages import STAGES
from tests.report.small_run import CLASSES, make_history, mark_stages, metrics_of, write_csv, write_evaluated
from tests.report.test_lab_book import score_images
from tests.report.test_page import Reader
from tests.report.test_runs_table import upload, write_log


def page(configs: Path = CONFIGS) -> str:
    return board_page(Folders.from_environment(), STAGES, configs=configs)[0]


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


def row_of(text: str, run: str) -> str:
    """The row of a run in the table, as text."""
    (row,) = [one for one in re.findall(r"<tr>.*?</tr>", text, re.DOTALL) if f'data-run="{run}"' in one]
    return " ".join(re.sub(r"<[^>]*>", " ", row).split())


@pytest.fixture
def some_runs(new_run) -> dict[str, Path]:
    """Two runs with scores by image, curves and a report, and one of another competition."""
    runs = {}
    for name, gain in (("ExpAAA", 0.0), ("ExpAAB", 0.05), ("CamVidAAA", 0.1)):
        _, folder = new_run(name)
        score_images(folder, gain)
        write_csv(folder / "history.csv", *make_history())
        (folder / "report.html").write_text("<!doctype html><title>report</title>")
        mark_stages(folder, train=3600)
        runs[name] = folder
    return runs


def test_the_page_is_well_formed_and_loads_nothing(some_runs):
    reader = read(page())
    assert reader.faults == [] and reader.open_tags == []
    ids = reader.values("id")
    assert len(ids) == len(set(ids)), "with two competitions, too"
    anchors = {address[1:] for address in reader.values("href") if address.startswith("#")}
    assert anchors <= set(ids)
    (policy,) = (own["content"] for tag, own in reader.elements if own.get("http-equiv"))
    assert policy.startswith("default-src 'none'") and "connect-src" not in policy
    assert not reader.values("src")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page())


def test_reports_are_linked_by_relative_addresses(some_runs):
    (some_runs["ExpAAA"] / "report.html").unlink()
    text, files = board_page(Folders.from_environment(), STAGES)
    links = {address for address in read(text).values("href") if address.endswith("report.html")}
    assert links == {"ExpAAB/report.html", "CamVidAAA/report.html"}
    assert {address: path for address, path in files.items() if address in links} == {
        f"{name}/report.html": some_runs[name] / "report.html" for name in ("ExpAAB", "CamVidAAA")
    }


def test_every_run_is_a_row_in_the_table_of_its_competition(some_runs):
    tables = re.findall(r"<table[^>]*sorted runs.*?</table>", page(), re.DOTALL)
    assert [re.findall(r'data-run="(\w+)"', one) for one in tables] == [["ExpAAA", "ExpAAB"], ["CamVidAAA"]]


def test_the_interval_is_that_of_the_images_by_sequence(some_runs):
    rows = [line.split(",") for line in (some_runs["ExpAAB"] / "per_image.csv").read_text().split()[1:]]
    groups = group_numbers([row[0] for row in rows], [row[1] for row in rows])
    own = interval(np.array([float(row[2]) for row in rows]), groups)
    assert f"{own.low:.3f} to {own.high:.3f}" in row_of(page(), "ExpAAB")
    assert f'value="{own.low!r}"' in page(), "sorted with all digits"


def test_a_run_of_one_sequence_has_no_interval_and_the_page_says_so(new_run):
    score_images(new_run("ExpAAA")[1], 0.0, num_sequences=1)
    own = read_board(Folders.from_environment(), STAGES)[0].runs["ExpAAA"]
    assert own.interval is None, "5 images"
    rows = [[f"{number}", "one", 0.5, 0.4] for number in range(20)]
    write_csv(Folders.from_environment().runs / "ExpAAA" / "per_image.csv", ["id", "sequence", "dice", "iou"], rows)
    assert "one sequence: none" in row_of(page(), "ExpAAA")
    assert "Images of one sequence have no interval" in page()


def test_a_score_without_a_value_per_image_is_stood_in_for(new_run):
    write_evaluated(new_run("ExpC01")[1], score="miou")
    text = page()
    assert "IoU of images, 95 %" in text and "mIoU has no value per image" in text


def damage(folder: Path, name: str, content: str | None) -> None:
    path = folder / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("metrics.json", '{"images":', "its metrics.json is damaged"),
        ("metrics.json", "[]", "its metrics.json is damaged"),
        ("config.yaml", "{", "its config.yaml is damaged"),
        ("config.yaml", None, "its config.yaml is missing"),
        ("per_image.csv", "id,sequence\n1,2\n", "its per_image.csv is damaged"),
        ("per_image.csv", "id,sequence,dice,iou\na,b,much,0.5\n", "its per_image.csv is damaged"),
        ("history.csv", "epoch,valid_loss\none,0.5\n", "its history.csv is damaged"),
        ("history.csv", "epoch\n1\n", "its history.csv is damaged"),
        (".stages/train.json", '{"seconds": "long"}', "its .stages/train.json is damaged"),
    ],
)
def test_what_is_damaged_is_a_row_that_says_so(some_runs, name, content, words):
    damage(some_runs["ExpAAA"], name, content)
    text = page()
    assert words in row_of(text, "ExpAAA") and "0." in row_of(text, "ExpAAB")
    assert read(text).faults == []


def test_a_run_without_a_score_says_how_far_it_has_come(some_runs):
    for name in ("metrics.json", "per_image.csv", ".stages/train.json"):
        (some_runs["ExpAAA"] / name).unlink()
    begun = {"version": 1, "settings": {"SOLVER.PLAN": [{"epochs": 6}, {"epochs": 4}]}, "inputs": {}, "outputs": {}}
    (some_runs["ExpAAA"] / ".stages" / "train.begun.json").write_text(json.dumps(begun | {"seconds": 0.0}))
    assert row_of(page(), "ExpAAA").startswith("ExpAAA stopped in train, epoch 8/10")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-2, 10**6) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_content_of_a_file_ends_the_board(some_runs, data):
    """Any value at any place of the JSON files, any cut, any bytes: the page is made, with a row for each run."""
    folder = some_runs["ExpAAA"]
    name = data.draw(st.sampled_from(("metrics.json", "config.yaml", "history.csv", "per_image.csv", "timings.csv")))
    before = (folder / name).read_bytes() if (folder / name).is_file() else None
    if name == "metrics.json" and data.draw(st.booleans()):
        content = metrics_of()
        own, keys = (
            content,
            data.draw(st.lists(st.sampled_from(["score", "scores", "dice", "split", "index"]), max_size=3)),
        )
        for key in keys:
            if isinstance(own.get(key), dict):
                own = own[key]
        own[data.draw(st.sampled_from([*own, "parameters"]))] = data.draw(JSON)
        damaged = json.dumps(content).encode()
    elif before is not None and data.draw(st.booleans()):
        damaged = before[: data.draw(st.integers(0, len(before)))]
    else:
        damaged = data.draw(st.binary(max_size=60))
    (folder / name).write_bytes(damaged)
    try:
        text = page()
        reader = read(text)
        assert reader.faults == [] and {"ExpAAA", "ExpAAB"} <= set(reader.values("data-run"))
    finally:
        if before is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(before)


def test_a_folder_that_is_no_run_is_not_on_the_board(some_runs):
    runs = Folders.from_environment().runs
    (runs / "tables").mkdir()
    (runs / "notes.txt").write_text("mine")
    assert "tables" not in read(page()).values("data-run")


EVIL = "</script><script>alert(1)</script>'\"&<b>"


def test_names_questions_and_settings_are_text(configs, new_run):
    (configs / "ExpZZZ.yaml").write_text(f"# {EVIL}\n# ./run.sh ExpZZZ\nBASE: ExpAAA\n")
    _, folder = new_run("ExpZZZ")
    score_images(folder, 0.0)
    write_csv(folder / "history.csv", *make_history())
    content = metrics_of()
    content["scores"]["dice"]["label"] = content["split"]["by"] = EVIL
    (folder / "metrics.json").write_text(json.dumps(content))
    named = folder.rename(folder.with_name('a<b>"c" & #%?'))
    (named / "report.html").touch()
    studies = folder.parent / "study_tables"
    studies.mkdir()
    head = ("setting", "runs", "planned", "score", "gain", "low", "high", "verdict")
    write_csv(studies / "one.csv", head, [[EVIL, 1, 1, 0.5, "", "", "", EVIL]])
    text = page(configs)
    reader = read(text)
    assert reader.faults == [] and "alert(1)" in reader.words
    assert len(re.findall(r"<script", text)) == 2, "the curves and the page's own"
    assert "a%3Cb%3E%22c%22%20%26%20%23%25%3F/report.html" in reader.values("href")
    found = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)[1])
    assert list(found[0]) == [named.name]


def test_curves_are_rounded_and_thinned_and_keep_their_last_epoch(new_run):
    _, folder = new_run("ExpAAB")
    rows = [[epoch, "flat", 0.001, 1 / (epoch + 3), "" if epoch == 0 else 0.123456789] for epoch in range(501)]
    write_csv(folder / "history.csv", ["epoch", "phase", "lr", "valid_loss", "valid_dice"], rows)
    curve = read_curve(folder, "dice")
    assert len(curve.epochs) <= 201 and (curve.epochs[0], curve.epochs[-1]) == (0, 500)
    assert (curve.score[0], curve.score[1]) == (None, 0.1235) and curve.loss[0] == 0.3333
    assert read_curve(folder, "miou").score == curve.score, "Dice where the history lacks the score"


def test_the_best_runs_are_chosen_quick_ones_last(new_run):
    for number, (override, index) in enumerate((("SOLVER.POWER=2", 0), ("SOLVER.POWER=3", 0), ("SOLVER.POWER=4", -10))):
        _, folder = new_run("ExpAAB", override)
        content = metrics_of(dice=[0.5 + 0.1 * number] * len(CLASSES))
        content["split"]["index"] = index
        (folder / "metrics.json").write_text(json.dumps(content))
        write_csv(folder / "history.csv", *make_history())
    (own,) = read_board(Folders.from_environment(), STAGES)
    names = {power: load("ExpAAB", (f"SOLVER.POWER={power}",)).run for power in (2, 3, 4)}
    assert best_runs(own, 2) == [names[3], names[2]]
    checked = re.findall(r'<input type="checkbox" data-run="([\w-]+)"[^>]* checked', page())
    assert set(checked) == set(names.values())


def test_settings_with_several_runs_have_a_table_of_their_own(new_run):
    for seed, mean in enumerate((0.5, 0.7)):
        (new_run("ExpAAB", f"EXPERIMENT.SEED={seed}")[1] / "metrics.json").write_text(
            json.dumps(metrics_of(dice=[mean] * 4))
        )
    text = page()
    assert text.count('<table class="sorted settings">') == 1
    assert "Mean over the runs of each setting (2 runs in all)" in text
    assert re.search(r'<th scope="row">ExpAAB</th><td><data value="0.6">', text)


def test_public_scores_are_dots_and_ranked_from_five_on(new_run):
    runs = {}
    for number in range(5):
        loaded, folder = new_run("ExpAAB", f"SOLVER.POWER={number + 2}")
        (folder / "metrics.json").write_text(json.dumps(metrics_of(dice=[0.5 + 0.05 * number] * 4)))
        runs[loaded.run] = 0.6 + 0.01 * (number if number < 3 else 7 - number)  # the last two are exchanged
    assert "Public score" not in page()
    write_log(*(upload(f"{score}", file=f"{run}.csv") for run, score in list(runs.items())[:4]))
    text = page()
    assert text.count("<circle") == 4 and "4 uploaded, split by slice: a rank correlation needs 5" in text
    write_log(*(upload(f"{score}", file=f"{run}.csv") for run, score in runs.items()))
    (own,) = read_board(Folders.from_environment(), STAGES)
    assert [(one.name, one.public) for one in uploads_of(own)] == [
        (name, pytest.approx(runs[name]))
        for name in reversed(runs)  # the best first
    ]
    assert "Rank correlation of 5 runs split by slice: +0.90" in page()


def test_ties_share_their_rank():
    assert rank_correlation([1, 2, 2, 3], [1, 2, 2, 3]) == 1.0
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == -1.0
    assert rank_correlation([0.1, 0.2, 0.2, 0.4], [1, 3, 2, 4]) == pytest.approx(0.9486832981)


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_ticks_are_round_inside_and_not_too_many(low, width):
    found = ticks(low, low + width)
    assert 2 <= len(found) <= 9
    assert all(low - 1e-6 * abs(low) - 1e-9 <= one <= low + width + 1e-6 * abs(low) + 1e-9 for one in found)


def test_tables_of_studies_are_shown_and_linked(some_runs):
    folder = Folders.from_environment().runs / "study_tables"
    folder.mkdir()
    head = "setting,runs,planned,score,sd_seeds,sd_splits,miou,minutes,gain,low,high,p_value,verdict"
    lines = [head, "ce,2,2,0.51234,,,,3.0,,,,,", "ce and Dice,1,2,0.6,,,,3.0,0.08766,0.01,0.16,0.02,better"]
    (folder / "demo_losses.csv").write_text("\n".join(lines) + "\n")
    (folder / "broken.csv").write_text("a,b\n1,2\n")
    words = read(page()).words
    assert "Which loss suits the demo best" in words
    assert "ce and Dice1/20.600+0.088 (+0.010 to +0.160)better" in words.replace(" 1/2 ", "1/2")
    assert "The table of this study is damaged" in words
    assert [study.columns is None for study in read_studies(folder.parent)] == [True, False]
    assert "study_tables/demo_losses.csv" in read(page()).values("href")
    trials = Folders.from_environment().runs / search_file("demo_search", "1a2b3c4d", ".csv")
    trials.write_text("trial,state,score\n0,done,0.5\n")
    assert [one.name for one in read_studies(trials.parent.parent)].count("demo_search_1a2b3c4d_trials") == 0


def test_the_command_writes_the_page_into_the_folder_of_runs(some_runs, capsys):
    assert main(["board"]) == 0
    path = Folders.from_environment().runs / BOARD
    assert path.name in capsys.readouterr().out and "ExpAAB" in path.read_text()


def test_there_is_a_page_before_the_first_run(capsys):
    assert main(["board"]) == 0
    assert "There are no runs yet" in (Folders.from_environment().runs / BOARD).read_text()


def test_the_board_needs_no_heavy_package(some_runs, python_modules):
    loaded = python_modules("import pipeline.__main__ as main; main.main(['board'])")
    assert not loaded & {"torch", "pandas", "matplotlib", "cv2", "PIL"}
