"""What TensorBoard and the services of RUNTIME.TRACKER get: each epoch once, whatever stops; training does not notice.

The services themselves are tried where their packages are: `python -m pytest tests/training/test_trackers.py -m slow`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.config.load import load
from pipeline.config.logged import logged_values
from pipeline.errors import Stopped, UserError
from pipeline.paths import (
    BEST,
    EVENTS,
    HISTORY,
    HPARAMS,
    LAST,
    METRICS,
    PROJECT,
    SCENES,
    TRACKED,
    TRACKER,
    Folders,
    RunPaths,
)
from pipeline.training.scenes import kept_images
from tests.tiny import executed, overrides, run_of, run_paths, run_stages, tiny, write_competition
from tests.training.toy import StopAt

CHANGES = ("SWEEP.ENABLE=false", "SOLVER.NUM_EPOCHS=2", "RUNTIME.LOG_STEPS=0")
SHOWN = "REPORT.EPOCHS=[1, 3]"
# A package that writes down what it is told, and fails where the environment says so.
SERVICE = """
import json, os
lines = os.environ["TOLD"]
def tell(what, *more):
    if os.environ.get("FAILS_AT") == what:
        raise OSError("no route to host\\nand more on it")
    with open(lines, "a") as file:
        file.write(json.dumps([what, *more]) + "\\n")
class Image:
    def __init__(self, array):
        self.shape = array.shape
class Run:
    id = "abc"
    def log(self, values, step=None):
        tell("log" if step is not None else "scores", step, sorted(values))
tell("import")
def init(project, name, config, resume, **others):
    tell("init", name, config, resume)
    return Run()
def finish():
    tell("finish")
"""


@pytest.fixture
def trained(workshop, without_drawing):
    """`trained("SOLVER.MAX_LR=0.01")`: the paths of a tiny run that is trained to its end, taking over nothing."""

    def train(*changes: str) -> RunPaths:
        return run_stages(workshop.tiny(*CHANGES, *changes), "train", force=("train",))[0]

    return train


@pytest.fixture
def told(tmp_path, monkeypatch):
    """`told()`: what a package called trackio was told since the last call; it is first on Python's path."""
    folder, lines = tmp_path / "packages", tmp_path / "told.txt"
    folder.mkdir()
    (folder / "trackio.py").write_text(SERVICE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    monkeypatch.setenv("TOLD", str(lines))
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))  # which is set where it is not

    def read() -> list[list[Any]]:
        found = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
        lines.unlink(missing_ok=True)
        return found

    yield read
    sys.modules.pop("trackio", None)


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def scalars(paths: RunPaths) -> dict[str, list[tuple[int, float]]]:
    found = events(paths / EVENTS)
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def images(paths: RunPaths) -> dict[str, list[tuple[int, bytes]]]:
    found = events(paths / EVENTS)
    return {tag: [(one.step, one.encoded_image_string) for one in found.Images(tag)] for tag in found.Tags()["images"]}


def line_of_table(paths: RunPaths) -> tuple[dict[str, Any], dict[str, float]]:
    """Returns settings and scores in a run's `hparams/`."""
    from tensorboard.plugins.hparams import metadata

    (path,) = (paths / HPARAMS).iterdir()
    found = events(path.parent)
    content = found.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    settings = metadata.parse_session_start_info_plugin_data(content).hparams
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in settings.items()}, {
        tag: one.value for tag in found.Tags()["scalars"] for one in found.Scalars(tag)
    }


def table(runs: Path) -> list[tuple[str, dict[str, Any], dict[str, float]]]:
    """Returns TensorBoard's table of hyper-parameters of all runs in a folder, as its page asks for it."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(runs))
    multiplexer.Reload()
    context = backend_context.Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(runs))))
    every = RequestContext()
    experiment = get_experiment.Handler(every, context, "", api_pb2.GetExperimentRequest()).run()
    asked = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=[api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_RUNNING],
        col_params=[api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos],
        slice_size=100,
    )
    return [
        (
            group.sessions[0].name,
            {key: getattr(value, value.WhichOneof("kind")) for key, value in group.hparams.items()},
            {value.name.tag: value.value for value in group.metric_values},
        )
        for group in list_session_groups.Handler(every, context, "", asked).run().session_groups
    ]


def test_tensorboard_has_every_number_of_the_history_and_the_images_of_the_chosen_epochs(trained):
    paths = trained(SHOWN)
    history = pd.read_csv(paths / HISTORY)
    assert dict(scalars(paths)["loss/valid"]) == pytest.approx(dict(history[["epoch", "valid_loss"]].values))
    assert [step for step, _ in scalars(paths)["iou/Road/train"]] == [1, 2, 3]
    found = images(paths)
    wanted = {"image": [1], "label": [1], "prediction": [1, 3]}
    assert {tag: [step for step, _ in steps] for tag, steps in found.items()} == {
        f"scene_{number}/{what}": steps for number in (1, 2, 3) for what, steps in wanted.items()
    }
    import cv2

    for tag, steps in found.items():
        for epoch, encoded in steps:
            shown = cv2.cvtColor(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            assert (shown == kept_images(paths, epoch)[tag]).all()


def test_without_chosen_epochs_there_are_no_images(trained):
    paths = trained()
    assert images(paths) == {} and kept_images(paths, 1) == {} and len(scalars(paths)["lr"]) == 3


@pytest.mark.parametrize("count", [1, 9, 17, 30])
def test_a_run_that_was_stopped_anywhere_has_each_epoch_once(workshop, trained, told, count):
    changes = (*CHANGES, SHOWN, "SOLVER.SAVE_MINUTES=0")
    whole = trained(SHOWN, "SOLVER.SAVE_MINUTES=0", "RUNTIME.TRACKER=trackio")
    at_once = [line for line in told() if line[0] == "log"]
    loaded = dataclasses.replace(workshop.tiny(*changes, "RUNTIME.TRACKER=trackio"), run=f"stopped-{count}")
    prepared_like(whole, loaded.run)
    stage = run_of(loaded).stage("train")
    with pytest.raises(Stopped):
        stage.function(run_of(loaded, stop=StopAt(count)))
    stage.function(run_of(loaded))
    assert scalars(run_paths(loaded.run)) == scalars(whole) and images(run_paths(loaded.run)) == images(whole)
    lines = told()
    assert [line for line in lines if line[0] == "log"] == at_once
    assert [line[1] for line in at_once] == [0, 1, 2, 3]
    began = [line[3] for line in lines if line[0] == "init"]
    assert began[0] == "never" and set(began[1:]) <= {"allow"}


def prepared_like(paths: RunPaths, name: str) -> None:
    """Makes another run's folder with what the stages before `train` wrote."""
    folder = run_paths(name).folder
    folder.mkdir(parents=True)
    for path in paths.folder.iterdir():
        if path.suffix in (".csv", ".json") and path.name not in (HISTORY, "timings.csv", "steps.csv", TRACKER):
            (folder / path.name).write_bytes(path.read_bytes())


def test_a_service_that_is_named_later_or_was_out_of_reach_gets_the_epochs_that_it_lacks(workshop, trained, told):
    whole = trained("SOLVER.SAVE_MINUTES=0")
    loaded = dataclasses.replace(workshop.tiny(*CHANGES, "SOLVER.SAVE_MINUTES=0"), run="named-later")
    prepared_like(whole, loaded.run)
    with pytest.raises(Stopped):
        run_of(loaded).stage("train").function(run_of(loaded, stop=StopAt(20)))
    assert told() == []
    runtime = dataclasses.replace(loaded.config.runtime, tracker="trackio")
    later = dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, runtime=runtime))
    run_of(later).stage("train").function(run_of(later))
    assert [line[1] for line in told() if line[0] == "log"] == [0, 1, 2, 3]


def test_a_training_that_begins_anew_is_another_run_of_the_service(workshop, without_drawing, told):
    loaded = workshop.tiny(*CHANGES, "RUNTIME.TRACKER=trackio")
    run_stages(loaded, "train")
    run_stages(loaded, "train", force=("train",))
    lines = told()
    assert [line[3] for line in lines if line[0] == "init"] == ["never", "never"]
    assert [line[1] for line in lines if line[0] == "log"] == [0, 1, 2, 3] * 2


def test_the_table_of_tensorboard_has_a_line_per_run_with_settings_and_final_scores(workshop, without_drawing):
    base = workshop.tiny(*CHANGES, "REPORT.EPOCHS=[1]")
    first, _ = run_stages(base, "evaluate")
    second, lines = run_stages(workshop.tiny(*CHANGES, "REPORT.EPOCHS=[1]", "PREDICT.TTA=flip"), "evaluate")
    assert executed(lines) == ["evaluate"]  # the training is the first run's
    run_stages(base, "evaluate", force=("evaluate",))
    found = sorted(table(first.folder.parent), key=lambda line: line[1]["PREDICT.TTA"])
    assert [name for name, _, _ in found] == [f"{second.name}/hparams", f"{first.name}/hparams"]
    assert [settings["PREDICT.TTA"] for _, settings, _ in found] == ["flip", "none"]
    for (_, settings, scores), paths in zip(found, (second, first), strict=True):
        metrics = json.loads((paths / METRICS).read_text())
        assert scores["final/dice"] == pytest.approx(metrics["scores"]["dice"]["mean"])
        assert scores["final/valid_loss"] == pytest.approx(metrics["checkpoint"]["valid_loss"])
        assert scores["final/epoch"] == metrics["checkpoint"]["epoch"]
        assert settings["SOLVER.MAX_LR"] == 0.003 and isinstance(settings["EXPERIMENT.SEED"], float)
        assert len(settings) < 40 and not {key for key in settings if key.startswith(("RUNTIME", "REPORT"))}


def test_a_run_that_reuses_an_evaluation_has_its_line_too(workshop, without_drawing):
    first, _ = run_stages(workshop.tiny(*CHANGES), "evaluate")
    second, lines = run_stages(workshop.tiny(*CHANGES, "DECODE.SUPPRESS=fitted"), "evaluate")
    assert executed(lines) == [] and line_of_table(second) == line_of_table(first)


def test_what_is_logged_names_no_path_of_the_machine(tmp_path):
    weights = tmp_path / "secret" / "weights.safetensors"
    changes = (f"MODEL.ENCODER.WEIGHTS={weights}", f"DATASETS.TEST_DIRECTORY={tmp_path}", "SOLVER.MAX_LR=0.02")
    found = logged_values(load("ExpBAA", (f"DATASETS.DIRECTORY={tmp_path}", *changes)), ("MODEL", "SOLVER", "DATASETS"))
    assert found["MODEL.ENCODER.WEIGHTS"] == "weights.safetensors" and found["SOLVER.MAX_LR"] == 0.02
    assert "secret" not in str(found) and str(tmp_path) not in str(found)


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_missing_package_is_refused_before_anything_is_done(tmp_path, monkeypatch, name):
    monkeypatch.setattr("pipeline.training.tracking.find_spec", lambda package: None)
    loaded = tiny(write_competition(tmp_path / "data"), *CHANGES, f"RUNTIME.TRACKER={name}")
    with pytest.raises(UserError, match=rf"RUNTIME\.TRACKER is {name}.*\S+python\S* -m pip install {name}\n"):
        run_stages(loaded)
    assert not run_paths(loaded.run).folder.exists() or not list(run_paths(loaded.run).markers.glob("*.json"))


def test_an_unknown_tracker_is_refused():
    with pytest.raises(UserError, match=r"RUNTIME\.TRACKER"):
        load("demo", ("RUNTIME.TRACKER=wandbb",))


@pytest.mark.parametrize("place", ["import", "init", "log", "finish"])
def test_a_service_that_fails_is_reported_once_and_training_ends_with_the_same_bits(
    workshop, trained, told, monkeypatch, place
):
    plain = trained()
    wanted = {name: (plain / name).read_bytes() for name in (BEST, LAST, HISTORY)}
    monkeypatch.setenv("FAILS_AT", place)
    paths, lines = run_stages(workshop.tiny(*CHANGES, "RUNTIME.TRACKER=trackio"), "train", force=("train",))
    assert [line for line in lines if "trackio failed" in line] == [
        "warning: trackio failed (OSError: no route to host); this command goes on without it, its results are the same"
    ]
    assert paths.folder == plain.folder
    assert {name: (paths / name).read_bytes() for name in wanted} == wanted
    assert len(scalars(paths)["loss/valid"]) == 4


def test_a_tensorboard_that_fails_is_reported_once_and_training_ends(workshop, without_drawing):
    loaded = workshop.tiny(*CHANGES)
    (run_paths(loaded.run) / EVENTS).write_text("a file where the folder should be")
    paths, lines = run_stages(loaded, "train")
    assert [line[:28] for line in lines if "failed" in line] == ["warning: TensorBoard failed "]
    assert (paths / BEST).is_file()


def test_a_service_gets_settings_at_the_start_and_scores_once(workshop, without_drawing, told):
    loaded = workshop.tiny(*CHANGES, SHOWN, "RUNTIME.TRACKER=trackio")
    paths, lines = run_stages(loaded, "evaluate")
    found = told()
    assert [line[0] for line in found] == ["import", "init", *["log"] * 4, "finish", "init", "scores", "finish"]
    assert found[1][1:3] == [loaded.run, line_of_table(paths)[0]]
    assert [[name for name in line[2] if name.startswith("scene_1/")] for line in found[2:6]] == [
        [],
        ["scene_1/image", "scene_1/label", "scene_1/prediction"],
        [],
        ["scene_1/prediction"],
    ]
    assert set(line_of_table(paths)[1]) == set(found[8][2])
    assert len([line for line in lines if line.startswith("trackio")]) == 1
    run_stages(loaded, "evaluate", force=("evaluate",))
    assert told() == []  # the same scores


def test_the_tracker_makes_nothing_stale_and_is_in_no_folder_name(workshop, without_drawing, told):
    plain = workshop.tiny(*CHANGES)
    run_stages(plain, "evaluate")
    tracked = workshop.tiny(*CHANGES, "RUNTIME.TRACKER=trackio")
    assert tracked.run == plain.run
    assert executed(run_stages(tracked, "evaluate")[1]) == [] and told() == []


# The services themselves.


def wandb_records(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yields kind and content of the records that W&B has kept below a folder, oldest file first."""
    from wandb.proto.wandb_internal_pb2 import Record

    for path in sorted(folder.glob("offline-run-*/*.wandb")):
        data, position, content = path.read_bytes(), 7, b""
        while position + 7 <= len(data):  # a LevelDB log: blocks of 32 KiB, of parts with checksum, length, kind
            left = 32768 - position % 32768
            length, kind = struct.unpack("<HB", data[position + 4 : position + 7]) if left >= 7 else (0, 0)
            if kind == 0:
                position += left
                continue
            part, position = data[position + 7 : position + 7 + length], position + 7 + length
            content = part if kind in (1, 2) else content + part
            if kind in (1, 4):
                record = Record.FromString(content)
                yield record.WhichOneof("record_type"), getattr(record, record.WhichOneof("record_type"))


def values_of(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def read_wandb(folder: Path) -> tuple[set, dict, list, dict, dict]:
    """Returns ids, settings, (epoch, loss), images by epoch and scores that are kept below `tracked/`."""
    records = list(wandb_records(folder / "wandb"))
    runs = [content for kind, content in records if kind == "run"]
    rows = [values_of(content.item) for kind, content in records if kind == "history"]
    summary: dict[str, Any] = {}
    for kind, content in records:
        summary |= values_of(content.update) if kind == "summary" else {}
    shown = {row["_step"]: {key[:18] for key in row if key.startswith("scene_1/p")} for row in rows}
    losses = [(row["_step"], row["loss/valid"]) for row in rows]
    assert {run.project for run in runs} == {"demo"} and not {run.host for run in runs} - {"-", ""}
    return {run.run_id for run in runs}, values_of(runs[0].config.update), losses, shown, summary


def read_mlflow(folder: Path) -> tuple[set, dict, list, dict, dict]:
    from mlflow import MlflowClient

    place = f"sqlite:///{folder / 'mlflow.db'}" if find_spec("sqlalchemy") else (folder / "mlflow").as_uri()
    client = MlflowClient(place)
    (run,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    losses = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "loss/valid")]
    names = [path.name for path in (folder / "mlflow_files").rglob("scene_1~prediction*.png")]
    shown = {int(re.search(r"step\+(\d+)", name)[1]): {"scene_1/prediction"} for name in names}
    assert run.info.status == "FINISHED"
    return {run.info.run_id}, run.data.params, losses, shown, run.data.metrics


def read_trackio(folder: Path) -> tuple[set, dict, list, dict, dict]:
    with sqlite3.connect(folder / "trackio" / "demo.db") as database:
        rows = database.execute("SELECT run_id, step, metrics FROM metrics ORDER BY step, id").fetchall()
        (config,) = database.execute("SELECT config FROM configs").fetchone()
    contents = [(step, json.loads(text)) for _, step, text in rows]
    losses = [(step, content["loss/valid"]) for step, content in contents if "loss/valid" in content]
    shown = {step: {key for key in content if key == "scene_1/prediction"} for step, content in contents}
    return {run_id for run_id, _, _ in rows}, json.loads(config), losses, shown, contents[-1][1]


READERS = {"wandb": read_wandb, "mlflow": read_mlflow, "trackio": read_trackio}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("service", READERS)
def test_a_killed_and_resumed_run_is_one_run_of_the_service_on_this_machine(tmp_path, monkeypatch, service):
    if find_spec(service) is None:
        pytest.skip(f"needs the optional package {service}: pip install {service}")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # without a login
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # for this process, which reads it
    data = write_competition(tmp_path / "data")
    changes = (*CHANGES, "REPORT.EPOCHS=[1, 3]", f"RUNTIME.TRACKER={service}")
    paths = run_paths(tiny(data, *changes).run)
    command = [sys.executable, "-m", "pipeline", "demo", "evaluate", *overrides(data, *changes)]
    before = set(PROJECT.iterdir())
    first = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    while first.poll() is None and last_epoch(paths) < 1:
        time.sleep(0.02)
    time.sleep(0.3)  # for the calls behind the table of epochs
    os.kill(first.pid, signal.SIGKILL)
    output = first.communicate()[0]
    assert last_epoch(paths) in (1, 2) and (paths / TRACKER).is_file(), output
    second = subprocess.run(command, cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert second.returncode == 0 and "failed" not in second.stdout, second.stdout + second.stderr
    assert f"\n{service}: " in second.stdout and ("wandb login" in second.stdout) == (service == "wandb")
    history, metrics = pd.read_csv(paths / HISTORY), json.loads((paths / METRICS).read_text())
    ids, settings, losses, shown, scores = READERS[service](Folders.from_environment().runs / TRACKED)
    assert len(ids) == 1 and settings["MODEL.NAME"] == "Linknet"
    # What is told just before a kill may be lost, or be there; it is told again, so that nothing is missing.
    losses = sorted(set(losses))
    assert [epoch for epoch, _ in losses] == list(history["epoch"])
    assert dict(losses) == pytest.approx(dict(history[["epoch", "valid_loss"]].values))
    assert {epoch for epoch, found in shown.items() if found} == {1, 3} and (paths / SCENES).is_dir()
    assert scores["final/dice"] == pytest.approx(metrics["scores"]["dice"]["mean"])
    assert set(PROJECT.iterdir()) == before


def last_epoch(paths: RunPaths) -> int:
    """Returns the last epoch of `history.csv`, or -1."""
    return len((paths / HISTORY).read_text().splitlines()) - 2 if (paths / HISTORY).is_file() else -1
