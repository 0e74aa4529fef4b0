"""The shake-up estimate: equal submissions stay equal, true differences show, sequences count, not frames.

How often the first stays first is as often as the estimate says (`tests/long/shakeup.py` simulates more of it).
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.report.shakeup import NUM_BOARDS, draw_boards, read_scores, shake_up
from tests.long.shakeup import first_place


def draw_scores(gaps: dict[str, float], num_sequences: int = 20, frames: int = 5, own_noise: float = 0.02):
    """Dice per image: sequences are hard or easy for all, and each submission has a luck of its own in each."""
    generator = np.random.default_rng(3)
    sequence_of = np.repeat(np.arange(num_sequences), frames)
    common = generator.normal(0.7, 0.1, num_sequences)[sequence_of]
    dice = {
        name: common + gap + generator.normal(0, own_noise, num_sequences)[sequence_of] for name, gap in gaps.items()
    }
    return dice, sequence_of


def test_what_is_plainly_better_stays_ahead_and_is_the_first_final():
    found = shake_up(*draw_scores({"weak": 0.0, "strong": 0.1, "middle": 0.05}))
    assert [outlook.name for outlook in found.outlooks] == ["strong", "middle", "weak"]
    assert found.finals[0] == "strong"
    first = found.pairs[0]
    assert (first.first, first.second) == ("strong", "middle")
    assert first.gap.low > 0
    assert first.kept_share > 0.99
    assert [pair.verdict for pair in found.pairs] == ["better"] * 3
    lines = str(found).splitlines()
    assert "strong is first on the local images, and on 100 % of private boards. Of 2 others: 2 worse." in lines
    assert '"better" is corrected for 3 comparisons (Holm)' in lines


def test_two_of_equal_strength_are_not_told_apart():
    found = shake_up(*draw_scores({"one": 0.0, "other": 0.001}, own_noise=0.05))
    assert found.pairs[0].gap.low < 0
    assert found.pairs[0].verdict.startswith("inconclusive (detectable: 0.0")
    assert found.pairs[0].flipped_share > 0.1
    assert "Of 1 other: 1 inconclusive." in str(found)


def test_a_gap_that_is_sure_by_itself_may_be_chance_among_many_pairs():
    dice, groups = draw_scores({"one": 0.0, "other": 0.022}, num_sequences=12)
    alone = shake_up(dice, groups)
    generator = np.random.default_rng(1)
    more = {f"run {number}": dice["one"] + generator.normal(0, 0.02, 12)[groups] for number in range(8)}
    together = shake_up(dice | more, groups)
    (pair,) = [pair for pair in together.pairs if {pair.first, pair.second} == {"one", "other"}]
    assert alone.pairs[0].verdict == "better" and pair.gap == alone.pairs[0].gap
    assert pair.verdict.startswith("inconclusive")
    lines = str(together).splitlines()
    assert sum(" over " in line for line in lines) == 9  # of 45 pairs, those of the first
    assert '"better" is corrected for 45 comparisons (Holm)' in lines


def test_submissions_that_hardly_differ_are_equal():
    dice, groups = draw_scores({"one": 0.0, "same": 0.001}, own_noise=0.001)
    assert shake_up(dice, groups).pairs[0].verdict == "equal within 0.005"


@pytest.mark.parametrize("spread", [0.0, 0.02])
def test_the_first_of_many_stays_first_as_often_as_is_claimed(spread):
    claimed, stayed = first_place(num_sequences=8, num_submissions=5, spread=spread, num_trials=60)
    assert abs(claimed - stayed) < 0.2  # 60 trials leave an error of 0.06; without shrinkage 0.35 at a spread of 0


def test_the_shake_up_is_that_of_sequences_not_of_frames():
    few = shake_up(*draw_scores({"one": 0.0, "other": 0.02}, num_sequences=20, frames=1))
    many = shake_up(*draw_scores({"one": 0.0, "other": 0.02}, num_sequences=20, frames=50))
    assert many.outlooks[0].shake == pytest.approx(few.outlooks[0].shake, rel=0.35)


def test_a_submission_that_hedges_is_the_second_final():
    generator = np.random.default_rng(0)
    luck = generator.normal(0, 0.1, 30)
    luck -= luck.mean()
    dice = {"bold": 0.7 + luck, "sibling": 0.6995 + luck, "hedge": 0.695 - luck}
    found = shake_up(dice, np.arange(30))
    assert found.finals == ("bold", "hedge")


def test_boards_are_the_same_each_time_and_centre_on_the_scores():
    dice, groups = draw_scores({"one": 0.0, "other": 0.1})
    scores = np.stack(list(dice.values()), 1)
    public, private = draw_boards(scores, groups)
    again = draw_boards(scores, groups)
    assert np.array_equal(public, again[0])
    assert public.shape == private.shape == (NUM_BOARDS, 2)
    assert np.allclose(private.mean(0), scores.mean(0), atol=0.005)
    assert private.std(0)[0] < public.std(0)[0]  # the private board is the larger


def write_metrics(folder, score):
    own = {"label": score, "mean": 0.5, "classes": {}}
    (folder / "metrics.json").write_text(json.dumps({"images": 1, "score": score, "scores": {score: own}}))


def write_scores(folder, ids, dice, score="dice"):
    folder.mkdir()
    write_metrics(folder, score)
    table = pd.DataFrame({"id": ids, "sequence": [name[:3] for name in ids], "dice": dice, "iou": dice / (2 - dice)})
    table.to_csv(folder / "per_image.csv", index=False)


def test_only_images_that_all_were_evaluated_on_count(tmp_path):
    ids = [f"{sequence:03d}_{frame}" for sequence in range(10) for frame in range(3)]
    write_scores(tmp_path / "A", ids[:24], np.linspace(0.5, 0.9, 24))
    write_scores(tmp_path / "B", ids[6:][::-1], np.linspace(0.5, 0.9, 24))
    dice, groups, score = read_scores({"A": tmp_path / "A", "B": tmp_path / "B"})
    assert score == "dice"
    assert dice["A"].tolist() == pytest.approx(np.linspace(0.5, 0.9, 24)[6:])  # those of ids[6:24]
    assert dice["B"].tolist() == pytest.approx(np.linspace(0.5, 0.9, 24)[:5:-1])
    assert len(set(groups)) == 6


def test_runs_of_one_slice_that_is_too_small_are_not_sent_to_runs_of_one_slice(tmp_path):
    for name in ("A", "B"):
        write_scores(tmp_path / name, [f"{index:03d}" for index in range(6)], np.zeros(6))
    with pytest.raises(UserError, match=r"on 6 images in common, of 6 sequences .*These runs validate on too few"):
        read_scores({name: tmp_path / name for name in ("A", "B")})


def test_runs_without_common_images_or_scores_are_refused(tmp_path):
    ids = [f"{sequence:03d}_{frame}" for sequence in range(10) for frame in range(3)]
    write_scores(tmp_path / "A", ids[:15], np.zeros(15))
    write_scores(tmp_path / "B", ids[15:], np.zeros(15))
    with pytest.raises(UserError, match=r"on 0 images in common, of 0 sequences .*compare runs of one slice"):
        read_scores({"A": tmp_path / "A", "B": tmp_path / "B"})
    with pytest.raises(UserError, match=r"C has no scores yet; type: ./run.sh C evaluate"):
        read_scores({"A": tmp_path / "A", "C": tmp_path / "C"})


def test_where_the_score_has_no_value_per_image_iou_takes_its_place(tmp_path):
    ids = [f"{sequence:03d}_{frame}" for sequence in range(10) for frame in range(3)]
    folders = {name: tmp_path / name for name in ("A", "B")}
    for index, folder in enumerate(folders.values()):
        write_scores(folder, ids, np.linspace(0.5 + 0.1 * index, 0.9, 30), "miou")
    scores, groups, score = read_scores(folders)
    assert score == "iou"
    assert scores["A"][0] == pytest.approx(0.5 / 1.5)
    assert "IoU" in str(shake_up(scores, groups, score)).splitlines()[1]


def test_images_without_a_value_of_the_score_are_left_out(tmp_path):
    ids = [f"{sequence:03d}_{frame}" for sequence in range(10) for frame in range(3)]
    write_scores(tmp_path / "A", ids, np.linspace(0.5, 0.9, 30), "present_dice")
    path = tmp_path / "A" / "per_image.csv"
    table = pd.read_csv(path).rename(columns={"dice": "present_dice"})
    table.loc[::2, "present_dice"] = np.nan
    table.to_csv(path, index=False)
    scores, _, score = read_scores({"A": tmp_path / "A"})
    assert score == "present_dice" and scores["A"].tolist() == pytest.approx(np.linspace(0.5, 0.9, 30)[1::2])


@pytest.mark.parametrize("content", [b"", b'garbage,,,\n"', b"id,sequence,dice\na,s,zz\n", b"\xff\xfe\x00"])
def test_damaged_scores_are_named_with_the_command(tmp_path, content):
    folder = tmp_path / "Mine"
    folder.mkdir()
    write_metrics(folder, "dice")
    (folder / "per_image.csv").write_bytes(content)
    with pytest.raises(
        UserError, match=r"per_image.csv is damaged or older than this program; type: ./run.sh Mine evaluate --force"
    ):
        read_scores({"Mine": folder})
