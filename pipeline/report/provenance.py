"""The page's section on how a run was made: seed, versions, commit, machine, memory, micro-batches, throughput.

In: `provenance/<stage>.json`, timings.csv. Out: a table. A run that was made before these files existed has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.markup import Html, join, quantity, table, tag
from pipeline.report.record import Record
from pipeline.training.inputs import seed_of
from pipeline.wording import duration, size

STAGES = {"train": "training", "evaluate": "evaluation"}
PEAKS = {"process": "the process", "worker": "its largest loader or helper process", "gpu": "on the card"}
SHORT_HASH = 12  # characters of a commit: enough to name it in any repository


def provenance_section(record: Record) -> Html | None:
    """Returns how each recorded stage was carried out, and the seed."""
    found = record.provenance
    if not found:
        return None
    rows = [] if record.loaded.is_ensemble else [("seed", *[seed_of(record.loaded)] * len(found))]
    facts = [stage_facts(one) for one in found.values()]
    names = dict.fromkeys(name for one in facts for name in one)
    rows += [(name, *(one.get(name, "–") for one in facts)) for name in names]
    rows.append(("speed", *(_speed(record, stage) or "–" for stage in found)))
    head = ("what", *(STAGES[stage] for stage in found))
    return join(table(head, rows, "What this run was made with"), _note(found))


def stage_facts(own: Mapping[str, Any]) -> dict[str, str]:
    """Returns what is known of one stage in words, by a name for the row.

    >>> stage_facts({"versions": {"Python": "3.12.3"}, "machine": {"cpu": "A CPU", "cores": 1}, "device": "the CPU"})
    {'device': 'the CPU', 'processor': 'A CPU, 1 core', 'Python': '3.12.3'}
    """
    machine, facts = own.get("machine") or {}, {}
    facts["commit"] = _commit(own.get("commit"))
    facts["device"] = own.get("device")
    cores = quantity(machine["cores"], "core") if "cores" in machine else None
    facts["processor"] = ", ".join(filter(None, (machine.get("cpu"), cores)))
    facts["memory"] = size(machine["memory_bytes"]) if "memory_bytes" in machine else None
    if "gpu" in machine:
        facts["graphics card"] = f"{machine['gpu']}, {size(machine['gpu_memory_bytes'])}"
    peaks = {PEAKS[name]: value for name, value in (own.get("peak_bytes") or {}).items() if value and name in PEAKS}
    facts["peak memory"] = ", ".join(f"{size(value)} {words}" for words, value in peaks.items())
    if cut := own.get("micro_batches"):
        why = f"because memory ran out (configured: ACCUMULATE {cut['wanted']})"
        facts["batches"] = f"of {cut['batch_size']} in {cut['parts']} micro-batches, {why}"
    known = {name: text for name, text in facts.items() if text}
    return known | {name: str(version) for name, version in (own.get("versions") or {}).items()}


def _commit(found: Mapping[str, Any] | None) -> str | None:
    if not found:
        return None
    return found["hash"][:SHORT_HASH] + (", with uncommitted changes in code or configs" if found["is_changed"] else "")


def _speed(record: Record, stage: str) -> str | None:
    """Returns the samples per second of the training, or the images per second of the evaluation."""
    if stage == "train":
        rows = [row for row, epoch in enumerate(record.timings.get("epoch", ())) if epoch != "0"]
        columns = [record.timings[name] for name in ("seconds", "samples_per_s")] if rows else []
        seconds = sum(float(columns[0][row]) for row in rows) if rows else 0.0
        samples = sum(float(columns[0][row]) * float(columns[1][row]) for row in rows) if rows else 0.0
        return f"{samples / seconds:.1f} samples per second, validation left out" if seconds else None
    seconds = record.stage_seconds.get(stage)
    if not seconds or record.metrics is None:
        return None
    return f"{quantity(record.metrics.images, 'image')} in {duration(seconds)}, with everything that is drawn"


def _note(found: Mapping[str, Mapping[str, Any]]) -> Html | None:
    """Returns on which other machines a training had been before it went on where it ended."""
    earlier = [one for own in found.values() for one in own.get("earlier") or ()]
    if not earlier:
        return None
    listed = "; ".join(dict.fromkeys(stage_facts({"machine": one}).get("processor", "unknown") for one in earlier))
    return tag("p", f"Parts of the training ran elsewhere: {listed}.", class_="note")
