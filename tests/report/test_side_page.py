"""The page on several runs: all of them on it, however far they came, with their images and what makes the rest."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.__main__ import main
from pipeline.config.load import load
from pipeline.config.plan import Phase
from pipeline.engine.freshness import Marker, write_marker
from pipeline.errors import UserError
from pipeline.paths import Folders
from pipeline.report.markup import VOID_TAGS, data_uri
from pipeline.report.overlay import draw_overlay, rate_points
from pipeline.report.scenes import missing_epochs, read_shots
from pipeline.report.side import read_sides
from pipeline.report.side_page import write_side_page
from pipeline.stages import STAGES
from tests.report.small_run import make_history, mark_stages, write_csv, write_evaluated
from tests.report.test_page import Reader, read

SCENES = ("000003_001", "000004_002")


def write_scenes(folder: Path, moments: dict[str, tuple[int, list[float]]], shade: int = 100) -> None:
    """Writes what training keeps of two images."""
    (folder / "scenes").mkdir()
    (folder / "scenes" / "list.json").write_text(json.dumps([{"id": name, "window": None} for name in SCENES]))
    for index, moment in enumerate(("image", "label", *moments)):
        for number in (1, 2):
            color = (shade, 10 * number, 20 * index)
            Image.new("RGB", (64, 48), color).save(folder / "scenes" / f"{number}_{moment}.webp")
    for moment, (epoch, scores) in moments.items():
        content = {"epoch": epoch, "score": "dice", "scores": scores}
        (folder / "scenes" / f"{moment}.json").write_text(json.dumps(content))


@pytest.fixture
def three_runs(new_run) -> tuple[str, str, str]:
    """One that is finished, one that is at epoch 8 of more, and a config that was never run."""
    first, folder = new_run("ExpAAB", "REPORT.EPOCHS=[2, 8]")
    write_evaluated(folder)
    write_csv(folder / "history.csv", *make_history())
    write_scenes(folder, {"epoch_2": (2, [0.41, 0.42]), "epoch_8": (8, [0.51, 0.52]), "best": (7, [0.61, 0.62])})
    mark_stages(folder, train=3600, evaluate=30)
    second, folder = new_run("ExpAAB", "LOSS_FN.MIX=1 ce", "REPORT.EPOCHS=[2, 9]")
    write_csv(folder / "history.csv", *make_history())
    write_scenes(folder, {"epoch_2": (2, [0.31, 0.32])}, shade=200)
    return first.run, second.run, "ExpAAC"


def page_of(names: Sequence[str]) -> Reader:
    return read(write_side_page(names, Folders.from_environment(), STAGES))


def section(text: str, anchor: str) -> str:
    return re.search(rf'<section id="{anchor}".*?</section>', text, re.DOTALL)[0]


def rows_of(text: str) -> list[list[str]]:
    """Returns the words of each cell of a section's rows."""
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    cells = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows)
    return [[" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in row] for row in cells]


def test_the_page_is_well_formed_and_loads_nothing(three_runs, quick_plots):
    page = page_of(three_runs)
    assert page.faults == [] and page.open_tags == []
    identities = page.values("id")
    assert len(identities) == len(set(identities))
    addresses = [*page.values("src"), *page.values("srcset"), *page.values("href")]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert {tag for tag, _ in page.elements} & {"script", "iframe", "object"} == set()
    assert {tag for tag, _ in page.elements} & set(VOID_TAGS) >= {"img", "meta"}


def test_each_run_is_a_row_of_the_scores(three_runs, quick_plots):
    path = write_side_page(three_runs, Folders.from_environment(), STAGES)
    head, first, second, third = rows_of(section(path.read_text(), "scores"))
    assert head[:6] == ["run", "loss", "state", "Dice", "Dice of images, 95 %", f"gain over {first[0]}, 95 %"]
    assert (first[1], first[2], first[3]) == ("1 dice", "evaluated", "0.762")
    assert re.fullmatch(r"0\.762 0\.\d{3} to 0\.\d{3}", first[4])
    assert first[-2:] == ["7 of 8", "1 h 0 min"]
    assert (second[1], second[2], second[3], second[-2]) == ("1 ce", "epoch 8", "–", "– of 8")
    assert third[0] == "ExpAAC" and third[2] == "not started"


def test_gains_are_over_the_first_run_and_emphasised_where_they_are_sure(new_run, quick_plots):
    names = []
    for number, dice in enumerate(((0.9, 0.4, 0.95, 0.8), (0.95, 0.6, 0.95, 0.9), (0.9, 0.4, 0.95, 0.8))):
        loaded, folder = new_run("ExpAAB", f"SOLVER.MAX_LR=0.{number + 1}")
        write_evaluated(folder, dice=dice)
        names.append(loaded.run)
    _, *rows = rows_of(section(write_side_page(names, Folders.from_environment(), STAGES).read_text(), "scores"))
    gains = [row[4] for row in rows]
    assert gains[0] == "–" and gains[1].startswith("+0.088 +0.0") and gains[2].startswith("+0.000")
    assert gains[1].endswith("; better with this seed") and "inconclusive" not in gains[1]
    text = write_side_page(names, Folders.from_environment(), STAGES).read_text()
    assert "<b>+0.088</b>" in text and "<b>+0.000</b>" not in text


def test_images_are_a_grid_of_runs_and_epochs_with_their_scores(three_runs, quick_plots):
    path = write_side_page(three_runs, Folders.from_environment(), STAGES)
    part = section(path.read_text(), "images")
    assert re.findall(r"<h3>(.*?)</h3>", part) == list(SCENES)
    grid = rows_of(part.partition(SCENES[1])[0])
    assert grid[0] == ["run", "epoch 2", "epoch 8", "kept"]
    assert grid[2][1:] == ["Dice 0.410", "Dice 0.510", "epoch 7 Dice 0.610"]
    assert grid[2][0].endswith("1 dice") and grid[3][0].endswith("1 ce")
    assert grid[3][1:] == ["Dice 0.310", "–", "–"]
    kept = Folders.from_environment().runs / three_runs[0] / "scenes"
    for name in ("1_image.webp", "1_label.webp", "1_epoch_2.webp", "2_best.webp"):
        assert part.count(data_uri((kept / name).read_bytes(), "webp")) == 1, name


def test_what_is_missing_comes_with_the_command_that_makes_it(three_runs, quick_plots):
    path = write_side_page(three_runs, Folders.from_environment(), STAGES)
    _, *rows = rows_of(section(path.read_text(), "missing"))
    changed = "'LOSS_FN.MIX=\"1 ce\"' 'REPORT.EPOCHS=[2, 9]'".replace("'", "&#x27;").replace('"', "&quot;")
    words = [row[1] for row in rows]
    assert [row[0].partition("-")[0] for row in rows] == ["ExpAAB", "ExpAAB", "ExpAAC"]
    assert words[0] == "training has not ended, but is at epoch 8"
    assert words[1] == "Epoch 9 was not reached yet; training goes on with"
    assert rows[0][2] == f"./run.sh ExpAAB {changed} evaluate" and rows[1][2].endswith(" train")
    assert rows[2][1:] == ["everything: it was never started", "./run.sh ExpAAC evaluate"]


@pytest.mark.parametrize(
    ("epochs", "last", "is_trained", "wanted"),
    [
        ([2, 8], 8, True, []),
        (
            [1, 2, 5],
            8,
            True,
            [("Epochs 1 and 5 were trained before REPORT.EPOCHS named it; made by training anew:", "c --force")],
        ),
        ([2, 30], 8, True, [("Epoch 30 was not reached: training ended after epoch 8.", "")]),
        ([2, 30], 8, False, [("Epoch 30 was not reached yet; training goes on with", "c")]),
        ([2, 30], None, False, [("Epochs 2 and 30 were not reached yet; training goes on with", "c")]),
    ],
)
def test_why_an_epoch_has_no_image(three_runs, epochs, last, is_trained, wanted):
    shots = read_shots(Folders.from_environment().runs / three_runs[0], epochs if last else [77])
    assert missing_epochs(epochs, shots, last, is_trained, "c") == wanted


def test_half_written_images_of_an_epoch_are_not_shown(three_runs):
    folder = Folders.from_environment().runs / three_runs[0]
    (folder / "scenes" / "2_epoch_8.webp").unlink()
    assert list(read_shots(folder, [8, 2]).moments) == ["epoch_2", "best"]
    (folder / "scenes" / "best.json").write_text('{"epoch": 7, "score": "dice", "scores": [0.5]}')
    assert list(read_shots(folder, [8, 2]).moments) == ["epoch_2"]


def write_plan(folder: Path, plan: Sequence[Phase]) -> None:
    settings = {"SOLVER.PLAN": [vars(phase) for phase in plan], "SOLVER.MAX_LR": 0.1, "DATASETS.SPLIT.BY": "slice"}
    write_marker(folder / ".stages" / "train.begun.json", Marker(1, settings, {}, {}, 0.0))
    (folder / "tiles.json").write_text('{"samples_per_epoch": 40}')


FLAT = Phase("flat", epochs=6, lr="poly", max_lr=0.1, min_lr=0.0, curve_epochs=12, warmup_steps=20)
ANNEAL = Phase(
    "anneal", 2, "poly", 0.1, 0.0, power=2.0, curve_epochs=12, curve_start=6.0, warmup_steps=20, freeze=("encoder",)
)
LATER = Phase("later", 4, "poly", 0.1, 0.0, power=2.0, curve_epochs=12, curve_start=8.0, warmup_steps=20, loss="1 ce")


def test_phases_are_listed_with_the_epochs_that_were_trained(three_runs, quick_plots):
    folders = Folders.from_environment()
    write_plan(folders.runs / three_runs[1], (FLAT, ANNEAL, LATER))
    path = write_side_page(three_runs, folders, STAGES)
    row = rows_of(section(path.read_text(), "plans"))[2]
    assert row[2] == (
        "1–6 flat: LR poly from 0.1, power 0.9, warm-up of 20 steps 7–8 anneal: power 2, frozen encoder "
        "not reached: later: loss 1 ce, nothing frozen"
    )


def test_the_rate_is_that_of_every_step_with_the_jump_where_the_power_changes(three_runs):
    folders = Folders.from_environment()
    write_plan(folders.runs / three_runs[1], (FLAT, ANNEAL, LATER))
    side = read_sides(three_runs, folders, STAGES)[1]
    points = rate_points(side)
    assert side.steps_per_epoch == 20 and points[1] == (pytest.approx(0.5 / 20), pytest.approx(0.1 / 20))
    before, after = (rate for epoch, rate in points if math.isclose(epoch, 6.0))
    progress = (6 * 20 - 20) / (12 * 20 - 20)
    assert after == pytest.approx(0.1 * (1 - progress) ** 2)
    assert before == pytest.approx(0.1 * (1 - progress) ** 0.9, rel=0.01)
    ends = rate_points(read_sides(three_runs, folders, STAGES)[0])  # whose plan nobody wrote down
    assert [epoch for epoch, _ in ends] == list(range(9)) or [epoch for epoch, _ in ends] == list(range(1, 9))


def test_curves_are_drawn_for_every_run_that_has_trained(three_runs):
    sides = read_sides(three_runs, Folders.from_environment(), STAGES)
    one, two = (
        np.asarray(Image.open(io.BytesIO(draw_overlay(some, "dice"))).convert("RGB")) for some in (sides[:1], sides)
    )
    assert one.shape == two.shape and (one != two).any()


def test_a_run_of_another_score_is_noted_and_unknown_names_are_refused(three_runs, quick_plots, capsys):
    first, _, third = three_runs
    folders = Folders.from_environment()
    write_evaluated(folders.runs / three_runs[1], score="miou")
    assert "is scored by mIoU; compared here: Dice" in page_of(three_runs).words
    with pytest.raises(UserError, match="there is no run 'ExpAAX' in"):
        write_side_page((first, "ExpAAX", third), folders, STAGES)


def test_nothing_but_configs_makes_a_page_of_commands(quick_plots):
    page = page_of(("ExpAAB", "ExpAAC"))
    assert "No run has images yet" in page.words and "./run.sh ExpAAC evaluate" in page.words
    assert page.faults == []


def test_a_pattern_stands_for_the_runs_that_match_it(three_runs, quick_plots, capsys):
    assert main(["compare", "ExpAAB-*", "ExpAAC", "--page"]) == 0
    printed = capsys.readouterr().out
    first = sorted(three_runs[:2])[0]
    assert printed.endswith(f"compared/{first}_and_2_more.html\n") and printed.startswith("page: ")
    assert main(["compare", "ExpAAB-*"]) == 0
    assert "LOSS_FN.MIX" in capsys.readouterr().out
    assert main(["compare", "ExpB*", "--page"]) == 2
    assert "no run matches 'ExpB*'" in capsys.readouterr().err
    assert main(["compare", "ExpC0*", "--page"]) == 2
    assert "it matches configs that can be run, such as ./run.sh ExpC01" in capsys.readouterr().err
    assert main(["compare", f"{first[:-2]}*", "--page"]) == 2
    assert f"two or more runs (found {first})" in capsys.readouterr().err


def test_the_epochs_to_be_shown_are_refused_where_they_cannot_be():
    def refusal(*overrides: str) -> str:
        with pytest.raises(UserError) as caught:
            load("ExpC01", overrides)
        return str(caught.value)

    assert (
        "REPORT.EPOCHS: 100 is never reached: the plan ends after epoch 67 at the latest; name epochs from 0 to 67"
        in (refusal("REPORT.EPOCHS=[20, 50, 100]"))
    )
    assert "REPORT.EPOCHS: 20 is given twice; keep one" in refusal("REPORT.EPOCHS=[20, 5, 20]")
    assert "shows validation images, which SPLIT.BY none does not have; set []" in refusal(
        "DATASETS.SPLIT.BY=none", "SOLVER.FROM=ExpC02", "REPORT.EPOCHS=[20]"
    )
    assert load("ExpC01", ("REPORT.EPOCHS=[67, 0]",)).config.report.epochs == (67, 0)


def test_runs_of_two_competitions_have_their_own_colours_and_no_best(three_runs, new_run, quick_plots):
    other, folder = new_run("CamVidAAA", "REPORT.EPOCHS=[2]")
    write_evaluated(folder)
    write_scenes(folder, {"epoch_2": (2, [0.1, 0.2])})
    path = write_side_page((*three_runs, other.run), Folders.from_environment(), STAGES)
    legends = re.findall(r'<ul class="legend">(.*?)</ul>', section(path.read_text(), "images"))
    assert len(legends) == 2 and "Obstacle" in legends[0] and "SignSymbol" in legends[1]
    assert "of different competitions" in read(path).words and "the highest validation" not in read(path).words
    assert "the highest validation Dice, of ExpAAB" in page_of(three_runs).words
