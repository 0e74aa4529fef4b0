"""A task is a record of functions: everything that differs between kinds of labels.

Plans, sweep, trainer, checkpoints, split, leakage, stores, reuse, report and submission never ask which task they
serve. They call the functions of `run.task` and pass on what these return. To add a task, write a folder with a record
of its own and add a row to the table of tasks in `stages.py`.

Letters: B images of a batch, N rows of a catalog, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd
    import torch
    from torch import Tensor, nn

    from pipeline.config.competition import Competition
    from pipeline.config.load import Loaded
    from pipeline.engine.run import Run


class Part(NamedTuple):
    """A window of an image that is too large to be predicted as a whole.

    Attributes:
        image_size: (height, width) of the image.
        window: where it is in the image: top, left, height, width.
        core: which pixels of the image are taken from it: top, left, height, width. The cores of an image cover it
            without overlapping; around a core the window shows its surroundings.
    """

    image_size: tuple[int, int]
    window: tuple[int, int, int, int]
    core: tuple[int, int, int, int]

    @property
    def share(self) -> float:
        """What the core is of the image's pixels."""
        return self.core[2] * self.core[3] / (self.image_size[0] * self.image_size[1])


class Frame(NamedTuple):
    """Where a validation or test image is in its padded frame: `offset` (top, left), `size` (height, width).

    With a `part`, the frame shows that window of the image instead of all of it.
    """

    id: str
    offset: tuple[int, int]
    size: tuple[int, int]
    part: Part | None = None


class Batch(NamedTuple):
    """What a loader yields.

    Attributes:
        images: uint8 (B, H, W, 3), RGB.
        labels: whatever the task trains on; None for test images.
        keys: one per image: a `SampleKey` in training, a `Frame` in validation and prediction. A batch that has windows
            has windows of one image only.
    """

    images: Tensor
    labels: Any
    keys: list[Any]

    @property
    def windows_of(self) -> str | None:
        """The id of the image of which the batch has windows; None where each item is an image of its own."""
        return next((key.id for key in self.keys if isinstance(key, Frame) and key.part), None)

    @property
    def num_images(self) -> float:
        """How many images the batch has; a window is its core's share of an image."""
        return len(self.images) if self.windows_of is None else sum(key.part.share for key in self.keys)


class Loss(NamedTuple):
    """The loss of a batch.

    Attributes:
        total: a scalar.
        terms: each term of the mix by name, unweighted and detached.
        count: the divisor of sums over the batch of all ranks, if not the number of samples: a scalar; 0: it was 1.
    """

    total: Tensor
    terms: dict[str, Tensor]
    count: Tensor | None = None


@dataclass(frozen=True)
class Score:
    """One score of a validation: its mean, None where undefined, and one value per class, NaN where undefined."""

    mean: float | None
    classes: list[float]


@dataclass(frozen=True)
class Scores:
    """The scores of a validation or of an epoch's samples.

    Attributes:
        by_name: e.g. {"dice": Score(...), "miou": Score(...)}; their labels are in `pipeline/scores.py`.
        class_scores: per class, what adaptive class weights and weighted copy-paste work from.
        has_hit: per class, whether anything of it was found, or there was nothing to find.
    """

    by_name: dict[str, Score]
    class_scores: list[float]
    has_hit: list[bool]


@dataclass(frozen=True)
class Evaluation:
    """The scores of a run's validation images.

    Attributes:
        metrics: `images`, `score`, `scores`, `scored` and `majority` of metrics.json.
        per_image: a row per image: id, sequence, each score that an image has, then these by class.
        tables: further tables by file name.
        decoded: the decoded prediction of an image by its id, to be drawn.
        facts: further JSON files by file name, for the report alone.
        notes: further tables by file name, for the report alone.
    """

    metrics: dict[str, Any]
    per_image: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    decoded: Callable[[str], Any]
    facts: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, pd.DataFrame] = field(default_factory=dict)


# How stages hand predictions to a task. `Make` turns an image's id and the predictions of its members, in their order,
# into small arrays. `MakeEach` takes the name of a pass, unique in its stage, and a `Make`; it returns a function from
# an image's id to these arrays, which come from stores, or from the networks where ENSEMBLE.STREAM is on.
Arrays = dict[str, Any]
Make = Callable[[str, Sequence[Any]], Arrays]
MakeEach = Callable[[str, Make], Callable[[str], Arrays]]
HeldOut = Mapping[str, Sequence[int]]  # numbers of the members that were not trained on an image, by its id


class Labels(Protocol):
    """The labels of a competition's images. A row is one of the training catalog.

    Attributes:
        problems: what is wrong before any image is looked at.
        notices: what is unusual, a sentence each, once all labels were inspected.
        planes: values per pixel of a label, (H, W, planes); None: one, (H, W); 0: a label is no pixels, see `values`.
    """

    problems: Sequence[Any]
    notices: Iterable[str]
    planes: int | None

    def cell(self, image_id: str) -> str:
        """Returns what the catalog keeps: the files of an image's label, joined; "" where it has none."""

    def inspect(self, image_id: str, cell: str, image: Any) -> Any:
        """Returns the `Inspection` of the label of an image, whose own is `image`."""

    def read(self, row: Any) -> Any:
        """Returns the label of a row."""

    def values(self, row: Any) -> Any:
        """Returns the label of a row as plain values, as a tile store keeps it where `planes` is 0."""

    def content(self, row: Any) -> str:
        """Returns a hash of all that the label of a row is read from."""


Criterion = Callable[[Any, Any], Loss]  # outputs of the network and labels of the same batch


@dataclass(frozen=True)
class Learning:
    """What training and validation need of a task, for the classes and settings of one run on one device.

    Attributes:
        classes: their names.
        scored: indices of the classes that enter means and monitor.
        class_label: what `Scores.class_scores` are, for people.
        split_labels: (labels, n) to n parts of a batch's labels.
        to_device: (labels) to the labels on the device.
        join_outputs: (outputs of parts of a batch) to those of the whole.
        criterion: (mix, finished epochs, class scores) to the loss of the next epoch. Without finished epochs and class
            scores it is the fixed loss by which every epoch is validated.
        num_sums: the length of what `sample_sums` returns.
        sample_sums: (outputs, labels) to a float64 vector of sums over samples, on the device.
        sample_scores: (vector of means over samples) to `Scores`.
        scorer: () to what collects one validation: `add(outputs, labels)` takes a batch on the device, with the image's
            id as a third argument where the batch has windows of it; `scores()` returns the `Scores` of everything that
            was added. `collected()` returns what was added as values on the CPU, and `take` adds that to another one's.
        whole: (network in evaluation mode, images) to the outputs for whole images, such as are validated.
    """

    classes: tuple[str, ...]
    scored: tuple[int, ...]
    class_label: str
    split_labels: Callable[[Any, int], Sequence[Any]]
    to_device: Callable[[Any], Any]
    join_outputs: Callable[[Sequence[Any]], Any]
    criterion: Callable[[str, int, Sequence[float]], Criterion]
    num_sums: int
    sample_sums: Callable[[Any, Any], Tensor]
    sample_scores: Callable[[Sequence[float]], Scores]
    scorer: Callable[[], Any]
    whole: Callable[[nn.Module, Tensor], Any] = field(default=lambda network, images: network(images))


@dataclass(frozen=True)
class Task:
    """The functions of one task, by what each is given and returns; None for pseudo-labels that are not supported.

    Attributes:
        discover: (unknown folder, competition's name) to its `Description`; raises `NothingFound` without such labels.
        find_labels: (competition, folder) to plain values: what has to be found in the files of how labels are stored.
        describe_labels: (competition, these values) to what was found, a sentence each.
        open_labels: (competition, folder, these values) to its `Labels`.
        label_columns: (competition) to the catalog's columns that describe a label.
        label_values: (competition, inspection) to the values of these columns.
        label_notices: (competition, catalog) to what is unusual but no mistake, a sentence each.
        class_presence: (catalog) to bool (N, C): which classes each image shows.
        class_table: (catalog, split, competition) to the table behind classes.csv.
        build_store: (run, catalog rows, is_whole=False) to the folder of the tile store, built unless it is there; with
            `is_whole` images have their own size, whatever the tiles.
        pseudo_label: (run, predictions of an image by the members of a teacher) to its pseudo-label as a store keeps
            it, an array and plain values; of these `labelled`, `confidence` and `pixels` are for tables.
        build_pseudo_store: (run, folder of the images, rows of their table) to the folder of the tile store of
            pseudo-labelled images.
        draw_pseudo_labels: (run, folder of the images, rows of their table) draws some with their pseudo-labels.
        train_data: (run, fits_network=True) to a dataset whose samples `collate_train` joins; it has `frames()`,
            (height, width) of every padded sample, `describe(key)`, `class_presence()`, `set_class_scores(scores)`,
            `is_by_batch`, whether a sample depends on the others of its batch, the `store`, and the `positions` of
            samples in it. With pseudo-labels it has `labelled` and `pseudo`; indices of the latter come last.
        valid_data: (run, folder of the images or None: from the store of validation images, catalog rows) to a dataset
            of whole images, of which large ones come in windows, for `collate_valid`. It has `rows`, one per image,
            `frame(index)`, the padded size of an item, `group(index)`, which the items of a batch have in common,
            `image_id(index)`, `class_presence()`, bool (items, classes), and `keep(indices)`, which leaves all other
            items out.
        collate_train, collate_valid: (samples) to a `Batch`.
        draw_scene: (run, batch of one image of `collate_valid`) to two small WebP files: the image, and its label.
        draw_outputs: (run, such a batch, outputs for it) to one: what the network finds in the image.
        draw_samples: (run, training dataset) draws augmented samples, and where the tiles are.
        build_network: (loaded) to a network on the CPU with random weights.
        learning: (run, device) to what training and validation need.
        make_predictor: (loaded, network with its weights, device, number format, is_plain=False) to what `predict`
            takes; with `is_plain` whole images are predicted once, as training validates them, whatever PREDICT says.
        export: (predictor, size (height, width) of its images, folder) writes the network for other programs, and
            returns `ExportedFiles` of `pipeline/training/onnx_file.py`.
        predict: (predictor, batches of `collate_valid`) yields (image id, prediction) of every image.
        stored_bytes: (predictor, sizes (height, width) of images) to the bytes that their predictions take in a store,
            and whether that is exact or an upper bound.
        pack: (prediction) to the array that a store keeps, and plain values beside it.
        unpack: (array, plain values) to the prediction; the array may be a memory map.
        agreement: (predictor, dataset, indices, predictions by id) to the share of stored predictions that are as the
            network's own.
        stored_alike: ({name: index of a store}) refuses members that cannot be combined.
        float32_bytes: (competition, sizes (height, width) of images) to what full predictions take as float32.
        evaluate: (run, competition's folder, catalog rows, function from id to prediction) to an `Evaluation`.
        image_scorer: (run, competition's folder) to a function from a catalog row and its prediction to the score by
            which single images are compared, NaN where the image has none.
        draw_panels: (run, competition's folder, catalog rows, evaluation) draws the best, median and worst images.
        draw_gallery: (run, competition's folder, catalog rows, evaluation) draws all of them, for the page.
        evaluate_ensemble: (run, competition's folder, catalog rows, held-out members, `MakeEach`) to an `Evaluation`
            and the content of ensemble.json.
        fit_decoding: (run, competition's folder, catalog rows, held-out members, ensemble.json or None, `MakeEach`) to
            the content of decode.json. A single run is its own only member.
        decoder: (run, ensemble.json or None, decode.json) to a function from an image's predictions to what is
            submitted.
        decoding_origin: (decode.json) to what a submission's origin says of it.
        empty: (competition, size (height, width)) to what is submitted of an image that was not predicted.
        member_order: (run, ensemble.json) to the numbers of an ensemble's members, the best one first.
        reduced: (ensemble.json, numbers of some members) to what it says of these alone, and in words how.
    """

    name: str
    discover: Callable[[Path, str], Any]
    find_labels: Callable[[Competition, Path], dict[str, Any]]
    describe_labels: Callable[[Competition, Mapping[str, Any]], list[str]]
    open_labels: Callable[[Competition, Path, Mapping[str, Any]], Labels]
    label_columns: Callable[[Competition], list[str]]
    label_values: Callable[[Competition, Any], list[int]]
    label_notices: Callable[[Competition, pd.DataFrame], list[str]]
    class_presence: Callable[[pd.DataFrame], np.ndarray]
    class_table: Callable[[pd.DataFrame, pd.DataFrame, Competition], pd.DataFrame]
    build_store: Callable[..., Path]
    train_data: Callable[..., Any]
    valid_data: Callable[[Run, Path | None, pd.DataFrame], Any]
    collate_train: Callable[[list], Batch]
    collate_valid: Callable[[list], Batch]
    draw_scene: Callable[[Run, Batch], tuple[bytes, bytes]]
    draw_outputs: Callable[[Run, Batch, Any], bytes]
    draw_samples: Callable[[Run, Any], None]
    build_network: Callable[[Loaded], nn.Module]
    learning: Callable[[Run, torch.device], Learning]
    make_predictor: Callable[..., Any]
    predict: Callable[[Any, Iterable[Batch]], Iterator[tuple[str, Any]]]
    stored_bytes: Callable[[Any, Iterable[tuple[int, int]]], tuple[int, bool]]
    pack: Callable[[Any], tuple[np.ndarray, dict[str, Any]]]
    unpack: Callable[[np.ndarray, Mapping[str, Any]], Any]
    agreement: Callable[[Any, Any, Sequence[int], Any], float]
    stored_alike: Callable[[Mapping[str, Mapping[str, Any]]], None]
    float32_bytes: Callable[[Competition, Iterable[tuple[int, int]]], int]
    evaluate: Callable[[Run, Path, pd.DataFrame, Callable[[str], Any]], Evaluation]
    image_scorer: Callable[[Run, Path], Callable[[Any, Any], float]]
    draw_panels: Callable[[Run, Path, pd.DataFrame, Evaluation], None]
    draw_gallery: Callable[[Run, Path, pd.DataFrame, Evaluation], None]
    evaluate_ensemble: Callable[[Run, Path, pd.DataFrame, HeldOut, MakeEach], tuple[Evaluation, dict[str, Any]]]
    fit_decoding: Callable[..., dict[str, Any]]
    decoder: Callable[[Run, Mapping[str, Any] | None, Mapping[str, Any]], Callable[[Sequence[Any]], Any]]
    decoding_origin: Callable[[Mapping[str, Any]], dict[str, str]]
    empty: Callable[[Competition, tuple[int, int]], Any]
    member_order: Callable[[Run, Mapping[str, Any]], list[int]]
    reduced: Callable[[Mapping[str, Any], Sequence[int]], tuple[dict[str, Any], str]]
    export: Callable[[Any, tuple[int, int], Path], Any]
    pseudo_label: Callable[[Run, Sequence[Any]], tuple[np.ndarray, dict[str, Any]]] | None = None
    build_pseudo_store: Callable[[Run, Path, pd.DataFrame], Path] | None = None
    draw_pseudo_labels: Callable[[Run, Path, pd.DataFrame], None] | None = None
