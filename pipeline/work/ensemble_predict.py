"""`predict` of an ensemble: makes sure that every member has predicted. An ensemble trains nothing."""

from __future__ import annotations

import json

from pipeline.data.catalog import read_catalog, write_table
from pipeline.engine.run import Run
from pipeline.files import write_atomic
from pipeline.paths import CLASSES, LEAKAGE, MEMBERS, SPLIT, STORES, TEST_CATALOG, TRAIN_CATALOG
from pipeline.work.combining import check_room, store_facts
from pipeline.work.member_inputs import member_runs
from pipeline.work.members import (
    held_out_table,
    leaked_pairs,
    member_facts,
    members_by_image,
    predict_members,
    require_alike,
    require_trained,
)


def predict(run: Run) -> None:
    """Writes who the members are, and for which images each of them is held out.

    Raises:
        UserError: a member is not trained, or not as its config says now; with the commands to type.
    """
    members, is_streamed = member_runs(run), run.loaded.config.ensemble.stream
    require_trained(members)
    if not is_streamed:
        check_room(run)
        predict_members(members)
    require_alike(members, is_streamed)
    catalog, test = (read_catalog(members[0].paths / name) for name in (TRAIN_CATALOG, TEST_CATALOG))
    split = held_out_table(members, catalog)
    tables = {TRAIN_CATALOG: catalog, TEST_CATALOG: test, SPLIT: split}
    tables[LEAKAGE] = leaked_pairs(members, members_by_image(split))
    tables[CLASSES] = run.task.class_table(catalog, split, run.loaded.competition)
    for name, table in tables.items():
        write_table(run.paths / name, table)
    stores = [] if is_streamed else [store_facts(run, number) for number in range(len(members))]
    write_atomic(run.paths / STORES, json.dumps(stores, indent=1))
    write_atomic(run.paths / MEMBERS, json.dumps([member_facts(member) for member in members], indent=1))
