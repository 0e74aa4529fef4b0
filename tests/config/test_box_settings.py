"""Settings that do not go together with boxes, or with classes of pixels, are refused with what to write instead."""

from __future__ import annotations

import re

import pytest
import yaml

from pipeline.config.architectures import YOLOX_BACKBONES
from pipeline.config.load import load
from pipeline.detection.yolox_blocks import SIZES
from pipeline.errors import UserError

AUGMENTATION = "DATASETS.AUGMENTATION"
OF_BOXES = {
    "MODEL.NAME=Unet": "expected a network that finds boxes: RetinaNet or YOLOX",
    "MODEL.AUX_WEIGHT=0.1": "MODEL.AUX_WEIGHT: is only for masks, but the labels are boxes; remove it",
    "MODEL.ENCODER.IMAGE_SIZE=[64, 64]": "networks for boxes take images of any size; set null",
    "LOSS_FN.MIX=1 ce": "found ce, which is no loss of the network: RetinaNet has sigmoid_focal, smooth_l1; write for "
    "example '1 sigmoid_focal + 1 smooth_l1'",
    "LOSS_FN.MIX=1 iou": "found iou, which is no loss of the network",
    "LOSS_FN.MIX=1 smooth_l1 + 1 smooth_l1(beta=1)": "smooth_l1 is given more than once; with "
    "boxes, give each loss once",
    "LOSS_FN.WEIGHTS=[1, 1, 1]": "LOSS_FN.WEIGHTS: is only for masks, but the labels are boxes; remove it",
    "LOSS_FN.ADAPTIVE.ENABLE=true": "LOSS_FN.ADAPTIVE.ENABLE: is only for masks",
    "DATASETS.CLASSES=[RBC]": "with boxes, networks are trained on all classes; set all",
    "DATASETS.PADDING=background": "with boxes the padding is always black; remove it",
    f"{AUGMENTATION}.CUT_MIX.ENABLE=true": "true needs masks, but the labels are boxes; set false, or use MOSAIC or",
    f"{AUGMENTATION}.CLASS_MIX.ENABLE=true": "true needs masks, but the labels are boxes; set false, or use MOSAIC or",
    "PREDICT.MODE=window": "images above IMAGE.WHOLE_PX are always cut into windows",
    "PREDICT.TTA_SPACE=logits": "the boxes of all copies are fused; set probs",
    "PSEUDO.TEACHER=BccdY": "PSEUDO.TEACHER: is only for masks, but the labels are boxes; remove it",
    "MODEL.ENCODER.NAME=yolox_s": "yolox_s is a backbone of MODEL.NAME: YOLOX, found RetinaNet; set that, or for "
    "example resnet50",
    "MODEL.OPTIONS.PRIORS=0.01": "MODEL.OPTIONS.PRIORS: RetinaNet has no such option; did you mean PRIOR?",
    "MODEL.OPTIONS.PRIOR=0": "MODEL.OPTIONS.PRIOR: 0.0 is outside the allowed range",
    "MODEL.OPTIONS.ANCHOR_SIZES=[8, 16]": "MODEL.OPTIONS.ANCHOR_SIZES: found a list of 2, expected a list of 5",
    "MODEL.OPTIONS.RATIOS=[]": "MODEL.OPTIONS.RATIOS: found an empty list, expected at least one ratio",
    "DECODE.OFFSETS=fitted": "DECODE.OFFSETS: is only for masks, but the labels are boxes; set none",
    "DECODE.OBJECTS=fitted": "DECODE.OBJECTS",
    "DECODE.COMPONENTS=fitted": "DECODE.COMPONENTS: is only for masks, but the labels are boxes; set none",
}
OF_PIXELS = {
    "MODEL.NAME=RetinaNet": "found 'RetinaNet', which finds boxes, but the competition's TASK is segmentation",
    "LOSS_FN.MIX=1 sigmoid_focal + 1 smooth_l1": "sigmoid_focal is a loss for boxes, but the labels are masks; "
    "write for example 1 dice",
    "PREDICT.DETECTIONS.SUPPRESS=soft_nms": "PREDICT.DETECTIONS.SUPPRESS: is only for boxes, but the labels are masks",
    "PREDICT.DETECTIONS.OVERLAP=0.6": "PREDICT.DETECTIONS.OVERLAP: is only for boxes, but the labels are masks",
    "PREDICT.DETECTIONS.SCORE=0.1": "PREDICT.DETECTIONS.SCORE: is only for boxes, but the labels are masks",
    "PREDICT.DETECTIONS.MOST=10": "PREDICT.DETECTIONS.MOST: is only for boxes, but the labels are masks",
}
MEMBERS = ["BccdR", "BccdY"]
ENSEMBLES = {
    "METHOD: AP": "AP combines masks, but the labels are boxes; set WBF or NMS",
    "METHOD: MW": "set WBF or NMS",
    "METHOD: NMS, WEIGHTS: fitted": "fitted needs METHOD: WBF; set that, or give one number per member",
    "METHOD: WBF, WEIGHTS: [[1, 1, 1], [1, 2, 1]]": "boxes take one number per member",
    "METHOD: WBF, STREAM: true": "true is not supported with boxes, which need only 2.4 kB per image on disk",
    "METHOD: WBF, WEIGHTS: [1]": "1 weights for 2 members",
}


@pytest.mark.parametrize("override", OF_BOXES)
def test_what_is_for_classes_of_pixels_is_refused_of_boxes(override):
    with pytest.raises(UserError, match=re.escape(OF_BOXES[override])):
        load("BccdR", (override,))


@pytest.mark.parametrize(
    ("key", "value"), [("COPY_PASTE.VARIANT", "occurrence"), ("COARSE_DROPOUT.LABEL", "ignore")], ids=lambda one: one
)
def test_a_kind_of_augmentation_that_needs_masks_is_refused_of_boxes_where_it_is_switched_on(key, value):
    setting, switch = f"{AUGMENTATION}.{key}={value}", f"{AUGMENTATION}.{key.split('.')[0]}.ENABLE=true"
    load("BccdR", (setting,))
    with pytest.raises(UserError, match=f"{value} needs masks, but the labels are boxes; set"):
        load("BccdR", (setting, switch))


def test_boxes_are_blended_sample_by_sample_so_a_batch_of_one_is_enough():
    load("BccdR", (f"{AUGMENTATION}.MIX_UP.ENABLE=true", "DATALOADERS.TRAIN.BATCH_SIZE=1"))


@pytest.mark.parametrize("override", OF_PIXELS)
def test_what_is_for_boxes_is_refused_of_classes_of_pixels(override):
    with pytest.raises(UserError, match=re.escape(OF_PIXELS[override])):
        load("demo", (override,))


def write_ensemble(configs, text: str, competition: str = "bccd", members: tuple[str, ...] = tuple(MEMBERS)) -> None:
    content = {"BASE": "base", "DATASETS": {"COMPETITION": competition}, "EXPERIMENT": {"PREFIX": "Ens"}}
    settings = yaml.safe_load(f"{{{text}}}")
    (configs / "Both.yaml").write_text(yaml.safe_dump(content | {"ENSEMBLE": {"MEMBERS": list(members)} | settings}))


@pytest.mark.parametrize("text", ENSEMBLES)
def test_an_ensemble_of_boxes_combines_boxes_with_a_number_per_member(configs, text):
    write_ensemble(configs, text)
    with pytest.raises(UserError, match=re.escape(ENSEMBLES[text])):
        load("Both", ())


@pytest.mark.parametrize("text", ["METHOD: WBF", "METHOD: WBF, WEIGHTS: [1, 3]", "METHOD: WBF, WEIGHTS: fitted"])
def test_weighted_box_fusion_has_weights(configs, text):
    write_ensemble(configs, text)
    assert load("Both", ()).config.ensemble.method == "WBF"


@pytest.mark.parametrize("method", ["WBF", "NMS"])
def test_methods_of_boxes_are_refused_of_classes_of_pixels(configs, method):
    write_ensemble(configs, f"METHOD: {method}", "demo", ("DemoAAA", "DemoAAB"))
    with pytest.raises(UserError, match=f"{method} combines boxes, but the labels are masks; set for example AP"):
        load("Both", ())


def test_the_losses_of_the_other_network_are_named():
    with pytest.raises(UserError, match=r"YOLOX has iou, conf, cls, l1; write for example '5 iou \+ 1 conf"):
        load("BccdY", ("LOSS_FN.MIX=1 sigmoid_focal",))


def test_the_backbones_of_yolox_are_its_own():
    assert tuple(SIZES) == YOLOX_BACKBONES
    for name, hint in (("yolo_nano", "did you mean yolox_nano?"), ("resnet18", "YOLOX has backbones of its own: ")):
        with pytest.raises(UserError, match=re.escape(f"MODEL.ENCODER.NAME: found {name!r}; {hint}")):
            load("BccdY", (f"MODEL.ENCODER.NAME={name}",))
    with pytest.raises(
        UserError, match=r"MODEL\.OPTIONS\.CHANNELS: YOLOX has no such option; it has PRIOR, ACTIVATION"
    ):
        load("BccdY", ("MODEL.OPTIONS.CHANNELS=64",))
