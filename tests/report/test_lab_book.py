"""The lab book: every experiment below its parent, compared with it on the same images, with a verdict in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.family import Relative, read_family
from pipeline.errors import UserError
from pipeline.paths import CONFIGS, Folders
from pipeline.report.board import Competition, read_board
from pipeline.report.lab_book import Entry
from pipeline.stages import STAGES
from pipeline.verdicts import Pair, contrast, verdict
from tests.report.small_run import metrics_of, write_csv

NUM_SEQUENCES, IN_EACH = 8, 5


def score_images(folder: Path, gain: float, split_by="sequence", index=0, num_sequences=NUM_SEQUENCES, first=0) -> None:
    """Gives a run its scores: images of 0.5 and a little that depends on the image, and a gain."""
    metrics = metrics_of(split_by)
    metrics["split"]["index"] = index
    metrics["checkpoint"]["sha256"] = folder.name
    (folder / "metrics.json").write_text(json.dumps(metrics))
    rows = []
    for sequence in range(first, first + num_sequences):
        for frame in range(IN_EACH):
            # The gain varies between sequences by a tenth of itself.
            own = gain * (1 + 0.1 * np.sin(sequence)) if gain else 0.0
            rows.append([f"{sequence:03d}_{frame}", f"{sequence:03d}", 0.5 + 0.01 * frame + own, 0.4])
    write_csv(folder / "per_image.csv", ["id", "sequence", "dice", "iou"], rows)


def boards() -> dict[str, Competition]:
    return {own.name: own for own in read_board(Folders.from_environment(), STAGES)}


def entries(own: Competition | None = None) -> dict[str, Entry]:
    """The entries of a competition by name."""
    own = own or boards()["aeroscapes"]
    return {entry.name: entry for root in own.book for entry in root.walk()}


def test_the_family_has_the_parent_and_the_competition_of_every_config():
    family = read_family()
    assert family["ExpAAB"] == Relative("ExpAAA", "aeroscapes"), "from base.yaml"
    assert family["CamVidBAC"] == Relative("CamVidBAB", "camvid"), "from CamVidAAA, two parents up"
    assert "base" not in family and len(family) == len(list(CONFIGS.glob("*.yaml"))) - 1


def test_a_config_that_is_no_yaml_costs_itself_alone(configs):
    (configs / "ExpAAC.yaml").write_text("BASE: [")
    (configs / "ExpBAA.yaml").write_text("BASE: ExpBAB\n")  # which names ExpBAA
    family = read_family()
    assert "ExpAAC" not in family and family["ExpBAB"].competition == ""


def test_an_experiment_is_compared_with_its_parent_on_the_images_of_both(new_run):
    score_images(new_run("ExpAAA")[1], 0.0)
    score_images(new_run("ExpAAB")[1], 0.05, num_sequences=NUM_SEQUENCES + 2)
    found = entries()
    assert [child.name for child in found["ExpAAA"].children if child.runs] == ["ExpAAB"]
    entry = found["ExpAAB"]
    assert (entry.reference, entry.answer, entry.gain.num_images) == (
        "ExpAAA",
        "better with this seed",
        NUM_SEQUENCES * IN_EACH,
    )
    assert entry.gain.interval.mean == pytest.approx(0.05, abs=0.005)
    assert entry.question.startswith("Does a constant rate")
    assert "SOLVER.PLAN" in entry.changes and entry.cautions == ()
    assert found["ExpAAA"].answer == "nothing to compare with: it has no BASE"
    assert found["ExpAAC"].answer == "not run"


@pytest.mark.parametrize(
    ("gain", "num_sequences", "answer"),
    [
        (-0.05, 8, "worse with this seed"),
        (0.001, 8, "equal within 0.005 with this seed"),
        (0.05, 1, "nothing to compare with: 5 images in common with ExpAAA"),
    ],
)
def test_the_answer_is_a_verdict_in_words(new_run, gain, num_sequences, answer):
    score_images(new_run("ExpAAA")[1], 0.0)
    score_images(new_run("ExpAAB")[1], gain, num_sequences=num_sequences)
    assert entries()["ExpAAB"].answer == answer


def test_of_one_sequence_nothing_can_be_concluded(new_run):
    for name in ("ExpAAA", "ExpAAB"):
        folder = new_run(name)[1]
        score_images(folder, 0.1 * (name == "ExpAAB"))
        text = (folder / "per_image.csv").read_text().splitlines()
        lines = [",".join([cells[0], "one", *cells[2:]]) for cells in (line.split(",") for line in text[1:])]
        (folder / "per_image.csv").write_text("\n".join([text[0], *lines]))
    assert entries()["ExpAAB"].answer == "one sequence: nothing can be concluded"


def test_overrides_hang_below_their_config_with_what_they_set(new_run):
    score_images(new_run("ExpAAB")[1], 0.0)
    score_images(new_run("ExpAAB", "SOLVER.POWER=2")[1], 0.03)
    (entry,) = [child for child in entries()["ExpAAB"].children if child.runs]
    assert (entry.name, entry.reference, entry.answer) == ("SOLVER.POWER=2.0", "ExpAAB", "better with this seed")
    assert not entry.is_config and entry.changes is None


def test_overrides_are_compared_with_the_run_that_has_most_of_them(new_run):
    score_images(new_run("ExpAAB")[1], 0.3)
    score_images(new_run("ExpAAB", "SOLVER.POWER=2")[1], 0.0)
    score_images(new_run("ExpAAB", "SOLVER.POWER=2", "SOLVER.MAX_LR=0.1")[1], 0.03)
    score_images(new_run("ExpAAB", "SOLVER.POWER=3", "SOLVER.MAX_LR=0.1")[1], 0.03)  # another power: beside it
    powers = {child.name: child for child in entries()["ExpAAB"].children if child.runs}
    assert set(powers) == {"SOLVER.POWER=2.0", "SOLVER.MAX_LR=0.1 SOLVER.POWER=3.0"}
    (rate,) = powers["SOLVER.POWER=2.0"].children
    assert (rate.name, rate.reference, rate.answer) == ("SOLVER.MAX_LR=0.1", "the entry above", "better with this seed")
    assert rate.gain.interval.mean == pytest.approx(0.03, abs=0.003)


def test_overrides_without_a_comparable_run_above_hang_below_their_config(new_run):
    score_images(new_run("ExpAAB", "SOLVER.POWER=2", "EXPERIMENT.SEED=1")[1], 0.0)
    new_run("ExpAAB", "SOLVER.MAX_LR=0.1")  # no scores yet
    score_images(new_run("ExpAAB", "SOLVER.POWER=2", "SOLVER.MAX_LR=0.1")[1], 0.03)  # another seed
    below = [child for child in entries()["ExpAAB"].children if child.runs]
    assert len(below) == 3 and not any(child.children for child in below)
    assert below[1].answer == "nothing to compare with: ExpAAB was not run"


def write_study(folder: Path, name: str, settings: dict[str, str]) -> None:
    """Writes the table of a study, whose settings have one run each, and one that was not started."""
    rows = [f'"{setting}",1,2,0.5,,,,,{run} ExpAAB-elsewhere{run}' for setting, run in settings.items()]
    (folder.parent / "study_tables").mkdir(exist_ok=True)
    header = "setting,runs,planned,score,gain,low,high,verdict,names"
    (folder.parent / "study_tables" / f"{name}.csv").write_text("\n".join([header, *rows]))


def test_overrides_have_the_names_that_studies_give_them(new_run):
    folder = new_run("ExpAAB", "SOLVER.POWER=2")[1]
    score_images(folder, 0.0)
    write_study(folder, "powers", {"square": folder.name})
    write_study(folder, "rates", {"slow, then fast": folder.name})
    assert entries()["SOLVER.POWER=2.0"].question == "square (powers), slow, then fast (rates)"


def test_the_settings_of_a_study_are_compared_with_its_reference(new_run):
    folders = [new_run("ExpAAB", *overrides)[1] for overrides in (["SOLVER.POWER=2"], ["SOLVER.MAX_LR=0.1"])]
    folders.append(new_run("ExpAAB", "SOLVER.MAX_LR=0.1", "SOLVER.POWER=3")[1])
    for number, folder in enumerate(folders):
        score_images(folder, 0.02 * number)
    write_study(folders[0], "mine", dict(zip(("square", "fast", "both"), (one.name for one in folders), strict=True)))
    found = entries()
    assert [child.question for child in found["SOLVER.POWER=2.0"].children] == ["fast (mine)", "both (mine)"]
    both = found["SOLVER.MAX_LR=0.1 SOLVER.POWER=3.0"]
    assert both.reference == "square (mine)" and both.gain.interval.mean == pytest.approx(0.04, abs=0.004)


def test_settings_that_lack_a_part_of_the_reference_say_so(new_run):
    both = new_run("ExpAAB", "SOLVER.MAX_LR=0.1", "SOLVER.POWER=3")[1]
    one, other = new_run("ExpAAB", "SOLVER.POWER=3")[1], new_run("ExpAAB", "SOLVER.MAX_LR=0.1")[1]
    for folder in (both, one, other):
        score_images(folder, 0.0)
    write_study(both, "mine", {"both": both.name, "no rate": one.name, "no power": other.name})
    children = {child.question: child.name for child in entries()["SOLVER.MAX_LR=0.1 SOLVER.POWER=3.0"].children}
    assert children == {"no rate (mine)": "without SOLVER.MAX_LR=0.1", "no power (mine)": "without SOLVER.POWER=3.0"}


def test_studies_with_each_others_settings_as_references_are_shown_once(new_run):
    one, other = new_run("ExpAAB", "SOLVER.POWER=3")[1], new_run("ExpAAB", "SOLVER.MAX_LR=0.1")[1]
    for folder in (one, other):
        score_images(folder, 0.0)
    write_study(one, "first", {"power": one.name, "rate": other.name})
    write_study(one, "second", {"rate": other.name, "power": one.name})
    runs = [run for root in boards()["aeroscapes"].book for entry in root.walk() for run in entry.runs]
    assert sorted(runs) == sorted([one.name, other.name])


def test_seeds_and_splits_are_one_entry_and_compared_pairwise(new_run):
    score_images(new_run("ExpAAA")[1], 0.0)
    score_images(new_run("ExpAAA", "EXPERIMENT.SEED=1")[1], 0.01)
    score_images(new_run("ExpAAB")[1], 0.04)
    score_images(new_run("ExpAAB", "EXPERIMENT.SEED=1")[1], 0.03)
    score_images(new_run("ExpAAB", "EXPERIMENT.SEED=2")[1], 0.5)  # without a partner
    entry = entries()["ExpAAB"]
    assert len(entry.runs) == 3 and entry.num_pairs == 2 and not entry.gain.covers_training
    assert entry.gain.interval.mean == pytest.approx((0.04 + 0.02) / 2, abs=0.003)
    score_images(new_run("ExpAAA", "EXPERIMENT.SEED=2")[1], 0.47)
    entry = entries()["ExpAAB"]
    assert entry.num_pairs == 3 and entry.gain.covers_training


def test_better_is_corrected_for_the_experiments_that_are_compared_with_one(new_run):
    score_images(new_run("ExpAAC")[1], 0.0)
    alone = new_run("ExpBAA")[1]
    score_images(alone, 0.0)
    generator = np.random.default_rng(4)
    lines = (alone / "per_image.csv").read_text().splitlines()
    effects = np.repeat(0.02 + generator.normal(0, 0.02, NUM_SEQUENCES), IN_EACH)
    rows = [line.split(",") for line in lines[1:]]
    rows = [[*row[:2], float(row[2]) + gain, row[3]] for row, gain in zip(rows, effects, strict=True)]
    write_csv(alone / "per_image.csv", ["id", "sequence", "dice", "iou"], rows)
    before = entries()["ExpBAA"]
    gains = {str(number): (str(number // IN_EACH), gain) for number, gain in enumerate(effects)}
    expected = contrast([Pair(0, 0, gains)])
    assert before.gain.p_value == pytest.approx(expected.p_value)
    assert before.answer == verdict(expected, expected.p_value, 0.005) == "better with this seed"
    for power in range(2, 9):
        score_images(new_run("ExpAAC", f"SOLVER.POWER={power}")[1], 0.0)
    after = entries()["ExpBAA"]
    assert after.gain == before.gain and after.answer.startswith("inconclusive"), "eight comparisons"


def test_another_split_is_a_caution(new_run):
    score_images(new_run("ExpAAA")[1], 0.0)
    score_images(new_run("ExpAAB")[1], 0.05, split_by="slice", index=3)
    assert entries()["ExpAAB"].cautions == ("validated on slice 3, ExpAAA on sequence 0",)


def test_quick_runs_are_compared_with_nothing(new_run):
    score_images(new_run("ExpAAA")[1], 0.0)
    score_images(new_run("ExpAAB", "DATASETS.SPLIT_INDEX=-10")[1], 0.05, index=-10)
    assert entries()["ExpAAB"].answer == "only runs on a share of the images"


def test_a_run_without_a_score_says_why_and_so_do_those_below(new_run):
    (new_run("ExpAAA")[1] / "metrics.json").write_text("{")
    score_images(new_run("ExpAAB")[1], 0.05)
    found = entries()
    assert found["ExpAAA"].answer == "no score (its metrics.json is damaged)"
    assert found["ExpAAB"].answer == "nothing to compare with: ExpAAA has no score (its metrics.json is damaged)"


def test_an_ensemble_is_compared_with_its_members(new_run):
    for number, name in enumerate(("ExpBAA", "ExpBAB")):
        score_images(new_run(name)[1], 0.02 * number, first=4 * number)
    ensemble = new_run("EnsAAA")[1]
    score_images(ensemble, 0.05, num_sequences=12)
    members = [{"checkpoint_sha256": name} for name in ("ExpBAA", "ExpBAB", "elsewhere")]
    (ensemble / "members.json").write_text(json.dumps(members))
    entry = entries()["EnsAAA"]
    assert (entry.reference, entry.num_pairs, entry.gain.num_images) == ("its members", 2, 12 * IN_EACH)
    assert entry.gain.interval.mean == pytest.approx(0.04, abs=0.006)
    assert entry.answer == "better with these members", "members are no repeated trainings"


def test_runs_of_two_competitions_are_in_two_books(new_run):
    score_images(new_run("ExpAAB")[1], 0.0)
    score_images(new_run("CamVidAAA")[1], 0.0)
    own = boards()
    assert set(own) == {"aeroscapes", "camvid"}
    assert "ExpAAB" not in entries(own["camvid"]) and "CamVidAAA" not in entries(own["aeroscapes"])
    assert entries(own["aeroscapes"])["ExpAAB"].answer == "nothing to compare with: ExpAAA was not run"


def test_configs_that_are_each_others_parents_are_shown_once(configs, new_run):
    score_images(new_run("ExpBAA")[1], 0.0)
    (configs / "ExpAAA.yaml").write_text("BASE: ExpAAB\nDATASETS: {COMPETITION: aeroscapes}\n")
    with pytest.raises(UserError, match="circular"):
        new_run("ExpAAB")
    names = [entry.name for root in boards()["aeroscapes"].book for entry in root.walk()]
    assert {"ExpAAA", "ExpAAB", "ExpAAC", "ExpBAA"} <= set(names) and len(names) == len(set(names))


def test_a_run_of_another_competitions_config_has_its_place(new_run):
    score_images(new_run("CamVidAAA", "DATASETS.COMPETITION=aeroscapes")[1], 0.0)
    score_images(new_run("ExpAAA")[1], 0.0)
    found = entries()
    assert found["CamVidAAA"].answer == "not run" and found["DATASETS.COMPETITION=aeroscapes"].num_runs == 1
