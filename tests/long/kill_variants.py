"""What `kill.py` kills: runs with classes of pixels, and runs with boxes, in variants of their settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.detection import box_competition
from tests.tiny import overrides, write_competition

COMMON = (
    *("SOLVER.NUM_EPOCHS=4", "SOLVER.PATIENCE=2", "SOLVER.MAX_LR=0.03", "SWEEP.STEPS=8"),
    *("AVERAGE.METHOD=swa", "AVERAGE.COUNT=2", "RUNTIME.LOG_STEPS=1"),
)

DEVICES = {"cpu": (), "cuda": ("RUNTIME.DEVICE=cuda", "SOLVER.REPRODUCIBLE=true")}


@dataclass(frozen=True)
class Variant:
    """Settings of a run, how many finished steps a kill may cost, and which variant has the same result, if any."""

    changes: tuple[str, ...]
    may_lose: int
    same_as: int | None = None


VARIANTS = (
    # Early stop, revert to the best epoch, annealing; a checkpoint at every step.
    Variant((*COMMON, "SOLVER.OPTIMIZER.NAME=AdamW", "SOLVER.SAVE_MINUTES=0"), may_lose=0),
    # Slow weights, averaged weights, dropout, micro-batches, adaptive class weights; a checkpoint at every epoch.
    Variant(
        (
            *("MODEL.NAME=FPN", "SOLVER.NUM_EPOCHS=2", "SOLVER.MAX_LR=0.1", "SOLVER.EMA_DECAY=0.9"),
            *("LOSS_FN.ADAPTIVE.ENABLE=true", "DATALOADERS.TRAIN.BATCH_SIZE=4", "SWEEP.ENABLE=false"),
            *("SOLVER.ACCUMULATE=2", "AVERAGE.METHOD=best", "AVERAGE.COUNT=2", "RUNTIME.LOG_STEPS=1"),
        ),
        may_lose=2,
    ),
    # Layer-wise rates, an auxiliary head, blocks computed twice, mixed samples, an optimizer of timm.
    Variant(
        (
            *("MODEL.NAME=Unet", "MODEL.OPTIONS={DECODER_ATTENTION_TYPE: scse}", "MODEL.AUX_WEIGHT=0.1"),
            *("SOLVER.NUM_EPOCHS=2", "SOLVER.OPTIMIZER.NAME=timm.lamb", "SOLVER.OPTIMIZER.ENCODER_LR_DECAY=0.8"),
            *("SOLVER.CHECKPOINT_ENCODER=true", "SOLVER.SAVE_MINUTES=0", "SWEEP.ENABLE=false", "RUNTIME.LOG_STEPS=1"),
            *("DATASETS.AUGMENTATION.MIX_UP.ENABLE=true", "DATASETS.AUGMENTATION.CLASS_MIX.ENABLE=true"),
            *("DATASETS.AUGMENTATION.ELASTIC.ENABLE=true", "LOSS_FN.MIX=0.7 ce(top=0.5) + 0.3 lovasz"),
        ),
        may_lose=0,
    ),
    # As the first, but loaded by two workers: what was begun in one process must come out the same.
    Variant(
        (*COMMON, "SOLVER.OPTIMIZER.NAME=AdamW", "SOLVER.SAVE_MINUTES=0", "DATALOADERS.TRAIN.NUM_WORKERS=2"),
        may_lose=0,
        same_as=0,
    ),
)


BOX_COMMON = (*COMMON, "SWEEP.IMAGES=2", "SWEEP.REPEATS=1", "SOLVER.MAX_LR=0.004")
BOX_COMMON += tuple(f"{key}={value}" for key, value in box_competition.ALL_GEOMETRY.items())
BOX_VARIANTS = (
    # RetinaNet, all geometry, mosaic, weighted copy-paste, averaged weights; a checkpoint at every step.
    Variant((*BOX_COMMON, "SWEEP.ENABLE=true", "SOLVER.SAVE_MINUTES=0", "REPORT.EPOCHS=[1, 2]"), may_lose=0),
    # YOLOX, slow weights, micro-batches, tiles, copies of test images; a checkpoint at every epoch.
    Variant(
        (
            *(f"{key}={value}" for key, value in box_competition.YOLOX.items()),
            *(*BOX_COMMON, "SOLVER.NUM_EPOCHS=2", "SOLVER.EMA_DECAY=0.9", "SOLVER.ACCUMULATE=2", "PREDICT.TTA=flip"),
            *("DATASETS.AUGMENTATION.TILE.ENABLE=true", "DATASETS.AUGMENTATION.TILE.SETS=[[1.0, 0.0]]"),
            *("DATASETS.AUGMENTATION.TILE.WIDTH=64", "DATASETS.AUGMENTATION.TILE.HEIGHT=64"),
        ),
        may_lose=6,
    ),
)


@dataclass(frozen=True)
class Subject:
    """What is killed: its competition, the words of a run of it, and the variants of its settings."""

    write: Callable[[Path], Path]
    overrides: Callable[..., tuple[str, ...]]
    variants: tuple[Variant, ...]


SUBJECTS = {
    "segmentation": Subject(write_competition, overrides, VARIANTS),
    "boxes": Subject(box_competition.write_competition, box_competition.overrides, BOX_VARIANTS),
}
