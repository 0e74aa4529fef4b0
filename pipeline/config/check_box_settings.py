"""Refuses settings that do not go together with the labels of a competition: boxes, or classes of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from pipeline.config.architectures import DETECTORS
from pipeline.config.competition import Competition
from pipeline.config.loss_mix import OF_BOXES, parse_mix, term_parts
from pipeline.config.plan import Phase
from pipeline.config.schema import Config, Detections, Ensemble
from pipeline.config.tree import Problems, first_repeated
from pipeline.errors import UserError

OF_MEMBERS = ("WBF", "NMS")  # methods that combine boxes
DEFAULT_MIX = {"RetinaNet": "1 sigmoid_focal + 1 smooth_l1", "YOLOX": "5 iou + 1 conf + 1 cls"}


def box_problems(config: Config, competition: Competition, plan: tuple[Phase, ...]) -> Problems:
    """Yields key and reason of each setting that the competition's labels have no use for."""
    yield from _losses(config, competition, plan)
    has_boxes = competition.has_boxes
    if not has_boxes:
        yield from _of_pixels(config)
    elif config.ensemble.members is None:
        yield from _of_boxes(config)
    else:
        yield from _of_ensemble(config.ensemble)
    if has_boxes:
        yield from _of_decoding(config)


def _losses(config: Config, competition: Competition, plan: tuple[Phase, ...]) -> Problems:
    has_boxes, name = competition.has_boxes, config.model.name
    mixes = [("LOSS_FN.MIX", config.loss_fn.mix), *(("SOLVER.PLAN", phase.loss) for phase in plan if phase.loss)]
    if config.ensemble.members is not None:
        return
    for key, mix in mixes:
        try:
            terms = [term_parts(term)[0] for term, _ in parse_mix(mix)]
        except UserError:
            return  # refused elsewhere
        if not has_boxes and (own := next((term for term in terms if term in OF_BOXES), None)):
            yield key, f"{own} is a loss of boxes, but the labels are classes of pixels; write for example 1 dice"
        known = DETECTORS.get(name, terms)
        if has_boxes and (twice := first_repeated(terms)) is not None:
            yield key, f"{twice} is given with several settings; a network of boxes has each loss once"
        if has_boxes and (other := next((one for one in terms if one not in known), None)):
            known = f"{name} is trained by {', '.join(known)}"
            yield key, f"{other} is not among its losses: {known}; write for example {DEFAULT_MIX[name]!r}"


def _of_pixels(config: Config) -> Problems:
    if config.ensemble.method in OF_MEMBERS:
        yield "ENSEMBLE.METHOD", f"{config.ensemble.method} combines boxes; for classes of pixels set AP"
    default = Detections()
    for own in fields(Detections):
        if getattr(config.predict.detections, own.name) != getattr(default, own.name):
            yield f"PREDICT.DETECTIONS.{own.name.upper()}", "has an effect on boxes only; remove it"


def _of_ensemble(ensemble: Ensemble) -> Problems:
    weights, method = ensemble.weights, ensemble.method
    if method not in OF_MEMBERS:
        found = f"{method} combines classes of pixels, but the labels are boxes"
        yield "ENSEMBLE.METHOD", f"{found}; set {' or '.join(OF_MEMBERS)}"
    if ensemble.stream:
        yield "ENSEMBLE.STREAM", "true saves the disk space of probabilities; boxes take 2.4 kB an image; set false"
    if weights == "fitted" and method == "NMS":
        yield "ENSEMBLE.WEIGHTS", "fitted weights are those of METHOD: WBF; set it, or give one number per member"
    if isinstance(weights, tuple) and any(isinstance(own, tuple) and len(own) > 1 for own in weights):
        yield "ENSEMBLE.WEIGHTS", "boxes are combined with one number per member, whatever their class; give one each"


def _of_boxes(config: Config) -> Problems:
    augmentation = config.datasets.augmentation
    for name in ("cut_mix", "class_mix", "mix_up"):
        if getattr(augmentation, name).enable:
            yield (
                f"DATASETS.AUGMENTATION.{name.upper()}.ENABLE",
                "true needs classes of pixels; set false, or use MOSAIC",
            )
    if augmentation.copy_paste.enable and augmentation.copy_paste.variant == "occurrence":
        yield "DATASETS.AUGMENTATION.COPY_PASTE.VARIANT", "occurrence needs classes of pixels; set random or weighted"
    if augmentation.coarse_dropout.enable and augmentation.coarse_dropout.label == "ignore":
        yield "DATASETS.AUGMENTATION.COARSE_DROPOUT.LABEL", "ignore needs classes of pixels; set keep"
    for key, is_set in (
        ("LOSS_FN.WEIGHTS", config.loss_fn.weights is not None),
        ("LOSS_FN.ADAPTIVE.ENABLE", config.loss_fn.adaptive.enable),
        ("MODEL.AUX_WEIGHT", bool(config.model.aux_weight)),
        ("PSEUDO.TEACHER", config.pseudo.teacher is not None),
    ):
        if is_set:
            yield key, "is for classes of pixels only; remove it"
    if config.datasets.classes != "all":
        yield "DATASETS.CLASSES", "a network of boxes learns all classes; set all"
    if config.model.encoder.image_size is not None:
        yield "MODEL.ENCODER.IMAGE_SIZE", "networks of boxes take images of any size; set null"
    if config.datasets.padding != "reflect":
        yield "DATASETS.PADDING", "is for classes of pixels; around images with boxes it is always black; remove it"
    if config.predict.tta_space != "probs":
        yield "PREDICT.TTA_SPACE", "logits is for classes of pixels: boxes of copies are fused by score; set probs"
    if config.predict.mode == "window":
        yield "PREDICT.MODE", "window is for classes of pixels; images above IMAGE.WHOLE_PX are cut into windows anyway"


def _of_decoding(config: Config) -> Iterator[tuple[str, str]]:
    for name in ("offsets", "objects", "components"):
        if getattr(config.decode, name) != "none":
            yield f"DECODE.{name.upper()}", "is for classes of pixels only; set none"
