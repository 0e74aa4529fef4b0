"""Whether a training goes on from its checkpoint, begins anew, or is refused, when something has changed since.

In: `last.ckpt` with what it was made from, the run's settings and plan as they are now. Out: the checkpoint's content
with the state that belongs to today's plan.

- Nothing changed that was carried out (see `carried_out.py`): it goes on.
- A setting changed that was: a training that is not finished is refused, with the key, the first epoch that would have
  been another, and the two ways out. A finished one begins anew, as does one without a finished epoch.
- The data changed: it begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from pipeline.engine.dependence import settings_of
from pipeline.engine.freshness import Hashes, Marker, key_of, plain, why_stale
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.paths import BEST, LAST, SWEEP_FACTS, shown
from pipeline.training.candidates import missing_candidates
from pipeline.training.carried_out import Course, Difference, is_over, under
from pipeline.training.checkpoint import load_newest, repair_best
from pipeline.training.state import TrainState, when

# What the plan is made from: it is compared by what was carried out of it. These keys decide nothing else in training.
PLAN_KEYS = ("PLAN", "MAX_LR", "MIN_LR", "PATIENCE", "NUM_EPOCHS", "ANN_EPOCHS", "WARMUP_EPOCHS", "POWER", "MONITOR")
PLAN_KEYS += ("FINISH_WITHIN_HOURS",)
CHANGEABLE = {f"SOLVER.{name}" for name in PLAN_KEYS}


def lasting_key(run: Run) -> str:
    """Returns one hash for all that a training depends on, except what may change on the way."""
    if run.begun is None:
        return run.key
    return key_of(run.begun.version, _lasting(run.begun.settings), _lasting_inputs(run.begun.inputs))


def made_from(run: Run, course: Course) -> dict[str, Any]:
    """Returns what a checkpoint remembers of the settings, inputs and plan that it was made from."""
    begun = run.begun or Marker(0, {}, {}, {}, 0.0)
    return {"settings": plain(begun.settings), "inputs": dict(begun.inputs), "course": course.state_dict()}


def content_to_continue(run: Run, course: Course) -> dict[str, Any] | None:
    """Returns the checkpoint content from which a training goes on, with its best checkpoint in place, or None.

    Raises:
        UserError: a training that is not finished was made with other settings in the part that was carried out.
    """
    newest = load_newest(run.paths / LAST, run.log)
    if newest is None:
        return None
    content, source = newest
    settings = None if run.begun is None else run.begun.settings
    state = _state_under(run, content, settings, course)
    if state is None:
        return None
    if content["state"]["key"] != lasting_key(run):
        inputs = content.get("made_from", {}).get("inputs", {})
        now = {} if run.begun is None else _lasting_inputs(run.begun.inputs)
        changed = why_stale(Marker(0, {}, _lasting_inputs(inputs), {}, 0.0), 0, {}, now)
        words = f"belongs to other settings or data{f' ({changed})' if changed else ''}"
        run.log(f"{shown(source)} {words}; training begins anew")
        return None
    before = content["state"]
    content["state"] = asdict(state)
    if not repair_best(run.paths / BEST, content["state"], source, run.log):
        if state.best_epoch != before["best_epoch"]:
            what = f"SOLVER.MONITOR: epoch {state.best_epoch} would be the best, whose weights are not kept"
            raise _refusal(run, what, state)
        return None
    if gone := missing_candidates(run.paths, run.loaded.config, content):
        watched = _course_before(content).monitor
        named = f"the weights of epoch {', '.join(map(str, gone))}, which AVERAGE needs,"
        if watched != course.monitor:
            what = f"SOLVER.MONITOR {watched} -> {course.monitor}: {named} are not kept"
            raise _refusal(run, what, state)
        run.log(f"{named} are gone; training begins anew")
        return None
    for change in state.changes[len(before.get("changes", ())) :]:
        run.log(f"plan changed {when(change['epoch'], change['step'])}: {'; '.join(change['what'])}")
    return content


def refuse_changed_past(run: Run) -> None:
    """Refuses, before anything is spent, what `content_to_continue` would refuse later.

    With MAX_LR auto the plan is known after the sweep only, and is compared then.
    """
    newest = load_newest(run.paths / LAST, lambda line: None)
    if newest is None:
        return
    before = _course_before(newest[0])
    if before is None:
        return
    plan = before.plan if run.loaded.config.solver.max_lr == "auto" else run.loaded.plan
    course = course_of(run, plan, before.steps_per_epoch)
    _state_under(run, newest[0], settings_of(run.stage("train"), run), course, logs=False)


def course_of(run: Run, plan: Any, steps_per_epoch: int) -> Course:
    """Returns the course of a run's training by a plan."""
    config = run.loaded.config
    starts_trained = config.experiment.load_prev is not None
    return Course(tuple(plan), config.solver.monitor, config.loss_fn.mix, steps_per_epoch, starts_trained)


def plan_to_follow(content: Mapping[str, Any] | None, plan: Any) -> Any:
    """Returns the plan by which a training goes on: as the clock has cut it, where the content says that it did."""
    return plan if content is None or not content["state"]["asked"] else _course_before(content).plan


def _as_carried_out(course: Course, content: Mapping[str, Any], settings: Mapping[str, Any] | None) -> Course:
    """Returns a course with the plan that the clock has made of it, unless plan or time are no longer those."""
    key, made = "SOLVER.FINISH_WITHIN_HOURS", content["made_from"]["settings"]
    is_same = settings is None or made.get(key) == settings.get(key)
    asked = content["state"].get("asked")
    if not asked or not is_same or asked != course.state_dict()["plan"]:
        return course
    return replace(course, plan=_course_before(content).plan)


def _course_before(content: Mapping[str, Any]) -> Course | None:
    """Returns the course that a checkpoint was made by, or None where an earlier version of the program wrote it."""
    try:
        return Course.from_state(content["made_from"]["course"])
    except (KeyError, TypeError):
        return None


def _state_under(
    run: Run, content: Mapping[str, Any], settings: Mapping[str, Any] | None, course: Course, logs: bool = True
) -> TrainState | None:
    """Returns the state of a checkpoint under today's settings and plan, or None where training begins anew.

    Args:
        settings: of the stage; None: unknown, as where a training is put together by hand.
    """
    made, state = content.get("made_from"), TrainState(**content["state"])
    before = _course_before(content)
    if before is None:
        if logs:
            run.log(f"{shown(run.paths / LAST)} belongs to another version of the program; training begins anew")
        return None
    if settings is not None and (why := _changed(made["settings"], _lasting(settings))):
        difference = Difference(1, why)
    else:
        followed = _as_carried_out(course, content, settings)
        found = under(followed, state, before)
        if isinstance(found, TrainState):
            found.asked = [] if followed is course else found.asked
            return found
        names = [] if settings is None else _named(made["settings"], settings)
        by = f" ({', '.join(names)})" if names else ""
        difference = found._replace(what=f"SOLVER.PLAN {run.loaded.config.solver.plan}{by}: {found.what}")
    if state.epoch and not is_over(before, state):
        raise _refusal(run, difference.what, state, difference.epoch)
    if logs:
        words = f"{difference.what}, which changes epoch {difference.epoch}"
        run.log(f"{shown(run.paths / LAST)} belongs to other settings: {words}; training begins anew")
    return None


def _refusal(run: Run, what: str, state: TrainState, epoch: int | None = None) -> UserError:
    trained = "1 epoch" if state.epoch == 1 else f"{state.epoch} epochs"
    changed = "" if epoch is None else f", which would change epoch {epoch}"
    free = state.epoch + (state.step > 0)
    return UserError(
        f"{what}{changed}, but {shown(run.paths / LAST)} has {trained} already.\n"
        f"To go on with it, put the old value back. What is still to come may change: a phase of the plan with AFTER: "
        f"{free} or later.\nTo begin anew, with the new value: the same command with `train --force`."
    )


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    return why_stale(Marker(0, _lasting(old), {}, {}, 0.0), 0, dict(new), {})


def _named(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns the keys of the plan that have changed, with their values."""
    keys = sorted(CHANGEABLE - {"SOLVER.PLAN"})  # the content of the plan is compared by itself
    return [f"{key} {old.get(key)} -> {new.get(key)}" for key in keys if old.get(key) != new.get(key)]


def _lasting(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in CHANGEABLE}


def _lasting_inputs(inputs: Hashes) -> Hashes:
    """Returns the inputs without the sweep's suggestion: it counts as the MAX_LR of the plan."""
    return {name: content_hash for name, content_hash in inputs.items() if name != SWEEP_FACTS}
