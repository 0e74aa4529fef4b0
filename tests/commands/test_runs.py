"""What the commands on configs and runs print."""

import json

import pytest

from pipeline.__main__ import main
from pipeline.paths import Folders, shown
from pipeline.report import curves


def test_show_names_the_folder_of_the_runs_in_use(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    assert main(["show", "ExpAAB"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(f"folder {shown(tmp_path / 'ExpAAB')}")


def test_the_plan_of_an_ensemble_is_that_of_its_members(capsys):
    assert main(["plan", "EnsAAA"]) == 2
    assert capsys.readouterr().err.strip().endswith("its members have: ./run.sh plan ExpBAA")


def test_the_title_of_a_plan_is_run_and_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    titles = []
    draw = curves.draw_plan
    monkeypatch.setattr(curves, "draw_plan", lambda *args: titles.append(args[2]) or draw(*args))
    assert main(["plan", "ExpAAB"]) == 0
    assert titles == ["ExpAAB: flat_cosine"]
    assert "plot: " in capsys.readouterr().out


def test_an_incomplete_folder_does_not_count_as_downloaded(tmp_path, monkeypatch, capsys):
    (tmp_path / "camvid").mkdir()
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert main(["download", "camvid"]) == 2
    assert capsys.readouterr().err.strip().endswith("has no train.csv; move it away, then type the same command")
    (tmp_path / "camvid" / "train.csv").touch()
    assert main(["download", "camvid"]) == 0
    assert "already exists; remove it to download again" in capsys.readouterr().out


def test_plan_prints_its_assumptions(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    assert main(["plan", "ExpAAA", "SOLVER.PLAN=cityscapes_poly", "SOLVER.MAX_LR=auto"]) == 0
    out = capsys.readouterr().out
    assert "warm-up is plotted for 40 steps per epoch" in out
    assert "SOLVER.MAX_LR is auto: plotted for 0.001" in out
    (drawn,) = (tmp_path / "plans").iterdir()
    folder = tmp_path / drawn.stem
    folder.mkdir()
    (folder / "tiles.json").write_text('{"samples_per_epoch": 2100}')
    assert main(["plan", "ExpAAA", "SOLVER.PLAN=cityscapes_poly", "SOLVER.MAX_LR=auto"]) == 0
    assert "steps per epoch" not in capsys.readouterr().out


def test_plan_says_what_each_phase_changes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    assert main(["plan", "ExpC05"]) == 0
    first, steeper, frozen, gentler = capsys.readouterr().out.splitlines()[:4]
    assert first == "poly       at most 28 epochs: LR poly from 0.0002, power 0.9, warm-up of 500 steps"
    assert steeper == "steeper    at most 18 epochs: power 1.2" and gentler == "gentler    at most 20 epochs: power 1.2"
    layers = ", ".join(f"encoder.layer{number}" for number in range(1, 5))
    words = f"power 2, loss 0.5 ce(stride=8) + 0.5 lovasz, frozen encoder.bn1, {layers}"
    assert frozen == f"frozen     at most 1 epoch: {words}"


def test_plan_uses_the_rate_that_the_sweep_suggests(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    words = ["plan", "ExpAAA", "SOLVER.MAX_LR=auto"]
    assert main(words) == 0
    capsys.readouterr()
    (drawn,) = (tmp_path / "plans").iterdir()
    folder = tmp_path / drawn.stem
    folder.mkdir()
    (folder / "lr_sweep.json").write_text('{"max_lr": 0.0421}')
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "plotted for 0.042, the suggestion of the LR sweep in" in out
    assert "from 0.0421" in out


def test_plan_creates_no_run_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    assert main(["plan", "ExpAAA", "SOLVER.POWER=2"]) == 0
    assert main(["plan", "ExpAAA"]) == 0
    assert [folder.name for folder in tmp_path.iterdir()] == ["plans"]
    capsys.readouterr()
    assert main(["list", "ExpAAA"]) == 0
    assert "POWER" not in capsys.readouterr().out
    (tmp_path / "ExpAAA").mkdir()
    (tmp_path / "ExpAAA" / "config.yaml").write_text("{}")
    assert main(["plan", "ExpAAA"]) == 0
    assert (tmp_path / "ExpAAA" / "plots" / "plan.png").is_file()


def test_compare_plots_scores_where_there_are_any(capsys):
    folders = [Folders.from_environment().runs / name for name in ("One", "Two")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text('{"SOLVER": {"POWER": 1.0}}')
    assert main(["compare", "One", "Two"]) == 0
    assert "plots:" not in capsys.readouterr().out
    (folders[0] / "metrics.json").write_text(
        json.dumps(
            {"images": 1, "score": "dice", "scores": {"dice": {"label": "Dice", "mean": 0.5, "classes": {"Road": 0.5}}}}
        )
    )
    assert main(["compare", "One", "Two"]) == 0
    assert "plots: " in capsys.readouterr().out
    assert sorted(path.name for path in (Folders.from_environment().runs / "compared").iterdir()) == [
        "curves.png",
        "scores.png",
    ]


def write_run(name: str, mean: float, competition: str = "camvid") -> None:
    folder = Folders.from_environment().run(name).folder
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps({"DATASETS": {"COMPETITION": competition}}))
    score = {"label": "Dice", "mean": mean, "classes": {"Road": mean}}
    metrics = {"images": 1, "score": "dice", "scores": {"dice": score}, "split": {"by": "slice", "index": 0}}
    (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def three_runs():
    write_run("One", 0.25)
    write_run("Two", 0.75)
    write_run("Other", 0.1, "aeroscapes")


def test_table_prints_each_competition_and_writes_its_files(three_runs, capsys):
    assert main(["table"]) == 0
    out = capsys.readouterr().out
    assert "average     0.500" in out and "average     0.100" in out
    assert out.index("aeroscapes: ") < out.index("camvid: ")
    folder = Folders.from_environment().runs / "tables"
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{name}.{suffix}" for name in ("aeroscapes", "camvid") for suffix in ("csv", "md", "html")}
    assert f"files: {shown(folder / 'camvid')}.csv, .md, .html" in out
    assert main(["table", "T*", "One", "--classes"]) == 0
    assert "Road" in capsys.readouterr().out and (folder / "camvid_chosen.csv").is_file()


def test_table_of_one_competition_or_of_some_runs(three_runs, capsys):
    assert main(["table", "--competition", "aeroscapes"]) == 0
    assert "camvid" not in capsys.readouterr().out
    assert main(["table", "Two"]) == 0
    out = capsys.readouterr().out
    assert "average     0.750" in out and "One" not in out


def test_table_refuses_what_there_is_not(three_runs, capsys):
    for words, message in (
        (["Tow"], "there is no run 'Tow' in"),
        (["X*"], "no run matches 'X*'"),
        (
            ["--competition", "camvidd"],
            "there is no competition 'camvidd' in configs/competitions/; did you mean camvid?",
        ),
    ):
        assert main(["table", *words]) == 2
        assert message in capsys.readouterr().err
    assert main(["table", "--competition", "demo"]) == 0
    assert capsys.readouterr().out.startswith("There are no runs of demo in ")


def test_without_any_run_table_says_so_and_writes_nothing(capsys):
    assert main(["table"]) == 0
    assert capsys.readouterr().out.startswith("There are no runs in ")
    assert not Folders.from_environment().runs.exists()
