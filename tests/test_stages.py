"""The table of stages tells the truth: what each depends on, and that it reads nothing else."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.load import ABOUT, Loaded, is_machine_key
from pipeline.config.tree import key_of
from pipeline.engine.chain import run_chain
from pipeline.engine.dependence import declared_keys, why_run
from pipeline.engine.folder import prepare_folder
from pipeline.engine.run import Run, Stage
from pipeline.errors import UserError
from pipeline.paths import PROJECT
from pipeline.stages import ENSEMBLE_STAGES, STAGE_NAMES, STAGES, stages_of
from pipeline.wording import is_below
from tests.tiny import draw_nothing, run_of, run_paths, run_stages, tiny, write_competition

ALL = ("prepare", "testset", "tile", "sweep", "train", "average", "evaluate", "fit", "predict", "submit", "report")
NOT_AVERAGED = [name for name in ALL if name != "average"]  # the stages without AVERAGE.METHOD
LEARN = ("sweep", "train", "report")
NETWORK = ("sweep", "train", "evaluate", "predict", "report")

# Key or group of keys -> the stages that depend on it by themselves. What depends on those in turn runs again only if
# their files come out different. The longest prefix counts.
DEPENDENTS = {
    "EXPERIMENT.PREFIX": ("report",),
    "EXPERIMENT.SUFFIX": ("report",),
    "EXPERIMENT.LOAD_PREV": LEARN,
    "EXPERIMENT.LOAD_PART": LEARN,
    "EXPERIMENT.SEED": ("tile", *LEARN),
    "MODEL.NAME": NETWORK,
    "MODEL.ABBR": ("report",),
    "MODEL.ENCODER.NAME": NETWORK,
    "MODEL.ENCODER.ABBR": ("report",),
    "MODEL.ENCODER.WEIGHTS": NETWORK,
    "MODEL.ENCODER.IMAGE_SIZE": NETWORK,
    "MODEL.ENCODER.ALLOW_REMOTE": (),
    "MODEL.OPTIONS": NETWORK,
    "MODEL.AUX_WEIGHT": NETWORK,
    "DATASETS.COMPETITION": ALL,
    "DATASETS.DIRECTORY": (),
    "DATASETS.TEST_DIRECTORY": ("testset", "report"),
    "DATASETS.SPLIT_INDEX": ("prepare", "tile", "sweep", "train", "evaluate", "report"),
    "DATASETS.SPLIT.BY": ("prepare", "sweep", "train", "evaluate", "report"),
    "DATASETS.SPLIT.FOLDS": ("prepare", "sweep", "train", "evaluate", "report"),
    "DATASETS.CLASSES": LEARN,
    "DATASETS.PADDING": ("tile", *NETWORK),
    "DATASETS.INPUT_SCALE": NETWORK,
    "DATASETS.SAMPLING": LEARN,
    "DATASETS.AUGMENTATION": ("tile", *LEARN),
    "DATASETS.AUGMENTATION.TILE.ENABLE": ("tile", *NETWORK),
    "DATASETS.AUGMENTATION.TILE.WIDTH": ("tile", *NETWORK),
    "DATASETS.AUGMENTATION.TILE.HEIGHT": ("tile", *NETWORK),
    "PSEUDO": ("report",),  # without a teacher; with one see `DEPENDENTS_OF_PSEUDO`
    "DATALOADERS.TRAIN": LEARN,
    "DATALOADERS.VALID": NETWORK,
    "LOSS_FN": LEARN,
    "SOLVER": LEARN,
    "SOLVER.MONITOR": ("sweep", "train", "evaluate", "report"),
    "SOLVER.PRECISION": NETWORK,
    "SOLVER.REPRODUCIBLE": NETWORK,
    "SWEEP": ("sweep", "report"),
    "AVERAGE": ("report",),  # with a METHOD also `average`, and `train` where it keeps epochs: see the test of its own
    "PREDICT": ("evaluate", "predict", "report"),
    "DECODE": ("fit", "submit", "report"),
    "ENSEMBLE": ("report",),
    "SUBMIT": ("submit", "report"),
    "REPORT": ("report",),
    "RUNTIME": (),
}


DEPENDENTS_OF_PSEUDO = {
    "PSEUDO.TEACHER": ["pseudo", "tile", "sweep", "train", "evaluate", "report"],
    "PSEUDO.IMAGES": ["pseudo", "tile", "report"],
    "PSEUDO.CONFIDENCE": ["pseudo", "report"],
    "PSEUDO.AGREEMENT": ["pseudo", "report"],
    "PSEUDO.LABELS": ["pseudo", "report"],
    "PSEUDO.MIN_LABELLED": ["pseudo", "report"],
    "PSEUDO.SHARE": ["sweep", "train", "report"],
    "DATASETS.TEST_DIRECTORY": ["testset", "report"],  # a hidden test set is not there to train on
}
FITTED = "DECODE.OFFSETS=fitted"
NAMES_OF_FILES = {"DATASETS.COMPETITION", "SOLVER.PLAN"}  # what is in the file counts, see the tests of their own


def dependents(key: str) -> list[str]:
    """Returns the stages that depend on a key, in order."""
    prefixes = [prefix for prefix in DEPENDENTS if f"{key}.".startswith(f"{prefix}.")]
    assert prefixes, f"say in DEPENDENTS which stages depend on the new key {key}"
    stages = () if is_machine_key(key) else DEPENDENTS[max(prefixes, key=len)]
    return [stage for stage in ALL if stage in stages]


def write_outputs(run: Run, stage) -> None:
    """Stands in for a stage: writes its files, always the same."""
    for name in stage.writes:
        path = run.paths / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "." in path.name:
            path.write_text(name)
        else:
            path.mkdir(exist_ok=True)
    for path in stage.writes_outside(run).values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("outside")


def stand_ins(loaded: Loaded):
    """Returns the stages of the table with functions that only write files."""

    def stand_in(stage):
        write = dataclasses.replace(stage, function=lambda run: write_outputs(run, stage))
        return dataclasses.replace(write, lacks=lambda run: False, check=lambda run: None)

    return tuple(map(stand_in, stages_of(loaded)))


def stale(loaded: Loaded) -> dict[str, str]:
    """Returns the stages that would run now, with the reasons."""
    run = run_of(loaded)
    reasons = {stage.name: why_run(stage, run) for stage in run.stages}
    return {name: reason for name, reason in reasons.items() if reason is not None}


@pytest.fixture(scope="module")
def competition(tmp_path_factory) -> Path:
    return write_competition(tmp_path_factory.mktemp("competition") / "data")


@pytest.fixture
def finished(competition) -> Loaded:
    """The tiny config, with a fitted decoding, and a run folder in which every stage is done, by stand-ins."""
    loaded = tiny(competition, FITTED)
    run_stages(loaded, stages=stand_ins(loaded))
    return loaded


def test_the_stages_have_this_order_and_each_its_file():
    assert (*ALL[:2], "pseudo", *ALL[2:]) == STAGE_NAMES
    for stage in STAGES:
        assert stage.function.target == f"pipeline.work.{stage.name}:{stage.name}"
    for stage in ENSEMBLE_STAGES:
        function = f"{stage.name}_ensemble" if stage.name in ("predict", "evaluate") else stage.name
        assert stage.function.target == f"pipeline.work.{stage.name}:{function}"


def test_every_function_that_the_table_names_exists():
    fields = ("function", "reads_outside", "writes_outside", "lacks", "check")
    functions = [getattr(stage, field) for stage in (*STAGES, *ENSEMBLE_STAGES) for field in fields]
    targets = {function.target for function in functions if hasattr(function, "target")}
    assert len(targets) > 20
    for module, _, name in (target.partition(":") for target in targets):
        tree = ast.parse((PROJECT / f"{module.replace('.', '/')}.py").read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{module}:{name}"


def test_every_stage_has_a_word_for_the_list():
    assert all(stage.done for stage in STAGES)
    assert {stage.name for stage in ENSEMBLE_STAGES} <= set(STAGE_NAMES)


def test_a_changed_key_makes_exactly_the_stages_stale_that_depend_on_it(finished):
    assert stale(finished) == {}
    for key in finished.values.keys() - NAMES_OF_FILES:
        # As if the config's file had been edited: an override would get a run folder of its own.
        found = stale(edited(finished, key))
        assert list(found) == dependents(key), key
        assert all(reason.startswith(f"{key} changed (") for reason in found.values())


@pytest.mark.parametrize(
    ("method", "key", "wanted"),
    [
        ("swa", "AVERAGE.METHOD", ["train", "average", "report"]),  # they decide which epochs training keeps
        ("best", "AVERAGE.COUNT", ["train", "average", "report"]),
        ("swa", "AVERAGE.SAMPLES", ["average", "report"]),
        ("swa", "PREDICT.TTA", ["evaluate", "predict", "report"]),
        ("swa", "SOLVER.MONITOR", ["sweep", "train", "average", "evaluate", "report"]),
        ("greedy", "AVERAGE.METHOD", ["average", "report"]),
        ("greedy", "AVERAGE.RUNS", ["average", "report"]),
    ],
)
def test_with_averaging_a_changed_key_also_counts_for_the_weights_that_are_kept(competition, method, key, wanted):
    runs = ("AVERAGE.RUNS=[Another]",) if method == "greedy" else ("AVERAGE.COUNT=2",)
    loaded = tiny(competition, f"AVERAGE.METHOD={method}", *runs)
    run_stages(loaded, stages=stand_ins(loaded))
    assert stale(loaded) == {}
    assert list(stale(dataclasses.replace(loaded, values={**loaded.values, key: "another value"}))) == wanted
    (run_paths(loaded.run) / "chosen.ckpt").write_text("another content")
    assert list(stale(loaded)) == ["average", "evaluate", "predict"]


def edited(loaded: Loaded, key: str) -> Loaded:
    return dataclasses.replace(loaded, values={**loaded.values, key: "another value"})


@pytest.fixture
def finished_student(competition) -> Loaded:
    """The tiny config with a teacher, and a run folder in which every stage is done, by stand-ins."""
    loaded = tiny(competition, "PSEUDO.TEACHER=DemoAAA", "PSEUDO.SHARE=0.5")
    checkpoint = run_paths("DemoAAA") / "best.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("weights")
    run_stages(loaded, stages=stand_ins(loaded))
    return loaded


def test_with_a_teacher_there_is_a_stage_more_and_its_keys_count(finished_student):
    assert stale(finished_student) == {}
    assert {key for key in finished_student.values if key.startswith("PSEUDO.")} <= DEPENDENTS_OF_PSEUDO.keys()
    for key, wanted in DEPENDENTS_OF_PSEUDO.items():
        assert list(stale(edited(finished_student, key))) == wanted, key


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("pseudo_labels.csv", ["pseudo", "tile", "sweep", "train", "report"]),
        ("pseudo_labels.json", ["pseudo", "submit", "report"]),
        ("pseudo_leakage.csv", ["pseudo", "evaluate", "report"]),
        ("split.csv", ["prepare", "pseudo", "tile", "sweep", "train", "evaluate", "report"]),
    ],
)
def test_a_changed_file_of_pseudo_labels_makes_its_readers_stale(finished_student, name, wanted):
    (run_paths(finished_student.run) / name).write_text("another content")
    assert list(stale(finished_student)) == wanted


def test_another_teacher_labels_anew_and_one_that_is_gone_does_not(finished_student):
    checkpoint = run_paths("DemoAAA") / "best.ckpt"
    checkpoint.write_text("other weights")
    assert stale(finished_student) == {"pseudo": "DemoAAA's checkpoint changed"}
    checkpoint.unlink()
    assert stale(finished_student) == {}


def test_a_changed_plan_file_counts_by_its_content(finished):
    longer = dataclasses.replace(finished.plan[0], warmup=1.0)
    edited = dataclasses.replace(finished, plan=(longer, *finished.plan[1:]))
    assert list(stale(edited)) == list(LEARN)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"title": "Another", "kaggle_slug": "another", "licence": "another"}, ["report"]),
        ({"ignore_index": 11}, NOT_AVERAGED),
        ({"mask_size": "any"}, NOT_AVERAGED),
        ({"task": "detection"}, NOT_AVERAGED),
        ({"score": "miou"}, ["prepare", "testset", "evaluate", "fit", "submit", "report"]),
    ],
)
def test_of_a_competitions_description_only_that_counts_which_a_stage_goes_by(finished, changes, wanted):
    competition = dataclasses.replace(finished.competition, **changes)
    assert list(stale(dataclasses.replace(finished, competition=competition))) == wanted


def test_another_way_to_write_the_submission_trains_no_network_anew(finished):
    convention = dataclasses.replace(finished.competition.convention, empty="-1")
    found = stale(
        dataclasses.replace(finished, competition=dataclasses.replace(finished.competition, convention=convention))
    )
    wanted = ("prepare", "testset", "submit", "report")
    assert found == dict.fromkeys(wanted, 'COMPETITION.CONVENTION.EMPTY changed ("" -> "-1")')


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("lr_sweep.json", ["sweep", "report"]),
        ("split.csv", ["prepare", "tile", "sweep", "train", "evaluate", "fit", "report"]),
        ("catalog_train.csv", ["prepare", "tile", "sweep", "train", "evaluate", "fit", "report"]),
        ("decode.json", ["fit", "submit", "report"]),
        ("catalog_test.csv", ["testset", "predict", "submit", "report"]),
    ],
)
def test_a_changed_file_makes_its_writer_and_its_readers_stale(finished, name, wanted):
    (run_paths(finished.run) / name).write_text("another content")
    assert list(stale(finished)) == wanted


def test_the_sweeps_suggestion_counts_for_training_only_where_it_is_taken(competition):
    loaded = tiny(competition, "SOLVER.MAX_LR=auto")
    paths, _ = run_stages(loaded, stages=stand_ins(loaded))
    (paths / "lr_sweep.json").write_text("another suggestion")
    assert list(stale(loaded)) == ["sweep", "train", "report"]


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        # Training and test images share a folder, so that an unlisted file is noticed.
        ("imgs/imgs/000001_001.jpg", ["prepare", "testset", "tile", "evaluate", "fit"]),
        ("masks/masks/000001_001.png", ["prepare", "tile", "evaluate", "fit"]),
        ("imgs/imgs/000004_001.jpg", ["prepare", "testset", "predict"]),
        ("train.csv", ["prepare", "testset"]),
        ("test.csv", ["testset"]),
        ("sample_submission.csv", ["testset", "submit"]),
    ],
)
def test_a_changed_pixel_makes_exactly_the_stages_stale_that_see_it(tmp_path, file, wanted):
    loaded = tiny(write_competition(tmp_path / "data"), FITTED)
    run_stages(loaded, "testset")
    run_stages(loaded, stages=stand_ins(loaded)[2:])
    assert stale(loaded) == {}
    path = tmp_path / "data" / file
    path.write_bytes(path.read_bytes() + b"\n")
    assert list(stale(loaded)) == wanted


def test_changed_weights_train_again_and_absent_ones_do_not(competition, tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    weights = tmp_path / "tu-lcnet_035-imagenet.safetensors"
    weights.write_bytes(b"weights")
    loaded = tiny(competition, "MODEL.ENCODER.WEIGHTS=imagenet")
    run_stages(loaded, stages=stand_ins(loaded))
    weights.write_bytes(b"other weights")
    assert stale(loaded) == dict.fromkeys(("sweep", "train"), "the encoder's weights changed")
    weights.unlink()
    assert stale(loaded) == {}


# By these folders and files are found, wherever they lie, and the catalog names what was found; with members a config
# has the other table of stages.
FINDING = {"ABOUT.NAME", "COMPETITION.TRAIN_CSV", "COMPETITION.IMAGES", "DATASETS.TEST_DIRECTORY", "ENSEMBLE.MEMBERS"}
FINDING |= {"PSEUDO.TEACHER", "AVERAGE.METHOD"}  # likewise; where there is one, it is declared


# It adds columns to the history: a competition's score that is set later trains nothing anew. Images of chosen epochs
# are added beside it. The line in TensorBoard's table has the seed, which decides the weights, and the
# settings of the stages so far; which stages a run has is asked for that.
ADDING = {"sweep": {"COMPETITION.SCORE"}, "train": {"COMPETITION.SCORE", "COMPETITION.COLORS", "REPORT.EPOCHS"}}
# DATASETS.COMPETITION for the page alone: whether the images were trained on by the weights that it started from.
LISTING = {"SWEEP.ENABLE", "COMPETITION.TEST_CSV", "SUBMIT.TIME_LIMIT_HOURS"}
LISTING |= {f"DECODE.{name}" for name in ("SUPPRESS", "OFFSETS", "OBJECTS", "COMPONENTS")}
ADDING |= {"evaluate": {"EXPERIMENT.SEED", "DATASETS.COMPETITION", *LISTING}}

# It refuses images that the network takes no samples of before they are stored; the store is the same for all networks.
REFUSING = {"tile": ("MODEL", "DATASETS.INPUT_SCALE")}


class Watched:
    """A config section that notes which keys are read from it."""

    def __init__(self, section: Any, path: str, seen: set[str]) -> None:
        self._section, self._path, self._seen = section, path, seen

    def __getattr__(self, name: str) -> Any:
        own = getattr(type(self._section), name, None)
        if isinstance(own, property):  # what is worked out from keys reads those keys
            return own.fget(self)
        value, key = getattr(self._section, name), self._path + key_of(name)
        if self._path == "COMPETITION." and name.upper() in ABOUT:
            key = f"ABOUT.{name.upper()}"
        if dataclasses.is_dataclass(value):
            return Watched(value, key + ".", self._seen)
        self._seen.add(key)
        return value


class WatchedLoaded:
    """A resolved config that notes which keys are read, of the competition's description too; a plan by its name."""

    def __init__(self, loaded: Loaded, seen: set[str]) -> None:
        self._loaded, self._seen = loaded, seen

    def __getattr__(self, name: str) -> Any:
        if name == "config":
            return Watched(self._loaded.config, "", self._seen)
        if name == "competition":
            return Watched(self._loaded.competition, "COMPETITION.", self._seen)
        if name == "plan":
            self._seen.add("SOLVER.PLAN")
        return getattr(self._loaded, name)


def undeclared_keys(stage: Stage, run: Run, seen: set[str]) -> set[str]:
    """Carries a stage out; returns the keys that it read without declaring them."""
    seen.clear()
    stage.reads_outside(run)
    stage.function(run)
    wanted = {key for key in seen - FINDING if not is_machine_key(key)} - ADDING.get(stage.name, set())
    declared = (*declared_keys(stage, run), *REFUSING.get(stage.name, ()))
    return {key for key in wanted if not is_below(key, declared)}


def test_a_stage_reads_no_key_that_it_does_not_declare(competition, monkeypatch):
    draw_nothing(monkeypatch)
    changes = (
        "PREDICT.MODE=window",
        "PREDICT.WINDOW=[32,32]",
        "PREDICT.TTA=flip",
        "DECODE.SUPPRESS=fitted",
        "DECODE.OFFSETS=fitted",
        "DECODE.COMPONENTS=fitted",
        "DATASETS.INPUT_SCALE=1.5",
        "PREDICT.SCALES=[1.0, 1.5]",
        "LOSS_FN.WEIGHTS=log",
        "SOLVER.MONITOR=valid_boundary_f",  # which has numbers of its own
        "AVERAGE.METHOD=swa",
        "AVERAGE.COUNT=2",
    )
    loaded = tiny(competition, *changes)
    prepare_folder(run_of(loaded))
    seen: set[str] = set()
    run = dataclasses.replace(run_of(loaded), loaded=WatchedLoaded(loaded, seen), key="key")
    undeclared = {stage.name: undeclared_keys(stage, run, seen) for stage in stages_of(loaded)}
    assert not any(undeclared.values()), undeclared


@pytest.mark.parametrize(
    ("file", "change", "when", "look_every_s"),
    [
        ("imgs/imgs/000001_001.jpg", "replace", "prepare   done", -1.0),
        ("masks/masks/000001_001.png", "truncate", "train     carry", 1000.0),
        ("imgs/imgs/000004_001.jpg", "replace", "predict   predict", -1.0),
    ],
)
def test_a_file_that_changes_while_stages_run_ends_the_command(tmp_path, monkeypatch, file, change, when, look_every_s):
    monkeypatch.setattr("pipeline.engine.chain.LOOK_EVERY_S", look_every_s)
    monkeypatch.setattr("pipeline.engine.freshness.SETTLED_NS", -1)  # the files of the test are new, those of users old
    loaded = tiny(write_competition(tmp_path / "data"), FITTED)
    path, lines = tmp_path / "data" / file, []

    def log(line: str) -> None:
        if line.startswith(when) and not any(one.startswith(when) for one in lines):
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content + b"\n" if change == "replace" else content[:-9])
        lines.append(line)

    with pytest.raises(
        UserError, match=rf"changed while the stages ran \(.*{re.escape(path.name)}.*\).*type the same command"
    ):
        run_chain(run_of(loaded, log), "report", stages=(*stages_of(loaded)[:2], *stand_ins(loaded)[2:]))
    assert ("report    done" in "".join(lines)) == (look_every_s > 0), "it is noticed at once, or at the end"
    assert "prepare" in stale(loaded) or "testset" in stale(loaded), "the next command begins there"


@pytest.mark.parametrize("change", ["a new image", "a hidden file", "a mask less"])
def test_files_that_come_or_go_while_stages_run_are_warned_of_once(tmp_path, monkeypatch, change):
    monkeypatch.setattr("pipeline.engine.chain.LOOK_EVERY_S", -1.0)
    loaded, lines = tiny(write_competition(tmp_path / "data"), FITTED), []
    images, masks = tmp_path / "data" / "imgs" / "imgs", tmp_path / "data" / "masks" / "masks"

    def log(line: str) -> None:
        if line.startswith("train     carry"):
            if change == "a new image":
                (images / "000009_001.jpg").write_bytes((images / "000001_001.jpg").read_bytes())
            elif change == "a hidden file":
                (masks / ".DS_Store").write_bytes(b"Bud1")
            else:
                (masks / "000002_001.png").unlink()
        lines.append(line)

    run_chain(run_of(loaded, log), "report", stages=(*stages_of(loaded)[:2], *stand_ins(loaded)[2:]))
    warnings = [line for line in lines if line.startswith("warning: some of the competition's files were added")]
    assert len(warnings) == 1 and "report    done" in "".join(lines)
    assert not (run_of(loaded).paths / "refused.json").exists()
