"""The name and the folder of every artefact. No other file spells a file name of a run.

The environment is read once, by `Folders.from_environment`; everything below the command line is handed a `Folders`.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError

PROJECT = Path(__file__).resolve().parent.parent
CONFIGS = PROJECT / "configs"
KAGGLE = Path("/kaggle")  # a notebook's `input`, mounted read-only, and `working`, which is kept
DEMO = "demo"  # the competition that the project draws itself
DEMO_FOLDER = PROJECT / "data" / DEMO
DEMO_BOXES = "demo_boxes"  # the same images with boxes
DEMOS = {DEMO: "masks", DEMO_BOXES: "boxes"}  # the labels of each competition that is drawn

# Below a run's folder, in the order in which the stages write them.
CONFIG = "config.yaml"
MARKERS = ".stages"
TRAIN_CATALOG = "catalog_train.csv"
TEST_CATALOG = "catalog_test.csv"
LABELS = "labels.json"
IMAGES = "images.json"
CLASSES = "classes.csv"
SPLIT = "split.csv"
LEAKAGE = "leakage.csv"
SIGNATURES = "signatures.npz"  # what images are compared by, to show the nearest of an image
TILES = "tiles.json"
VALID_STORE = "valid_store.json"  # with STORES_URL: the store that has the validation images
PSEUDO_LABELS = "pseudo_labels"
PSEUDO_TABLE = "pseudo_labels.csv"
PSEUDO_FACTS = "pseudo_labels.json"
PSEUDO_LEAKAGE = "pseudo_leakage.csv"
SWEEP_TABLE = "lr_sweep.csv"
SWEEP_FACTS = "lr_sweep.json"
SWEEP_PLOT = "lr_sweep.png"
LAST = "last.ckpt"
BEST = "best.ckpt"
CHECKPOINTS = "*.ckpt"
CANDIDATES = "candidates"  # the weights of epochs that may be averaged
CHOSEN = "chosen.ckpt"  # what a run with AVERAGE predicts with: their mean, or the best epoch
AVERAGE = "average.json"
HISTORY = "history.csv"
TIMINGS = "timings.csv"
STEPS = "steps.csv"
PLAN_CHANGES = "plan_changes.csv"
CLOCK = "clock.json"  # how long sessions have worked on a run that has to finish in time
MEMORY = "memory.json"  # into how many parts a batch is cut, as memory ran out
PLAN_FILE = "plan.yaml"  # the plan that such a run has carried out
EVENTS = "events"
NOT_FINITE = "not_finite.json"
REPLACED = "replaced"
METRICS = "metrics.json"
PER_IMAGE = "per_image.csv"
CONFUSION = "confusion.csv"
DIAGNOSIS = "diagnosis.json"  # sums over validation images: calibration, errors by size and distance
BOX_FACTS = "boxes.json"  # of detections: precision by recall, kinds of errors
ANCHORS = "anchors.json"  # how well RetinaNet's anchors fit the labelled boxes
SUSPICIOUS = "suspicious.csv"  # regions where a sure prediction and the mask differ
CROPS = "suspicious"  # the first of them as images
GALLERY = "gallery"  # all validation images, for the page
GALLERY_LIST = f"{GALLERY}/list.csv"
MEMBERS = "members.json"
STORES = "stores.json"
ENSEMBLE = "ensemble.json"
STREAM = "stream"
WITHOUT_TTA = "without_tta"  # in a folder of it: images are predicted without test-time augmentation from now on
DECODE = "decode.json"
SCENES = "scenes"  # the same validation images at chosen epochs
SCENE_LIST = f"{SCENES}/list.json"
PROVENANCE = "provenance"  # with what versions and on what machine a stage ran; a file per stage
HPARAMS = "hparams"  # settings and final scores, for TensorBoard
HPARAMS_EVENTS = f"{HPARAMS}/events.out.tfevents.hparams"
TRACKER = "tracker.json"  # what RUNTIME.TRACKER calls this run, and the last epoch that it has
SUBMISSION = "submission.json"
REFUSAL = "refused.json"
REPORT = "report.html"
EXPORT = "exported"  # the network for other programs
PLOTS = "plots"
PANELS = "panels"
SAMPLES_PLOT = f"{PLOTS}/samples.png"
ANCHORS_PLOT = f"{PLOTS}/anchors.png"
PSEUDO_PLOT = f"{PLOTS}/pseudo_labels.png"
PLAN_PLOT = f"{PLOTS}/plan.png"
TILE_PLOTS = f"{PLOTS}/tile_grid_*.png"
CLASS_PLOTS = f"{PLOTS}/class_*.png"
VALID_PROBS = "probs/valid"
TEST_PROBS = "probs/test"
PROBS = {"valid": VALID_PROBS, "test": TEST_PROBS}
# Inside a store of tiles or of predictions.
INDEX = "index.json"
CHUNKS = "chunks.json"  # of a tile store that is elsewhere: checksums of its parts
ORIGIN = "origin.json"  # of one that is fetched as it is read: from where
# In the folder of all runs.
BOARD = "index.html"
NOTEBOOKS = "notebooks"  # a folder for each notebook, to be pushed with Kaggle's client
BUNDLED = ".bundle"  # how the folder of a run ends that has only what predicting needs
BUNDLE = "bundle.json"  # what such a folder holds
STUDIES = "study_tables"
TRIALS = "_trials"  # how the files of a search end there
TRACKED = "tracked"  # what RUNTIME.TRACKER keeps on this machine
COMPARED_SCORES, COMPARED_CURVES = "compared/scores.png", "compared/curves.png"
# In the folder of submissions.
LOG = "log.csv"


@dataclass(frozen=True)
class Folders:
    """Where runs, submissions, large temporary files, data and weights are.

    Attributes:
        runs: the folder of all runs.
        submissions: the folder of the uploads.
        scratch: large files that can be made again, such as tile stores.
        data: folders in which a competition's folder is looked for by name, in order.
        weights: folders in which `<encoder>-imagenet.safetensors` is looked for, in order.
        stores: where tile stores are uploaded to and read from, an address for fsspec; None: nowhere.
        stores_cache_gib: how much of each such store may be on this disk; None: all of it.
    """

    runs: Path
    submissions: Path
    scratch: Path
    data: tuple[Path, ...]
    weights: tuple[Path, ...]
    stores: str | None = None
    stores_cache_gib: float | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Folders:
        """Returns the folders that RUNS_DIR, SUBMISSIONS_DIR, SCRATCH_DIR, DATA_DIR, WEIGHTS_DIR and STORES_URL name.

        Unset: `runs/`, `submissions/` and `data/` in the project, and /kaggle/input. /kaggle/working keeps 20 GB, of
        which the tile store of one competition takes most; there large temporary files go to /tmp. Its data sets are
        /kaggle/input/NAME or, since 2026, /kaggle/input/datasets/OWNER/NAME.

        Raises:
            UserError: STORES_CACHE_GIB is no positive number.
        """
        environment = os.environ if environment is None else environment

        def named(variable: str) -> Path | None:
            return Path(environment[variable]) if environment.get(variable) else None

        runs = named("RUNS_DIR") or PROJECT / "runs"
        is_kept = KAGGLE / "working" in runs.resolve().parents
        inputs = KAGGLE / "input"
        mounted = sorted(path for pattern in ("*", "datasets/*/*") for path in inputs.glob(pattern) if path.is_dir())
        owners = sorted(path for path in inputs.glob("datasets/*") if path.is_dir())
        data, weights = named("DATA_DIR"), named("WEIGHTS_DIR")
        return cls(
            runs=runs,
            submissions=named("SUBMISSIONS_DIR") or PROJECT / "submissions",
            scratch=named("SCRATCH_DIR") or (Path("/tmp/scratch") if is_kept else runs / "shared"),
            data=(*([data] if data else []), PROJECT / "data", inputs, *owners),
            weights=(*([weights] if weights else []), PROJECT / "data" / "weights", *mounted),
            stores=environment.get("STORES_URL") or None,
            stores_cache_gib=_positive(environment, "STORES_CACHE_GIB"),
        )

    def absolute(self) -> Folders:
        """Returns the same folders for processes that work in another one."""
        one = {name: getattr(self, name).absolute() for name in ("runs", "submissions", "scratch")}
        many = {name: tuple(path.absolute() for path in getattr(self, name)) for name in ("data", "weights")}
        is_path = self.stores is not None and "://" not in self.stores
        stores = os.path.abspath(self.stores) if is_path else self.stores
        return Folders(**one, **many, stores=stores, stores_cache_gib=self.stores_cache_gib)

    @property
    def tiles(self) -> Path:
        """The folder of all tile stores."""
        return self.scratch / "tiles"

    def run(self, name: str) -> RunPaths:
        """Returns the paths of a run by its folder's name."""
        return RunPaths(self.runs / name, self.submissions)


@dataclass(frozen=True)
class RunPaths:
    """Every file of one run.

    Attributes:
        folder: `runs/<name>`.
        submissions: the folder of the uploads.
    """

    folder: Path
    submissions: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def markers(self) -> Path:
        return self.folder / MARKERS

    def marker(self, stage: str) -> Path:
        """Returns the file that says that a stage is finished."""
        return self.markers / f"{stage}.json"

    def started(self, stage: str) -> Path:
        """Returns the file that holds what a stage was started with, until it is finished."""
        return self.markers / f"{stage}.begun.json"

    def submission(self, suffix: str) -> Path:
        """Returns the file to upload; the suffix is that of its format."""
        return self.submissions / f"{self.name}{suffix}"

    def __truediv__(self, name: str) -> Path:
        """Returns a file of the run: `paths / SPLIT`."""
        return self.folder / name


def _positive(environment: Mapping[str, str], variable: str) -> float | None:
    """Returns the number that a variable has; None where it is unset."""
    text = environment.get(variable)
    if not text:
        return None
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise UserError(f"{variable} is {text!r}; expected a number above 0, such as 50")


def scene_file(number: int, moment: str) -> str:
    """Returns the file of scene `number` at a moment: `image`, `label`, `epoch_20`, `best`.

    >>> scene_file(1, "epoch_20"), scene_scores("best")
    ('scenes/1_epoch_20.webp', 'scenes/best.json')
    """
    return f"{SCENES}/{number}_{moment}.webp"


def scene_scores(moment: str) -> str:
    """Returns the file with the scores of all scenes at a moment, which is written last."""
    return f"{SCENES}/{moment}.json"


def gallery_file(number: int, is_thumb: bool = False) -> str:
    """Returns the file of a validation image in the gallery.

    >>> gallery_file(7), gallery_file(7, is_thumb=True)
    ('gallery/00007.webp', 'gallery/00007_thumb.webp')
    """
    return f"{GALLERY}/{number:05d}{'_thumb' if is_thumb else ''}.webp"


def crop_file(rank: int) -> str:
    """Returns the file of a suspicious region.

    >>> crop_file(1)
    'suspicious/001.webp'
    """
    return f"{CROPS}/{rank:03d}.webp"


def previous_of(path: Path) -> Path:
    """Returns where the checkpoint before `path` is kept.

    >>> previous_of(Path("last.ckpt")).name
    'previous-last.ckpt'
    """
    return path.with_name(f"previous-{path.name}")


def is_on_kaggle(runs: Path) -> bool:
    """Returns whether the runs are where a Kaggle notebook keeps its output."""
    return KAGGLE / "working" in (runs.resolve(), *runs.resolve().parents)


def provenance_file(stage: str) -> str:
    """Returns the file that says how a stage was carried out.

    >>> provenance_file("train")
    'provenance/train.json'
    """
    return f"{PROVENANCE}/{stage}.json"


def search_file(study: str, key: str, suffix: str) -> str:
    """Returns a file of a study that searches, in the folder of all runs; `key` is a hash of what it searches.

    >>> search_file("demo_search", "1a2b3c4d", ".csv")
    'study_tables/demo_search_1a2b3c4d_trials.csv'
    """
    return f"{STUDIES}/{study}_{key}{TRIALS}{suffix}"


def compared_page(names: Sequence[str]) -> str:
    """Returns the page of several runs, in the folder of all runs.

    >>> compared_page(["ExpC01", "ExpC02", "ExpC03"])
    'compared/ExpC01_and_2_more.html'
    """
    return f"compared/{names[0]}_and_{len(names) - 1}_more.html"


def runs_table(competition: str, is_chosen: bool, suffix: str) -> str:
    """Returns a file of the table of a competition's runs, all or some of them, in the folder of all runs.

    >>> runs_table("camvid", False, ".csv"), runs_table("camvid", True, ".html")
    ('tables/camvid.csv', 'tables/camvid_chosen.html')
    """
    return f"tables/{competition}{'_chosen' if is_chosen else ''}{suffix}"


def descriptor(name: str) -> str:
    """Returns how messages call the file that describes a competition."""
    return f"configs/competitions/{name}.yaml"


def shown(path: Path) -> str:
    """Returns a path for messages: relative to the current folder where that is shorter."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("../..") else str(path)
