"""The section on how a run was made: what the files say, and nothing where there are none."""

from __future__ import annotations

import json

from pipeline.report.page import write_page
from tests.report.test_page import read
from tests.tiny import run_of

MACHINE = {"system": "Linux", "cpu": "Some CPU", "cores": 2, "memory_bytes": 8 * 1024**3}
FACTS = {
    "versions": {"Python": "3.12.3", "torch": "2.9.1"},
    "commit": {"hash": "0123456789abcdef" * 2, "is_changed": True},
    "machine": MACHINE,
    "device": "the CPU, float32",
    "peak_bytes": {"process": 3 * 1024**3, "worker": 0},
    "earlier": [MACHINE | {"cpu": "Another CPU"}],
}


def test_a_run_without_these_files_has_no_such_section(finished_run, quick_plots):
    loaded, _ = finished_run
    assert "#provenance" not in read(write_page(run_of(loaded))).values("href")


def test_seed_versions_commit_machine_memory_and_speed_are_shown(finished_run, quick_plots):
    loaded, folder = finished_run
    (folder / "provenance").mkdir()
    for stage in ("train", "evaluate"):
        (folder / "provenance" / f"{stage}.json").write_text(json.dumps(FACTS))
    reader = read(write_page(run_of(loaded)))
    words = reader.words.split("Versions, machine, memory, speed")[-1]
    assert reader.faults == []
    for text in ("0123456789ab, with uncommitted changes in code or configs", "Some CPU, 2 cores", "8.0 GiB", "2.9.1"):
        assert words.count(text) == 2
    assert words.count("3.0 GiB the process") == 2 and "largest loader" not in words
    assert "20.0 samples per second, validation left out" in words
    assert "12 images in 4.0 s, with everything that is drawn" in words
    assert "Parts of the training ran elsewhere: Another CPU, 2 cores." in words


def test_batches_that_were_cut_because_memory_ran_out_are_shown(finished_run, quick_plots):
    loaded, folder = finished_run
    (folder / "provenance").mkdir()
    cut = {"micro_batches": {"batch_size": 8, "parts": 4, "wanted": 1}}
    (folder / "provenance" / "train.json").write_text(json.dumps(FACTS | cut))
    words = read(write_page(run_of(loaded))).words.split("Versions, machine, memory, speed")[-1]
    assert "of 8 in 4 micro-batches, because memory ran out (configured: ACCUMULATE 1)" in words


def test_without_a_checkout_there_is_no_commit(finished_run, quick_plots):
    loaded, folder = finished_run
    (folder / "provenance").mkdir()
    (folder / "provenance" / "train.json").write_text(json.dumps(FACTS | {"commit": None}))
    assert "commit" not in read(write_page(run_of(loaded))).words.split("Versions, machine, memory, speed")[-1]
