"""Every plot is a small PNG, not blank, on light and on dark paper, whatever is missing in its data."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config.load import load, names
from pipeline.config.plan import Phase, learning_rate
from pipeline.report.box_plots import draw_box_confusion
from pipeline.report.curves import (
    PLAN_STEPS,
    draw_learning_curves,
    draw_plan,
    draw_sweep,
    phase_spans,
    plan_curve,
    plot_sweep,
    trained_curve,
)
from pipeline.report.figure import DARK, LIGHT, WIDTH, contrast, new_figure, readable_color
from pipeline.report.plots import (
    draw_class_curves,
    draw_class_histogram,
    draw_confusion,
    largest_confusions,
    write_class_histograms,
)
from pipeline.report.read import ClassRow, read_classes, read_columns, read_json
from tests.report.small_run import (
    CLASSES,
    COLORS,
    make_history,
    write_csv,
    write_evaluated,
    write_prepared,
    write_sweep,
)

MOST_BYTES = 120_000


def pixels(png: bytes) -> np.ndarray:
    assert len(png) < MOST_BYTES
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def drawn_share(png: bytes) -> float:
    """Share of pixels that are not paper."""
    image = pixels(png)
    return float((image != image[0, 0]).any(axis=2).mean())


@pytest.fixture
def history(tmp_path: Path):
    write_csv(tmp_path / "history.csv", *make_history())
    return read_columns(tmp_path / "history.csv")


@pytest.fixture
def sweep(tmp_path: Path):
    write_sweep(tmp_path)
    return read_columns(tmp_path / "lr_sweep.csv"), read_json(tmp_path / "lr_sweep.json")


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_learning_curves_are_drawn_on_their_paper(history, theme):
    png = draw_learning_curves(history, "dice", ["anneal"], theme)
    image = pixels(png)
    assert image.shape[1] == 2 * WIDTH
    assert tuple(image[0, 0]) == tuple(bytes.fromhex(theme.background[1:]))
    assert drawn_share(png) > 0.02


def test_the_same_numbers_give_the_same_bytes(history):
    assert draw_learning_curves(history, "dice", ["anneal"]) == draw_learning_curves(history, "dice", ["anneal"])


def test_a_jump_back_to_the_best_is_shown(history):
    assert draw_learning_curves(history, "dice", ["anneal"]) != draw_learning_curves(history, "dice", [])


def test_changes_of_the_plan_are_marked_where_they_were_made(history):
    image = pixels(draw_learning_curves(history, "dice", changes=[2.0, 5.5])).astype(int)
    blue = np.array([int(LIGHT.valid[start : start + 2], 16) for start in (1, 3, 5)])
    rows = image[int(0.721 * len(image)) : int(0.726 * len(image))]  # below the curves of the scores
    columns = (np.abs(rows - blue).max(axis=2) < 60).any(axis=0).nonzero()[0] / image.shape[1]
    assert columns.min() == pytest.approx(0.34, abs=0.03) and columns.max() == pytest.approx(0.7, abs=0.03)
    assert not ((columns > 0.4) & (columns < 0.65)).any()


def test_a_phase_that_starts_from_the_last_epoch_since_it_was_the_best_jumps_nowhere(tmp_path):
    head, rows = make_history(num_flat=1, num_anneal=1)
    for row in rows:
        row[head.index("is_best")] = 1
    write_csv(tmp_path / "history.csv", head, rows)
    history = read_columns(tmp_path / "history.csv")
    assert draw_learning_curves(history, "dice", ["anneal"]) == draw_learning_curves(history, "dice", [])


def test_the_main_score_leads_the_learning_curves(history):
    drawn = {draw_learning_curves(history, score) for score in ("dice", "iou", "miou")}  # miou: no column for training
    assert len(drawn) == 3


def test_learning_curves_need_one_row_only(tmp_path):
    head, rows = make_history()
    write_csv(tmp_path / "history.csv", head, rows[:1])
    history = read_columns(tmp_path / "history.csv")
    assert drawn_share(draw_learning_curves(history, "dice", ["anneal"])) > 0.01
    assert drawn_share(draw_class_curves(history, "dice", {})) > 0.01
    assert phase_spans(history) == []


def test_a_history_of_many_epochs_and_classes_is_drawn(tmp_path):
    head, rows = make_history(num_flat=150, num_anneal=10)
    extra = [f"valid_dice_kind {index}" for index in range(30)]
    write_csv(tmp_path / "history.csv", [*head, *extra], [[*row, *([0.5] * 30)] for row in rows])
    assert drawn_share(draw_class_curves(read_columns(tmp_path / "history.csv"), "dice", {})) > 0.02


def test_classes_that_share_a_line_all_show_on_it(history):
    same = {**history, "valid_dice_Road": history["valid_dice_Person"]}
    png = draw_class_curves(same, "dice", dict(zip(CLASSES, COLORS, strict=True)))
    curves = pixels(png)[:, :620].astype(int)  # left of the legend
    sizes = [(np.abs(curves - np.array(color)).max(axis=2) < 12).sum() for color in COLORS[1:3]]
    assert min(sizes) > 300
    assert 0.5 < sizes[0] / sizes[1] < 2


def test_class_lines_have_the_colours_of_the_competition(history):
    png = draw_class_curves(history, "dice", dict(zip(CLASSES, COLORS, strict=True)))
    near = np.abs(pixels(png).astype(int) - np.array(COLORS[1])).max(axis=2) < 12
    assert near.sum() > 100


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    "color", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 255, 0), (0, 0, 128), (26, 28, 32)]
)
def test_every_class_colour_can_be_told_from_the_paper(color, theme):
    shown = readable_color(color, theme)
    assert contrast(tuple(bytes.fromhex(shown[1:])), tuple(bytes.fromhex(theme.background[1:]))) >= 1.7


def test_the_sweep_marks_max_lr_and_the_suggestions(sweep):
    columns, found = sweep
    bare = draw_sweep(columns)
    assert drawn_share(bare) > 0.02
    assert len({bare, draw_sweep(columns, found), draw_sweep(columns, found, max_lr=0.001)}) == 3


def test_a_sweep_without_repeats_or_training_loss_is_drawn(sweep):
    columns, found = sweep
    first = [row for row, repeat in enumerate(columns["repeat"]) if repeat == "0"]
    lean = {name: [columns[name][row] for row in first] for name in ("step", "lr", "valid_loss", "valid_loss_smooth")}
    assert drawn_share(draw_sweep(lean, found, 0.001)) > 0.02


def axes_of(*sweep):
    axes = new_figure(LIGHT, 300).subplots()
    plot_sweep(axes, *sweep, None, LIGHT)
    return axes


def test_every_suggestion_is_marked_on_the_curve_of_the_validation(sweep):
    columns, found = sweep
    axes = axes_of(columns, {**found, "suggestions": {"steep": 0.012, "valley": 0.05, "minimum": 0.1}})
    (curve,) = [line for line in axes.lines if line.get_label() == "validation"]
    marks = [line.get_xydata()[0] for line in axes.lines if line.get_marker() not in ("None", "", None)]
    labels = axes.get_legend_handles_labels()[1]
    assert len(marks) == 3 and {"steepest 0.012 (0.005 to 0.02)", "valley 0.05", "minimum 0.1"} <= set(labels)
    for rate, height in marks:
        assert height == pytest.approx(np.interp(np.log(rate), np.log(curve.get_xdata()), curve.get_ydata()), abs=1e-9)


@pytest.mark.parametrize("dip", [0.05, 0.5])
def test_what_was_measured_stays_inside_the_axes_around_the_minimum(sweep, dip):
    columns, found = sweep
    losses = [float(loss) for loss in columns["valid_loss"]]
    columns = {**columns, "valid_loss": [str(loss - dip if loss < 0.52 else loss) for loss in losses]}
    low, high = axes_of(columns, found).get_ylim()
    assert low < min(losses) - dip < high


def test_the_axis_of_rates_ends_with_the_curves(sweep):
    columns, found = sweep
    lagging = {**columns, "lr_smooth": [str(float(rate) / 5) for rate in columns["lr"]]}
    first, last = (axes_of(each, found).get_xlim() for each in (columns, lagging))
    assert last[1] < first[1] < 2 * max(map(float, columns["lr"]))


def test_without_repeats_there_is_no_band(sweep):
    columns, found = sweep
    first = [row for row, repeat in enumerate(columns["repeat"]) if repeat == "0"]
    single = {name: [cells[row] for row in first] for name, cells in columns.items()}
    labels = [axes_of(each, found).get_legend_handles_labels()[1] for each in (columns, single)]
    assert [("lowest to highest repeat" in each, "as measured" in each) for each in labels] == [
        (True, True),
        (False, True),
    ]


def test_an_exploding_loss_does_not_flatten_the_curve(sweep):
    columns, _ = sweep
    exploded = {**columns, "valid_loss_smooth": [*columns["valid_loss_smooth"][:-1], "1e9"]}
    calm, wild = (pixels(draw_sweep(each)) for each in (columns, exploded))
    blue = np.array([0x00, 0x72, 0xB2])
    rows_calm, rows_wild = (
        (np.abs(each.astype(int) - blue).max(axis=2) < 10).any(axis=1).sum() for each in (calm, wild)
    )
    assert rows_wild > 0.8 * rows_calm


@pytest.mark.parametrize("name", ["ExpAAA", "ExpAAB"])
def test_the_plan_of_an_experiment_is_drawn(name):
    assert drawn_share(draw_plan(load(name).plan, None)) > 0.02


def test_every_plan_ends_where_its_phases_do():
    plans = {load(name).config.solver.plan: load(name).plan for name in names()[:12] if name.startswith("Exp")}
    for plan in plans.values():
        points, spans = plan_curve(plan, PLAN_STEPS)
        assert spans[-1][2] == sum(phase.epochs for phase in plan)
        assert [start for _, start, _ in spans[1:]] == [end for _, _, end in spans[:-1]]
        assert points[-1][0] == spans[-1][2]
        assert max(rate for _, rate in points) == pytest.approx(max(phase.max_lr for phase in plan), rel=0.01)


def test_histograms_are_written_beside_each_other(tmp_path):
    write_prepared(tmp_path)
    write_class_histograms(tmp_path / "classes.csv", tmp_path / "plots")
    paths = sorted((tmp_path / "plots").iterdir())
    assert [path.name for path in paths] == ["class_images.png", "class_pixels.png"]
    assert all(drawn_share(path.read_bytes()) > 0.02 for path in paths)


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (5, 5), (1, 10**9)])
def test_histograms_stand_any_counts(counts):
    rows = [ClassRow(f"class {index}", (9, 9, 9), count, 0, count, 0.5) for index, count in enumerate(counts)]
    for of in ("images", "pixels"):
        assert drawn_share(draw_class_histogram(rows, of)) > 0.005


def test_the_longer_bar_has_more_pixels(tmp_path):
    write_prepared(tmp_path)
    image = pixels(draw_class_histogram(read_classes(tmp_path / "classes.csv"), "pixels"))
    sizes = {color: (np.abs(image.astype(int) - np.array(color)).max(axis=2) < 6).sum() for color in COLORS[1:]}
    assert sizes[COLORS[1]] < sizes[COLORS[2]] < sizes[COLORS[3]]


def test_confusions_are_drawn_and_named(tmp_path):
    write_evaluated(tmp_path)
    confusion = read_columns(tmp_path / "confusion.csv")
    assert drawn_share(draw_confusion(confusion)) > 0.05
    assert largest_confusions(confusion)[:2] == [("Person", "Background", 0.5), ("Person", "Road", 0.5)]
    assert all(truth != predicted for truth, predicted, _ in largest_confusions(confusion))


def test_a_confusion_matrix_of_many_classes_is_drawn():
    kinds = [f"kind {index}" for index in range(40)]
    confusion = {"truth": kinds} | {name: ["1" if name == other else "0" for other in kinds] for name in kinds}
    assert drawn_share(draw_confusion(confusion)) > 0.05


def test_what_was_trained_is_drawn_as_the_steps_had_it():
    plan = [
        Phase("flat", epochs=5, lr="flat", max_lr=1.0, min_lr=0.0, patience=1),
        Phase("anneal", epochs=2, lr="cosine", max_lr=1.0, min_lr=0.0),
    ]
    points = trained_curve(plan, [("flat", 0, 2), ("anneal", 2, 4)], steps_per_epoch=12)
    assert points[0] == (0, 1.0)
    assert [rate for epoch, rate in points if epoch <= 2] == [1.0] * 27  # patience ran out after two of five epochs
    of_steps = [learning_rate(plan[1], step, 12) for step in range(24)]
    assert [rate for epoch, rate in points if epoch > 2] == [*of_steps, of_steps[-1]]
    assert trained_curve(plan, [("another", 0, 2)], 12) == []


def test_a_warm_up_in_steps_is_as_long_as_the_epochs_are():
    plan = [Phase("poly", epochs=10, lr="poly", max_lr=1.0, min_lr=0.0, warmup_steps=100)]
    for steps_per_epoch, epoch in ((40, 2.5), (1000, 0.1), (10, 10)):
        points, _ = plan_curve(plan, steps_per_epoch)
        assert max(points, key=lambda point: point[1])[0] == pytest.approx(epoch, abs=0.12)


@pytest.mark.parametrize("num_classes", [25, 150, 400])
def test_plots_of_many_classes_have_a_size_that_can_be_looked_at(monkeypatch, num_classes):
    figures = []
    for module in ("plots", "box_plots"):
        monkeypatch.setattr(f"pipeline.report.{module}.encode", lambda figure: figures.append(figure) or b"")
    names = [f"class {index}" for index in range(num_classes)]
    rows = [ClassRow(name, (9, 9, 9), index, 0, index, 0.5) for index, name in enumerate(names)]
    shares = np.eye(num_classes) + np.tri(num_classes, num_classes, -1) / num_classes  # later classes are confused more
    draw_class_histogram(rows, "images")
    draw_confusion({"truth": names} | {name: list(map(str, shares[:, index])) for index, name in enumerate(names)})
    draw_box_confusion([*names, "background"], np.pad(shares, (0, 1), constant_values=1).tolist())
    for figure in figures:
        width, height = figure.get_size_inches() * figure.dpi
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert max(width, height) <= 4800 and min(num_classes, 160) <= len(labels) <= 161
        assert f"class {num_classes - 1}" in labels
        assert (f"{num_classes}" in figure.axes[0].get_title("left")) == (num_classes > 160)


def test_of_many_classes_the_highest_and_lowest_are_named(monkeypatch):
    figures = []
    monkeypatch.setattr("pipeline.report.plots.encode", lambda figure: figures.append(figure) or b"")
    history = {"epoch": ["0", "1"], "phase": ["start", "flat"], "is_best": ["0", "1"]}
    history |= {f"valid_dice_c{index}": ["0", f"{index / 200}"] for index in range(200)}
    draw_class_curves(history, "dice", {})
    (axes,) = figures[0].axes
    named = [text.get_text().split()[0] for text in axes.get_legend().get_texts()]
    assert named == [f"c{index}" for index in (*range(199, 187, -1), *range(11, -1, -1))]
    assert axes.get_title("left") == "Validation Dice per class: 12 highest, 12 lowest, of 200"
