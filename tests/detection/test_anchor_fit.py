"""How well anchors fit the boxes of a run, and what is proposed where they do not."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.config.schema import Encoder, Model
from pipeline.detection import anchor_fit
from pipeline.detection.anchor_fit import NUM_BINS, best_ious, check_anchors, fit_facts, seen_boxes
from pipeline.detection.anchors import anchor_coverage
from pipeline.detection.boxes import Boxes, make_boxes
from pipeline.report.box_plots import share_below

SIZE = (256, 320)


class Samples:
    """Stands for a `BoxDataset`: boxes of frames of one size."""

    def __init__(self, *boxes: Boxes) -> None:
        self.own = boxes

    def __len__(self) -> int:
        return len(self.own)

    def boxes(self, index: int) -> Boxes:
        return self.own[index]

    def padded_size(self, index: int) -> tuple[int, int]:
        return SIZE


def model_of(name: str = "RetinaNet", **options: object) -> Model:
    return Model(name, "RN", Encoder("tu-lcnet_035", "E", None), options)


def run_with(folder, model: Model, input_scale: float = 1.0) -> SimpleNamespace:
    (folder / "plots").mkdir(exist_ok=True)
    config = SimpleNamespace(model=model, datasets=SimpleNamespace(input_scale=input_scale))
    competition = SimpleNamespace(class_names=("cell", "dust"), colors=((214, 69, 65), (65, 131, 215)))
    lines: list[str] = []
    loaded = SimpleNamespace(config=config, competition=competition)
    return SimpleNamespace(loaded=loaded, paths=folder, log=lines.append, lines=lines)


def squares(side: float, number: int = 12) -> Boxes:
    """Boxes of one size, all over a frame."""
    starts = np.stack([np.linspace(0, SIZE[1] - side, number), np.linspace(0, SIZE[0] - side, number)], 1)
    return make_boxes(np.concatenate([starts, starts + side], 1), [0] * number)


def test_boxes_are_those_that_the_network_sees_and_crowds_are_none():
    truth = make_boxes([[0, 0, 64, 64], [10, 10, 200, 200]], [1, 0], [0, 1])
    ((xyxy, classes, size),) = seen_boxes(Samples(truth, truth), 0.5)
    assert size == (128, 160) and classes.tolist() == [1, 1] and xyxy.tolist() == [[0, 0, 32, 32]] * 2


def test_the_best_iou_is_the_coverage_at_the_seen_size():
    groups = seen_boxes(Samples(squares(60), squares(30)), 0.5)
    expected = anchor_coverage(np.concatenate([squares(60).xyxy, squares(30).xyxy]) / 2, model_of(), (128, 160))
    assert best_ious(groups, model_of()) == pytest.approx(expected)


def test_counts_are_of_every_box_of_its_class_and_shares_follow():
    facts = fit_facts(np.array([1.0, 0.5, 0.49, 0.1]), np.array([0, 0, 0, 1]), ["cell", "dust", "none"])
    counts = facts["counts"]
    assert [sum(own) for own in counts.values()] == [3, 1, 0] and {len(own) for own in counts.values()} == {NUM_BINS}
    assert [share_below(own, 0.5) for own in counts.values()] == [pytest.approx(1 / 3), 1.0, None]


def test_boxes_that_anchors_fit_are_drawn_and_nothing_is_said(tmp_path):
    run = run_with(tmp_path, model_of())
    check_anchors(run, Samples(squares(64)))
    assert run.lines == [] and (tmp_path / "plots" / "anchors.png").stat().st_size > 1000
    assert sum(json.loads((tmp_path / "anchors.json").read_text())["counts"]["cell"]) == 12


def test_boxes_smaller_than_all_anchors_bring_a_line_with_sizes_that_fit(tmp_path):
    run = run_with(tmp_path, model_of())
    groups = seen_boxes(Samples(squares(10)), 1.0)
    check_anchors(run, Samples(squares(10)))
    (line,) = run.lines
    assert line.startswith("note: 100 % of the boxes have no anchor with an IoU of 0.5 or more (see plots/anchors.png)")
    assert line.endswith("set for example MODEL.OPTIONS.ANCHOR_SIZES: [10, 20, 40, 80, 160]")
    better = best_ious(groups, model_of(ANCHOR_SIZES=(10, 20, 40, 80, 160)))
    assert (better >= 0.5).mean() > (best_ious(groups, model_of()) >= 0.5).mean()


def test_boxes_of_another_shape_than_all_anchors_bring_other_ratios(tmp_path):
    wide = make_boxes([[10, 10 + 20 * row, 300, 20 + 20 * row] for row in range(10)], [0] * 10)
    run = run_with(tmp_path, model_of(RATIOS=(1,), ANCHOR_SIZES=(53, 106, 212, 424, 848)))
    check_anchors(run, Samples(wide))
    assert run.lines[0].endswith("set for example MODEL.OPTIONS.RATIOS: [0.034]")


def test_nothing_is_proposed_that_does_not_help(tmp_path):
    run = run_with(tmp_path, model_of())
    check_anchors(run, Samples(squares(1)))  # smaller than any anchor that is proposed, and square
    assert run.lines[0].endswith(
        "ANCHOR_SIZES [4, 8, 16, 32, 64] and RATIOS [1.0], computed from the boxes, do not fit better"
    )


def test_sizes_and_ratios_are_proposed_together_where_neither_helps_alone(tmp_path):
    wide = make_boxes([[10, 10 + 20 * row, 74, 14 + 20 * row] for row in range(10)], [0] * 10)  # 64 x 4
    model = model_of(RATIOS=(1,), ANCHOR_SIZES=(100, 200, 300, 400, 500))
    check_anchors(run := run_with(tmp_path, model), Samples(wide))
    proposed = "MODEL.OPTIONS.ANCHOR_SIZES: [16, 32, 64, 128, 256] and MODEL.OPTIONS.RATIOS: [0.062]"
    assert run.lines[0].endswith(f"set for example {proposed}")
    better = model_of(RATIOS=(0.062,), ANCHOR_SIZES=(16, 32, 64, 128, 256))
    assert (best_ious(seen_boxes(Samples(wide), 1.0), better) >= 0.5).any()


def test_networks_without_anchors_get_nothing_and_lose_what_was_there(tmp_path):
    check_anchors(run_with(tmp_path, model_of()), Samples(squares(64)))
    check_anchors(run_with(tmp_path, model_of("YOLOX")), Samples(squares(64)))
    assert not (tmp_path / anchor_fit.ANCHORS).exists() and not (tmp_path / anchor_fit.ANCHORS_PLOT).exists()
