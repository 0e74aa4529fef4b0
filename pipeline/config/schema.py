"""The type and range of every config key. Defaults and meanings are in `configs/base.yaml`.

Keys are UPPER_SNAKE in YAML and the same words in lower case here. A new key also needs a line in `configs/base.yaml`
and in `tests/config/keys.txt`. Those of DATASETS.AUGMENTATION are in `augmentation.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from pipeline.config.augmentation import Augmentation
from pipeline.config.competition import ScoreName
from pipeline.config.plain_yaml import Range
from pipeline.config.ranges import ClassNames, Count, CountOrZero, NotNegative, Positive, Share

TTA_SCALES = (0.75, 1.0, 1.25)  # a wider range costs more than it gives on street and drone images
NUM_SEEDS = 2**24  # the seed of one step is (seed << 40) + its position
STRIDE = 32  # frames are multiples of it, or of more where a network's own stride is larger
Monitor = Literal[("valid_loss", *(f"valid_{name}" for name in get_args(ScoreName)))]
# A value of MODEL.OPTIONS; which options there are, and of which type, the architecture's own signature says.
Option = bool | int | float | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | str | None


@dataclass(frozen=True)
class Experiment:
    prefix: str
    suffix: str
    load_prev: str | None
    load_part: Literal["all", "fitting", "classes"]
    seed: Annotated[int, Range(least=0, most=NUM_SEEDS - 1)] | Literal["random"] | None


@dataclass(frozen=True)
class Encoder:
    name: str
    abbr: str
    weights: str | None
    image_size: tuple[Count, Count] | None = None
    allow_remote: bool = False


@dataclass(frozen=True)
class Model:
    name: str  # see `architectures.py`
    abbr: str
    encoder: Encoder
    options: dict[str, Option] = field(default_factory=dict)
    aux_weight: NotNegative = 0.0


@dataclass(frozen=True)
class Split:
    by: Literal["slice", "sequence", "kfold", "stratified", "given", "none"]
    folds: Annotated[int, Range(least=2, most=20)] | None  # SPLIT_INDEX names one of them, and goes up to 19


@dataclass(frozen=True)
class Sampling:
    rare_class_rate: Share


@dataclass(frozen=True)
class Datasets:
    competition: str
    directory: str | None
    test_directory: str | None
    split_index: Annotated[int, Range(least=-100, most=19)]
    split: Split
    classes: ClassNames
    padding: Literal["reflect", "background", "ignore", "class"]
    input_scale: Annotated[float, Range(least=0.25, most=4)]
    sampling: Sampling
    augmentation: Augmentation


@dataclass(frozen=True)
class Pseudo:
    teacher: str | None
    images: str  # test, or a folder
    confidence: Share
    agreement: Share | None
    labels: Literal["hard", "soft"]
    share: Annotated[float, Range(above=0, most=1)]
    min_labelled: Share


@dataclass(frozen=True)
class TrainLoader:
    batch_size: Count
    num_workers: CountOrZero
    shuffle: bool
    shuffle_window: CountOrZero
    pin_memory: bool
    drop_last: bool


@dataclass(frozen=True)
class ValidLoader:
    batch_size: Count
    num_workers: CountOrZero
    pin_memory: bool


@dataclass(frozen=True)
class Dataloaders:
    train: TrainLoader
    valid: ValidLoader


@dataclass(frozen=True)
class Adaptive:
    enable: bool
    max_weight: Annotated[float, Range(least=1)]


@dataclass(frozen=True)
class LossFn:
    mix: str
    weights: tuple[NotNegative, ...] | Literal["inverse", "inverse_sqrt", "log"] | None
    adaptive: Adaptive


@dataclass(frozen=True)
class Optimizer:
    name: str  # one of `optimizers.py`, see `check.py`
    weight_decay: NotNegative
    momentum: Share
    encoder_lr_factor: NotNegative
    encoder_lr_decay: Annotated[float, Range(above=0, most=1)]
    decay_norm_and_bias: bool
    head_lr_factor: NotNegative = 1.0


@dataclass(frozen=True)
class Solver:
    plan: str
    from_: str | None
    max_lr: Positive | Literal["auto"]
    min_lr: NotNegative
    patience: Count
    num_epochs: Count
    ann_epochs: Count
    warmup_epochs: NotNegative
    power: Positive
    finish_within_hours: Positive | Literal["session"] | None
    monitor: Monitor
    optimizer: Optimizer
    clip_norm: Positive | None
    accumulate: Count
    ema_decay: Annotated[float, Range(above=0, most=0.99999)] | None
    precision: Literal["auto", "fastest", "float32", "float16", "bfloat16"]
    reproducible: bool
    compile: bool
    checkpoint_encoder: bool
    save_minutes: NotNegative


@dataclass(frozen=True)
class Sweep:
    enable: bool
    start_lr: Positive
    end_lr: Positive
    steps: Annotated[int, Range(least=8)]
    images: Count
    repeats: Count
    smoothing: Annotated[float, Range(above=0, most=1)]
    optimizer: Literal["solver", "SGD"]


@dataclass(frozen=True)
class Average:
    method: Literal["none", "swa", "best", "greedy"]
    count: Annotated[int, Range(least=2)]
    runs: tuple[str, ...] | None
    samples: Count

    @property
    def keeps_epochs(self) -> bool:
        """Whether training keeps the weights of some epochs."""
        return self.method in ("swa", "best")


@dataclass(frozen=True)
class Detections:
    suppress: Literal["nms", "soft_nms"] = "nms"
    overlap: Annotated[float, Range(above=0, most=1)] = 0.5
    score: Annotated[float, Range(least=0, most=0.99)] = 0.05
    most: Count = 100


@dataclass(frozen=True)
class Predict:
    mode: Literal["full", "window"]
    window: tuple[Count, Count]
    overlap: Annotated[float, Range(least=0, most=0.9)]
    blend: Literal["gaussian", "pyramid"]
    tta: Literal["none", "flip", "d2", "d4", "scales"]
    tta_space: Literal["probs", "logits"]
    scales: tuple[Annotated[float, Range(least=0.1, most=4)], ...] | None
    scale_weights: tuple[Positive, ...] | None
    detections: Detections = Detections()

    @property
    def sizes(self) -> tuple[float, ...]:
        """The factors on the image's size at which every copy is predicted."""
        return self.scales or (TTA_SCALES if self.tta == "scales" else (1.0,))

    @property
    def has_copies(self) -> bool:
        """Whether images are predicted more than once, or at another size than their own."""
        return self.tta != "none" or self.sizes != (1.0,)


@dataclass(frozen=True)
class Ensemble:
    members: tuple[str, ...] | None
    method: Literal["AP", "BP", "MW", "GEO", "WEIGHTED", "WBF", "NMS"]
    weights: tuple[NotNegative, ...] | tuple[tuple[NotNegative, ...], ...] | Literal["fitted"] | None
    stream: bool


@dataclass(frozen=True)
class Decode:
    suppress: Literal["none", "fitted"]
    offsets: Literal["none", "fitted"]
    objects: Literal["none", "fitted"]
    components: str  # none, fitted, or rules, see `component_rules.py`

    @property
    def needs_images(self) -> bool:
        """Whether something is fitted, or measured, on out-of-fold images."""
        return self.components != "none" or "fitted" in (self.suppress, self.offsets, self.objects)


@dataclass(frozen=True)
class Submit:
    time_limit_hours: Positive | None
    file: str | None


@dataclass(frozen=True)
class Report:
    epochs: tuple[CountOrZero, ...]


@dataclass(frozen=True)
class Runtime:
    device: Literal["auto", "cpu", "cuda"]
    ranks: Count | Literal["auto"]
    sync_batch_norm: bool
    time_budget_hours: Positive | Literal["auto"] | None
    keep_state: bool
    log_steps: CountOrZero
    tracker: Literal["wandb", "mlflow", "trackio"] | None


@dataclass(frozen=True)
class Config:
    experiment: Experiment
    model: Model
    datasets: Datasets
    pseudo: Pseudo
    dataloaders: Dataloaders
    loss_fn: LossFn
    solver: Solver
    sweep: Sweep
    average: Average
    predict: Predict
    ensemble: Ensemble
    decode: Decode
    submit: Submit
    report: Report
    runtime: Runtime


def pseudo_per_batch(config: Config) -> int:
    """Returns how many samples of a batch are pseudo-labelled; `check_pseudo.py` has refused parts of a sample."""
    return 0 if config.pseudo.teacher is None else round(config.pseudo.share * config.dataloaders.train.batch_size)
