"""The task of boxes: the record of functions through which all code outside this folder uses it."""

from __future__ import annotations

from pipeline.detection import labels
from pipeline.detection.box_source import BoxSource
from pipeline.engine.run import lazy
from pipeline.task import Task

BOXES = Task(
    name="boxes",
    discover=lazy("pipeline.detection.discovery.describe:discover"),
    find_labels=labels.find_box_facts,
    describe_labels=labels.describe_box_facts,
    open_labels=BoxSource,
    label_columns=labels.box_columns,
    label_values=labels.box_counts,
    label_notices=labels.box_notices,
    class_presence=labels.class_presence,
    class_table=labels.class_table,
    # These need torch, which `prepare` does without.
    build_store=lazy("pipeline.detection.tiles:build_tile_store"),
    train_data=lazy("pipeline.detection.tiles:train_data"),
    valid_data=lazy("pipeline.detection.tiles:valid_data"),
    collate_train=lazy("pipeline.detection.train_samples:collate_train"),
    collate_valid=lazy("pipeline.detection.samples:collate_valid"),
    draw_scene=lazy("pipeline.detection.scenes:draw_scene"),
    draw_outputs=lazy("pipeline.detection.scenes:draw_outputs"),
    draw_samples=lazy("pipeline.detection.tiles:draw_samples"),
    build_network=lazy("pipeline.detection.networks:network_of"),
    learning=lazy("pipeline.detection.learning:learning"),
    make_predictor=lazy("pipeline.detection.predict:make_predictor"),
    predict=lazy("pipeline.detection.predict:predict_batches"),
    stored_bytes=lazy("pipeline.detection.predict:stored_bytes"),
    pack=lazy("pipeline.detection.predict:pack"),
    unpack=lazy("pipeline.detection.predict:unpack"),
    agreement=lazy("pipeline.detection.predict:agreement"),
    stored_alike=lazy("pipeline.detection.ensembling:check_members"),
    float32_bytes=labels.float32_bytes,
    evaluate=lazy("pipeline.detection.evaluation:evaluate_predictions"),
    image_scorer=lazy("pipeline.detection.evaluation:image_scorer"),
    draw_panels=lazy("pipeline.detection.evaluation:draw_panels"),
    draw_gallery=lazy("pipeline.detection.gallery:draw_gallery"),
    evaluate_ensemble=lazy("pipeline.detection.ensembling:evaluate_ensemble"),
    fit_decoding=lazy("pipeline.detection.fitting:fit_decoding"),
    decoder=lazy("pipeline.detection.fitting:decoder"),
    decoding_origin=lazy("pipeline.detection.fitting:origin_of"),
    empty=lazy("pipeline.detection.boxes:no_detections"),
    member_order=lazy("pipeline.prediction.fewer_members:member_order"),
    reduced=lazy("pipeline.prediction.fewer_members:reduced"),
    export=lazy("pipeline.detection.export:export_network"),
)
