"""`./run.sh kaggle`: what it writes and what it refuses, without Kaggle."""

import ast
import json
import re
import tarfile
from dataclasses import replace

import nbformat
import pytest

from pipeline.__main__ import main
from pipeline.bootstrap.requirements import parse_requirements
from pipeline.commands.kaggle import folder_of_test
from pipeline.config.load import load, load_competition
from pipeline.errors import UserError
from pipeline.files import sha256_file
from pipeline.notebook import folder as folder_module
from pipeline.notebook.cells import notebook_text
from pipeline.notebook.folder import slug_for
from pipeline.paths import Folders, shown
from tests.bootstrap.fake_project import write_wheel


@pytest.fixture
def wheels(tmp_path):
    (tmp_path / "wheels").mkdir()
    write_wheel(tmp_path / "wheels", "first", "1.0")
    return str(tmp_path / "wheels")


def made(name):
    """Returns pack, facts of the dataset and facts of the notebook that were written."""
    folder = Folders.from_environment().runs / "notebooks" / name
    facts = [
        json.loads((folder / file).read_text())
        for file in ("dataset/dataset-metadata.json", "kernel/kernel-metadata.json")
    ]
    return folder, folder / "dataset" / f"{name}.pack", *facts


def test_the_folder_has_a_pack_a_notebook_and_what_each_wants_of_kaggle(wheels, tmp_path, monkeypatch, capsys):
    (tmp_path / "efficientnet-b3-imagenet.safetensors").write_bytes(b"weights")
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    assert main(["kaggle", "ExpAAB", "SOLVER.MAX_LR=5e-4", "--owner", "Me", "--wheels", wheels]) == 0
    (folder,) = (Folders.from_environment().runs / "notebooks").iterdir()
    folder, pack, dataset, kernel = made(folder.name)
    assert dataset == {
        "title": f"{folder.name}-files",
        "id": f"me/{folder.name}-files",
        "licenses": [{"name": "other"}],
    }
    wanted = {"enable_gpu": True, "enable_internet": False, "is_private": True, "machine_shape": "NvidiaTeslaT4"}
    assert wanted.items() <= kernel.items()
    assert kernel["dataset_sources"] == [dataset["id"]] and kernel["kernel_sources"] == []
    assert kernel["competition_sources"] == [load("ExpAAB").competition.kaggle_slug]
    with tarfile.open(pack) as archive:
        names = archive.getnames()
        needed = archive.extractfile("project/requirements.txt").read().decode()
    assert {"project/run.sh", "project/pipeline/stages.py", "project/configs/base.yaml"} <= set(names)
    assert "wheels/first-1.0-py3-none-any.whl" in names and "weights/efficientnet-b3-imagenet.safetensors" in names
    assert not [name for name in names if "__pycache__" in name or "tests" in name.split("/")]
    assert "safetensors" in needed and "pytest" not in needed
    notebook = nbformat.read(folder / "kernel" / kernel["code_file"], 4)
    nbformat.validate(notebook)
    assert "'SOLVER.MAX_LR=0.0005'" in notebook.cells[2].source and "hours=11.5" in notebook.cells[2].source
    out = capsys.readouterr().out
    assert f"kaggle kernels push -p {shown(folder / 'kernel')}" in out and "SOLVER.MAX_LR=5e-4 --owner Me" in out
    before = sha256_file(pack)
    assert main(["kaggle", "ExpAAB", "SOLVER.MAX_LR=5e-4", "--owner", "Me", "--wheels", wheels, "--continue"]) == 0
    assert sha256_file(pack) == before  # nothing to upload again
    assert made(folder.name)[3]["kernel_sources"] == [f"me/{folder.name}"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo"], "the notebook needs an owner: add --owner NAME"),
        (["demo", "--owner", "me", "--time-limit", "9"], "--time-limit 9: expected a number and h, min or s"),
        (
            ["EnsAAA", "--owner", "me"],
            "EnsAAA is an ensemble and trains nothing; add --predict, or name one of its members",
        ),
        (["CamVidAAA", "--owner", "me"], "camvid is not a Kaggle competition. Upload its folder .* --data me/camvid"),
        (["CamVidAAA", "--owner", "me", "--data", "camvid"], "--data camvid: expected OWNER/NAME"),
        (["demo", "--owner", "me", "--wheels", "nowhere"], "--wheels nowhere: there is no wheel"),
        (["demo", "--owner", "me", "--predict", "--internet"], r"demo is not ready .* type: \./run\.sh demo evaluate"),
        (["demo", "--owner", "me", "--internet", "--with", "gone"], "--with gone: there is no such run in "),
        (["demo", "--owner", "me", "--internet", "--with", "../other"], "--with ../other: there is no such run in "),
        (["demo", "--owner", "me", "--internet", "--with", "."], "--with .: there is no such run in "),
        (["ExpAAB", "--owner", "me", "--wheels", "WHEELS"], r"the weights of efficientnet-b3 .* \./run\.sh download"),
        (["ExpAAX", "--owner", "me"], "there is no config or study 'ExpAAX'; did you mean "),
        (["demo_losess", "--owner", "me"], "there is no config or study 'demo_losess'; did you mean demo_losses "),
        (["demo_losses", "--predict"], "--predict: demo_losses is a study, .*; name a run or an ensemble: "),
        (["demo_losses", "--folds", "3"], "--folds 3: demo_losses is a study, whose file has SPLITS; change it there"),
        (["demo_losses", "--seeds", "3"], "--seeds 3: demo_losses is a study, whose file has SEEDS; change it there"),
        (["demo_losses", "SOLVER.POWER=2"], "SOLVER.POWER=2: demo_losses is a study, .*; add it to SET in configs/"),
        (["demo_losses", "--trust-code"], "--trust-code: demo_losses is a study, .*; leave it out"),
        (["demo_losses", "--owner", "me", "--data", "me/demo"], "--data me/demo: .* draws the images of demo itself"),
        (["camvid_recipe", "--owner", "me"], "camvid is not a Kaggle competition. .* --data me/camvid"),
        (["demo", "--folds", "5", "--predict"], "--predict is for a trained run or ensemble, .*; leave one out"),
        (["demo", "--folds", "1"], r"--folds 1: expected 2 to 20, such as \./run\.sh demo --folds 5"),
        (["demo", "--owner", "me", "--pusch"], "unrecognized arguments: --pusch"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_to_type(words, message, wheels, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("KAGGLE_USERNAME", raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    runs = Folders.from_environment().runs
    for folder in (runs, runs.parent / "other"):
        folder.mkdir()
    (runs.parent / "other" / "config.yaml").write_text("{}")
    assert main(["kaggle", *(wheels if word == "WHEELS" else word for word in words)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error, re.DOTALL), error


def test_the_owner_is_that_of_the_token(wheels, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("KAGGLE_USERNAME", raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "kaggle.json").write_text('{"username": "Somebody", "key": "none"}')
    assert main(["kaggle", "demo", "--wheels", wheels]) == 0
    assert made("demo-train")[3]["id"] == "somebody/demo-train"


def test_a_run_goes_along_where_it_is_named(wheels, capsys):
    run = Folders.from_environment().run("ExpAAB")
    (run.folder / ".stages").mkdir(parents=True)
    (run.folder / ".stages/train.json").write_text("{}")
    assert main(["kaggle", "demo", "--owner", "me", "--wheels", wheels, "--with", "ExpAAB"]) == 0
    with tarfile.open(made("demo-train")[1]) as archive:
        assert "runs/ExpAAB/.stages/train.json" in archive.getnames()


def words_in(folder):
    """Returns the cell of a notebook that runs something, and its words."""
    source = nbformat.read(folder / "kernel" / f"{folder.name}.ipynb", 4).cells[2].source
    (assigned,) = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    return source, ast.literal_eval(assigned.value)


def test_the_notebook_of_a_study_runs_it_with_the_weights_of_every_setting(
    configs, wheels, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    encoders = ("resnet18", "resnet34")
    for name in encoders:
        (tmp_path / f"{name}-imagenet.safetensors").write_bytes(b"weights")
    settings = [f"{name}: [MODEL.ENCODER.NAME={name}, MODEL.ENCODER.WEIGHTS=imagenet]" for name in encoders]
    text = f"BASE: ExpAAB\nSETTINGS: {{{', '.join(settings)}}}\nSPLITS: [0, 1]\n"
    (configs / "studies" / "mine.yaml").write_text(text)
    assert main(["kaggle", "mine", "--owner", "me", "--wheels", wheels, "--data", "me/my-copy"]) == 0
    assert "mine-study.ipynb" in (out := capsys.readouterr().out) and ": 4 runs" in out
    folder, pack, _, facts = made("mine-study")
    assert facts["competition_sources"] == [] and "me/my-copy" in facts["dataset_sources"]
    source, words = words_in(folder)
    assert words == ["study", "mine"]
    assert "study('mine-study', WORDS, hours=11.5, started_s=STARTED, data=('aeroscapes', 'my-copy'))" in source
    with tarfile.open(pack) as archive:
        names = set(archive.getnames())
        assert "optuna" not in archive.extractfile("project/requirements.txt").read().decode()
    assert {f"weights/{name}-imagenet.safetensors" for name in encoders} <= names


def test_the_pack_of_a_search_asks_for_optuna_and_has_the_weights_of_each_encoder(
    configs, wheels, tmp_path, monkeypatch
):
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    encoders = ("resnet18", "resnet34", "resnet50")  # the first is that of the demo
    for name in encoders:
        (tmp_path / f"{name}-imagenet.safetensors").write_bytes(b"weights")
    space = f"{{MODEL.ENCODER.NAME: [{', '.join(encoders[1:])}]}}"
    text = f"BASE: demo\nSET: [MODEL.ENCODER.WEIGHTS=imagenet]\nSEARCH: {{TRIALS: 1, SPACE: {space}}}\n"
    (configs / "studies" / "mine.yaml").write_text(text)
    assert main(["kaggle", "mine", "--owner", "me", "--wheels", wheels]) == 0
    with tarfile.open(made("mine-study")[1]) as archive:
        weights = {name for name in archive.getnames() if name.startswith("weights/")}
        needed = parse_requirements(archive.extractfile("project/requirements.txt").read().decode())
    assert weights == {f"weights/{name}-imagenet.safetensors" for name in encoders}
    assert [str(line) for line in needed if line.name == "optuna"] == ["optuna>=5,<6"]
    assert not any(line.is_for_tests for line in needed)


def test_the_notebook_of_folds_trains_them_and_has_the_config_of_their_ensemble(configs, wheels, monkeypatch):
    monkeypatch.setattr(folder_module, "CONFIGS", configs)
    words = ["demo", "--folds", "3", "--seeds", "2", "SOLVER.POWER=2"]
    assert main(["kaggle", *words, "--owner", "me", "--wheels", wheels]) == 0
    (path,) = configs.glob("demo-*-3folds2seeds.yaml")
    folder, pack, _, _ = made(f"{path.stem}-train")
    source, found = words_in(folder)
    assert found == [*words[:5], words[5], "SUBMIT.FILE=/kaggle/working/submission.csv"]
    assert f"train('{path.stem}-train', WORDS, " in source
    with tarfile.open(pack) as archive:
        assert f"project/configs/{path.name}" in archive.getnames()


def test_a_study_with_a_folder_of_this_machine_and_a_name_of_two_files_are_refused(configs, wheels, capsys):
    settings = "SETTINGS: {a: [], b: [SOLVER.POWER=2]}"
    (configs / "studies" / "mine.yaml").write_text(f"BASE: demo\nSET: [DATASETS.DIRECTORY=/data/demo]\n{settings}\n")
    (configs / "studies" / "ExpAAB.yaml").write_text(f"BASE: demo\n{settings}\n")
    assert main(["kaggle", "mine", "--owner", "me", "--wheels", wheels]) == 2
    assert "study mine: DATASETS.DIRECTORY is /data/demo, which the notebook does not have." in capsys.readouterr().err
    assert main(["kaggle", "ExpAAB", "--owner", "me", "--wheels", wheels]) == 2
    assert "ExpAAB is both a config and a study; rename configs/studies/ExpAAB.yaml" in capsys.readouterr().err


def test_a_long_name_is_cut_to_what_kaggle_takes():
    slugs = {slug_for(f"{'A' * 60}{number}", "train") for number in range(3)}
    assert len(slugs) == 3 and {len(slug) for slug in slugs} == {44}


def test_words_with_quotes_reach_the_notebook_whole():
    words = ["ExpAAB", 'LOSS_FN.MIX="0.5 ce + 0.5 dice"', "EXPERIMENT.SUFFIX=it's"]
    text = notebook_text(
        "train", "slug", "me/slug-files", "slug.pack", words, 11.5, "./run.sh kaggle ExpAAB", "data=None"
    )
    source = nbformat.reads(text, 4).cells[2].source
    (assigned,) = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    assert ast.literal_eval(assigned.value) == words
    assert "train('slug', WORDS, hours=11.5, started_s=STARTED, data=None)" in source


@pytest.mark.parametrize(
    ("competition", "wanted"),
    [
        ("demo", None),  # drawn where it is needed
        ("aeroscapes", "opencv-pytorch-course-segmentation"),  # which has a list of its test images
        ("severstal", "severstal-steel-defect-detection"),
    ],
)
def test_the_test_images_of_a_competition_are_looked_for_where_its_file_says(competition, wanted):
    assert folder_of_test(load_competition(competition), None) == wanted


def test_without_a_list_the_folder_of_the_test_images_is_taken_and_without_either_one_is_asked_for():
    listed = load_competition("severstal")
    assert folder_of_test(replace(listed, test_csv=None), None) == "severstal-steel-defect-detection/test_images"
    assert folder_of_test(replace(listed, test_csv=None), "my-copy") == "my-copy/test_images"
    with pytest.raises(UserError, match=r"uw_madison\.yaml names no test images; add --test-dir NAME/FOLDER"):
        folder_of_test(load_competition("uw_madison"), None)
