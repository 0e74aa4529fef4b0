"""Refuses settings that do not match the labels of a competition: boxes, or classes of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from pipeline.config.architectures import DETECTORS
from pipeline.config.competition import Competition
from pipeline.config.detector_options import OPTIONS, option_problems
from pipeline.config.loss_mix import OF_BOXES, parse_mix, term_parts
from pipeline.config.plan import Phase, given_mixes
from pipeline.config.schema import Config, Detections, Ensemble
from pipeline.config.tree import Problems, first_repeated
from pipeline.errors import UserError

OF_MEMBERS = ("WBF", "NMS")  # methods that combine boxes
DEFAULT_MIX = {"RetinaNet": "1 sigmoid_focal + 1 smooth_l1", "YOLOX": "5 iou + 1 conf + 1 cls"}


def box_problems(config: Config, competition: Competition, plan: tuple[Phase, ...]) -> Problems:
    """Yields key and reason of each setting that does not match the competition's labels."""
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
    if config.ensemble.members is not None:
        return
    for key, mix, where, part in given_mixes(config, plan):
        try:
            terms = [term_parts(term)[0] for term, _ in parse_mix(mix)]
        except UserError:
            return  # refused elsewhere
        if not has_boxes and (own := next((term for term in terms if term in OF_BOXES), None)):
            why = f"{where}{own} is a loss for boxes, but the labels are masks"
            yield key, f"{why}; write for example {part}1 dice"
        known = DETECTORS.get(name, terms)
        if has_boxes and (twice := first_repeated(terms)) is not None:
            yield key, f"{where}{twice} is given more than once; with boxes, give each loss once"
        if has_boxes and (other := next((one for one in terms if one not in known), None)):
            known = f"{name} has {', '.join(known)}"
            yield (
                key,
                f"{where}found {other}, which is no loss of the network: {known}; write for example "
                f"{part}{DEFAULT_MIX[name]!r}",
            )


def _of_pixels(config: Config) -> Problems:
    if config.ensemble.method in OF_MEMBERS:
        yield (
            "ENSEMBLE.METHOD",
            f"{config.ensemble.method} combines boxes, but the labels are masks; set for example AP",
        )
    batch = config.dataloaders.train.batch_size
    if config.datasets.augmentation.mix_up.enable and batch < 2:
        why = f"true blends the samples of a batch, but DATALOADERS.TRAIN.BATCH_SIZE is {batch}; raise it, or set false"
        yield "DATASETS.AUGMENTATION.MIX_UP.ENABLE", why
    default = Detections()
    for own in fields(Detections):
        if getattr(config.predict.detections, own.name) != getattr(default, own.name):
            yield f"PREDICT.DETECTIONS.{own.name.upper()}", "is only for boxes, but the labels are masks; remove it"


def _of_ensemble(ensemble: Ensemble) -> Problems:
    weights, method = ensemble.weights, ensemble.method
    if method not in OF_MEMBERS:
        found = f"{method} combines masks, but the labels are boxes"
        yield "ENSEMBLE.METHOD", f"{found}; set {' or '.join(OF_MEMBERS)}"
    if ensemble.stream:
        yield "ENSEMBLE.STREAM", "true is not supported with boxes, which need only 2.4 kB per image on disk; set false"
    if weights == "fitted" and method == "NMS":
        yield "ENSEMBLE.WEIGHTS", "fitted needs METHOD: WBF; set that, or give one number per member"
    if isinstance(weights, tuple) and any(isinstance(own, tuple) and len(own) > 1 for own in weights):
        yield "ENSEMBLE.WEIGHTS", "found several numbers per member; boxes take one number per member, for all classes"


def _of_boxes(config: Config) -> Problems:
    if config.model.name in OPTIONS:  # any other one is refused elsewhere
        yield from option_problems(config.model)
    augmentation = config.datasets.augmentation
    for name in ("cut_mix", "class_mix"):
        if getattr(augmentation, name).enable:
            yield (
                f"DATASETS.AUGMENTATION.{name.upper()}.ENABLE",
                "true needs masks, but the labels are boxes; set false, or use MOSAIC or MIX_UP",
            )
    if augmentation.copy_paste.enable and augmentation.copy_paste.variant == "occurrence":
        yield (
            "DATASETS.AUGMENTATION.COPY_PASTE.VARIANT",
            "occurrence needs masks, but the labels are boxes; set random or weighted",
        )
    if augmentation.coarse_dropout.enable and augmentation.coarse_dropout.label == "ignore":
        yield "DATASETS.AUGMENTATION.COARSE_DROPOUT.LABEL", "ignore needs masks, but the labels are boxes; set keep"
    for key, is_set in (
        ("LOSS_FN.WEIGHTS", config.loss_fn.weights is not None),
        ("LOSS_FN.ADAPTIVE.ENABLE", config.loss_fn.adaptive.enable),
        ("MODEL.AUX_WEIGHT", bool(config.model.aux_weight)),
        ("PSEUDO.TEACHER", config.pseudo.teacher is not None),
    ):
        if is_set:
            yield key, "is only for masks, but the labels are boxes; remove it"
    if config.datasets.classes != "all":
        yield "DATASETS.CLASSES", "with boxes, networks are trained on all classes; set all"
    if config.model.encoder.image_size is not None:
        yield "MODEL.ENCODER.IMAGE_SIZE", "networks for boxes take images of any size; set null"
    if config.datasets.padding != "reflect":
        yield "DATASETS.PADDING", "is only for masks; with boxes the padding is always black; remove it"
    if config.predict.tta_space != "probs":
        yield "PREDICT.TTA_SPACE", "logits is only for masks; with boxes, the boxes of all copies are fused; set probs"
    if config.predict.mode == "window":
        yield (
            "PREDICT.MODE",
            "window is only for masks; images above IMAGE.WHOLE_PX are always cut into windows; remove it",
        )


def _of_decoding(config: Config) -> Iterator[tuple[str, str]]:
    for name in ("offsets", "objects", "components"):
        if getattr(config.decode, name) != "none":
            yield f"DECODE.{name.upper()}", "is only for masks, but the labels are boxes; set none"
