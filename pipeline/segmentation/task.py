"""Segmentation as a task: one class per pixel. The record that everything outside this folder works with."""

from __future__ import annotations

from pipeline.engine.run import lazy
from pipeline.segmentation import labels
from pipeline.segmentation.mask_facts import describe_facts, find_facts
from pipeline.segmentation.mask_source import MaskSource
from pipeline.task import Task

SEGMENTATION = Task(
    name="segmentation",
    discover=lazy("pipeline.segmentation.discovery.describe:discover"),
    find_labels=find_facts,
    describe_labels=describe_facts,
    open_labels=MaskSource,
    label_columns=labels.pixel_columns,
    label_values=labels.pixel_counts,
    label_notices=labels.mask_notices,
    class_presence=labels.class_presence,
    class_table=labels.class_table,
    # These need torch, which `prepare` does without.
    build_store=lazy("pipeline.segmentation.tiles:build_tile_store"),
    pseudo_label=lazy("pipeline.segmentation.pseudo_labels:pseudo_label"),
    build_pseudo_store=lazy("pipeline.segmentation.pseudo_labels:build_pseudo_store"),
    draw_pseudo_labels=lazy("pipeline.segmentation.pseudo_labels:draw_pseudo_labels"),
    train_data=lazy("pipeline.segmentation.tiles:train_data"),
    valid_data=lazy("pipeline.segmentation.tiles:valid_data"),
    collate_train=lazy("pipeline.segmentation.train_samples:collate_train"),
    collate_valid=lazy("pipeline.segmentation.samples:collate_valid"),
    draw_scene=lazy("pipeline.segmentation.scenes:draw_scene"),
    draw_outputs=lazy("pipeline.segmentation.scenes:draw_outputs"),
    draw_samples=lazy("pipeline.segmentation.tiles:draw_samples"),
    build_network=lazy("pipeline.segmentation.networks:network_of"),
    learning=lazy("pipeline.segmentation.learning:learning"),
    make_predictor=lazy("pipeline.segmentation.predict:make_predictor"),
    export=lazy("pipeline.segmentation.export:export_network"),
    predict=lazy("pipeline.segmentation.predict:predict_batches"),
    stored_bytes=lazy("pipeline.segmentation.predict:stored_bytes"),
    pack=lazy("pipeline.segmentation.predict:pack"),
    unpack=lazy("pipeline.segmentation.predict:unpack"),
    agreement=lazy("pipeline.segmentation.predict:agreement"),
    stored_alike=lazy("pipeline.segmentation.ensemble:check_members"),
    float32_bytes=labels.float32_bytes,
    evaluate=lazy("pipeline.segmentation.evaluation:evaluate_predictions"),
    image_scorer=lazy("pipeline.segmentation.evaluation:image_scorer"),
    draw_panels=lazy("pipeline.segmentation.evaluation:draw_panels"),
    draw_gallery=lazy("pipeline.segmentation.gallery:draw_gallery"),
    evaluate_ensemble=lazy("pipeline.segmentation.ensembling:evaluate_ensemble"),
    fit_decoding=lazy("pipeline.segmentation.fitting:fit_decoding"),
    decoder=lazy("pipeline.segmentation.fitting:decoder"),
    decoding_origin=lazy("pipeline.segmentation.fitting:origin_of"),
    empty=lazy("pipeline.segmentation.labels:empty_mask"),
    member_order=lazy("pipeline.prediction.fewer_members:member_order"),
    reduced=lazy("pipeline.prediction.fewer_members:reduced"),
)
