"""`--folds` and `--seeds`: every image validates once, runs that fail leave the others alone, the runs are combined."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.config.folds import load_folds
from pipeline.config.study import SEED, SPLIT
from pipeline.errors import UserError
from pipeline.paths import STUDIES, Folders
from pipeline.report.folds import read_fold_findings
from pipeline.report.read import read_columns, read_metrics
from tests.report.small_run import metrics_of, write_csv
from tests.tiny import overrides

pytestmark = pytest.mark.usefixtures("without_drawing")


def words_of(data: Path, *changes: str) -> list[str]:
    """Returns the overrides of the tests' small competition, without those that `--folds` and `--seeds` give."""
    return [word for word in overrides(data, *changes) if not word.startswith((f"{SPLIT}=", f"{SEED}="))]


@pytest.fixture
def type_in(configs, workshop):
    """Types a command about the small competition; returns its exit code."""

    def run(*words: str, changes: tuple[str, ...] = ()) -> int:
        return main(["demo", *words, *words_of(workshop.data, *changes)])

    return run


def runs() -> Path:
    return Folders.from_environment().runs


def valid_ids() -> list[set[str]]:
    """Returns the validation images of every run."""
    splits = [read_columns(path) for path in sorted(runs().glob("demo*/split.csv"))]
    return [{id for id, subset in zip(own["id"], own["subset"], strict=True) if subset == "valid"} for own in splits]


@pytest.mark.slow
def test_three_folds_end_in_a_checked_submission_of_their_ensemble_and_nothing_is_done_twice(
    type_in, configs, workshop, capsys
):
    assert type_in("--folds", "3", changes=("SWEEP.ENABLE=false",)) == 0
    first = capsys.readouterr().out
    (path,) = configs.glob("demo-*-3folds.yaml")
    name = path.stem
    with open(runs() / STUDIES / f"{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["fold"] for row in rows] == ["0", "1", "2", "all"]
    assert [row["seed"] for row in rows] == ["2", "3", "5", ""]  # those of the splits of the original
    assert len(set.union(*(set(read_columns(runs() / row["run"] / "per_image.csv")["id"]) for row in rows[:3]))) == 12
    # Out of fold each image has one prediction alone, so that the ensemble is scored as the folds together are.
    metrics = read_metrics(runs() / name)
    assert metrics.mean("dice") == pytest.approx(float(rows[3]["score"]), abs=1e-6)
    assert metrics.images == 12 == int(rows[3]["images"])
    assert f"ensemble {name}: Dice {metrics.mean('dice'):.4f}" in first
    assert "each image by 1 member not trained on it" in first
    submissions = Folders.from_environment().submissions
    assert len((submissions / f"{name}.csv").read_text().splitlines()) == 1 + 4 * 12
    assert json.loads((runs() / name / "submission.json").read_text())["checked"]
    page = (runs() / name / "report.html").read_text()
    assert all(row["run"] in page for row in rows[:3]) and "3 runs of demo" in page
    assert type_in("--folds", "3", changes=("SWEEP.ENABLE=false",)) == 0
    again = capsys.readouterr().out
    assert "done in" not in again and again[again.index("\nfold  seed") :] == first[first.index("\nfold  seed") :]
    assert main([name, f"DATASETS.DIRECTORY={workshop.data}", "ENSEMBLE.METHOD=GEO"]) == 0


@pytest.mark.parametrize("by", ["sequence", "kfold"])
def test_a_named_stage_is_the_last_of_every_fold_and_each_image_validates_once(type_in, configs, by, capsys):
    assert type_in("prepare", "--folds", "3", changes=(f"DATASETS.SPLIT.BY={by}",)) == 0
    valid = valid_ids()
    assert sorted(Counter(image_id for own in valid for image_id in own).values()) == [1] * 12
    sequences = [{image_id.partition("_")[0] for image_id in own} for own in valid]
    assert (max(map(len, sequences)) == 1) == (by == "sequence")
    out = capsys.readouterr().out
    assert "fold 2: prepare   done in" in out and "train" not in out.replace("training", "")
    assert not list(configs.glob("demo-*folds.yaml")) and not (runs() / STUDIES).exists()


def test_seeds_share_what_does_not_depend_on_them(type_in, capsys):
    assert type_in("testset", "--folds", "3", "--seeds", "2") == 0
    out = capsys.readouterr().out
    assert out.count("prepare   done in") == 3 and out.count("testset   done in") == 1
    assert "fold 0, seed 2: prepare   done in" in out and "fold 0, seed 100: prepare   reused from" in out
    assert len(valid_ids()) == 6


def test_a_fold_that_fails_is_named_and_the_others_go_on(type_in, capsys, monkeypatch):
    from pipeline.work import tile as module

    tile = module.tile

    def fails(run):
        if run.loaded.config.datasets.split_index == 1:
            raise UserError("no tile can be cut; set another size")
        tile(run)

    monkeypatch.setattr(module, "tile", fails)
    assert type_in("tile", "--folds", "3") == 2
    out = capsys.readouterr().out
    assert "fold 2: tile      done in" in out
    assert "\nfold 1: refused: no tile can be cut; set another size" in out
    assert "1 of 3 runs ended in an error; the same command tries them again" in out
    monkeypatch.setattr(module, "tile", tile)
    assert type_in("tile", "--folds", "3") == 0
    assert capsys.readouterr().out.count("tile      done in") == 1


def test_folds_that_the_images_do_not_have_are_refused_before_anything_is_trained(type_in, configs, capsys):
    assert type_in("--folds", "5") == 2
    out = capsys.readouterr().out
    assert (
        "fold 0 and 4 more: refused: 5 folds of whole sequences need 5 sequences or more, but there are only 3" in out
    )
    assert "Give --folds 2 to 3 (DATASETS.SPLIT.FOLDS)." in out
    assert "These images can be split with DATASETS.SPLIT.BY=kfold (optimistic scores" in out
    assert not list(runs().glob("demo*/.stages/*.json")) and not list(configs.glob("demo-*folds.yaml"))


def test_the_organisers_folds_are_used_as_they_are_and_another_number_is_refused(configs, tmp_path, capsys):
    from tests.tiny import write_competition

    data = write_competition(tmp_path / "own")
    ids = (data / "train.csv").read_text().split()[1:]
    rows = [f"{image_id},{number % 4}" for number, image_id in enumerate(ids)]
    (data / "train.csv").write_text("\n".join(["ImageID,fold", *rows]) + "\n")
    path = configs / "competitions" / "demo.yaml"
    path.write_text(f"{path.read_text()}\nSPLIT_COLUMN: fold\n")
    words = words_of(data, "DATASETS.SPLIT.BY=given")
    assert main(["demo", "prepare", "--folds", "4", *words]) == 0
    assert {len(own) for own in valid_ids()} == {3} and len(set.union(*valid_ids())) == 12
    capsys.readouterr()
    assert main(["demo", "prepare", "--folds", "3", *words]) == 2
    error = capsys.readouterr().err
    assert "--folds 3: the folds of DATASETS.SPLIT.BY given do not validate each image exactly once: 3 of 12" in error
    assert "The competition's own folds are 0, 1, 2, 3: type --folds 4" in error


def test_folds_that_start_from_a_run_which_saw_their_validation_images_are_refused(type_in, capsys):
    earlier = runs() / "Earlier"
    earlier.mkdir(parents=True)
    write_csv(earlier / "split.csv", ("id", "subset"), [("000001_001", "train"), ("000002_001", "valid")])
    (earlier / "config.yaml").write_text(json.dumps({"DATASETS": {"COMPETITION": "demo"}}))
    assert type_in("prepare", "--folds", "3", changes=("EXPERIMENT.LOAD_PREV=Earlier",)) == 2
    error = capsys.readouterr().err
    assert "starts from Earlier (EXPERIMENT.LOAD_PREV), which was trained on 1 of its 4 validation images" in error
    assert "such as 000001_001: its score would not be out of fold. Type EXPERIMENT.LOAD_PREV=null" in error
    (earlier / "config.yaml").write_text(json.dumps({"DATASETS": {"COMPETITION": "camvid"}}))
    assert type_in("prepare", "--folds", "3", changes=("EXPERIMENT.LOAD_PREV=Earlier",)) == 0


def test_what_the_ensemble_cannot_do_is_refused_before_the_training(type_in, configs, capsys):
    assert type_in("--folds", "3", "ENSEMBLE.WEIGHTS=fitted") == 2
    assert "METHOD AP has no weights; set METHOD: WEIGHTED" in capsys.readouterr().err
    assert not list(configs.glob("demo-*folds.yaml")) and not list(runs().glob("demo*/.stages/tile.json"))


def test_a_command_that_is_stopped_says_how_to_go_on(type_in, capsys):
    assert type_in("--folds", "3", changes=("RUNTIME.TIME_BUDGET_HOURS=1e-9",)) == 3
    assert "the time budget is used up; to continue, type the same command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--folds", "1"], "--folds 1: expected 2 to 20, such as ./run.sh demo --folds 5"),
        (["--folds", "5", "--workers", "0"], "--workers 0: expected at least 1"),
        (["--workers", "2"], "--workers 2 is for several runs; add --folds 5 or --seeds 3"),
        (["--folds", "5", "--force"], "--force is for one run, and --folds and --seeds make several"),
        (["--seeds", "3", "--test-dir", "x"], "--test-dir is for one run"),
        (["fit", "--folds", "5"], "demo has no stage fit (no DECODE setting is fitted)"),
        (["--folds", "five"], "argument --folds: invalid int value: 'five'"),
    ],
)
def test_a_slip_on_the_command_line_is_refused(capsys, words, message):
    assert main(["demo", *words]) == 2
    assert message in capsys.readouterr().err


def write_scored(name: str, scores: dict[str, tuple[str, float]]) -> None:
    """Writes the files of an evaluated run that the table reads."""
    folder = runs() / name
    (folder / ".stages").mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics_of()))
    for stage, seconds in (("train", 90), ("evaluate", 30), ("prepare", 600)):
        (folder / ".stages" / f"{stage}.json").write_text(json.dumps({"seconds": seconds}))
    rows = [(image_id, sequence, score) for image_id, (sequence, score) in scores.items()]
    write_csv(folder / "per_image.csv", ("id", "sequence", "dice"), rows)


def test_the_table_has_mean_spreads_and_the_score_over_all_images():
    folds = load_folds("demo", [], 2, 2)
    scores = ([0.5, 0.7], [0.9, 0.9], [0.7, 0.9])  # fold 0 and 1 with the first seed, fold 0 with the second
    images = ({"a": "s1", "b": "s2"}, {"c": "s3", "d": "s4"}, {"a": "s1", "b": "s2"})
    for training, own, of in zip(folds.trainings, scores, images, strict=False):
        pairs = zip(of.items(), own, strict=True)
        write_scored(training.run, {image_id: (sequence, score) for (image_id, sequence), score in pairs})
    found = read_fold_findings(folds, [2, 3, 100, 100], runs())
    assert found.own.done == 3 and found.own.minutes == pytest.approx(2)
    assert found.own.score == pytest.approx((0.7 + 0.9) / 2)  # of folds, each the mean of its seeds
    assert found.own.of_splits == pytest.approx(0.2 / 2**0.5)
    assert found.own.of_seeds == pytest.approx(0.2 / 2**0.5)
    assert found.out_of_fold.mean == pytest.approx((0.6 + 0.8 + 0.9 + 0.9) / 4)
    assert found.out_of_fold.low < 0.8 < found.out_of_fold.high and found.num_images == 4
    lines = str(found).splitlines()
    assert lines[0].split() == ["fold", "seed", "Dice", "mIoU", "minutes", "run"]
    assert lines[1].split()[:3] == ["0", "2", "0.600"] and lines[4].split() == ["1", "100", folds.trainings[3].run]
    assert lines[-3] == "spread of Dice: ±0.141 by fold, ±0.141 by seed (standard deviation)"
    assert lines[-2].startswith("out of fold: Dice 0.8000, 95 % interval ")
    assert lines[-2].endswith("(4 images in 4 sequences, so far 3 of 4 runs)")
