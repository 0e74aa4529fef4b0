"""`submit` with a time limit: predicts member by member and leaves out what does not fit.

The best member by out-of-fold score or weight comes first. A submission is written before anything is predicted,
again after the first images, and then whenever that is cheap; each replaces the one before only when it is complete, so
if the session dies the last one is kept. What is left out, in this order: members that do not fit as a whole, test-time
augmentation of the best one, its last images. Images without a prediction are written as empty.

A run without members is its own only member.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from tqdm import tqdm

from pipeline.config.members import member_names
from pipeline.data.catalog import read_catalog
from pipeline.data.loaders import image_loader, valid_batches
from pipeline.engine.chain import stage_seconds
from pipeline.engine.reuse import sibling_runs
from pipeline.engine.run import Run
from pipeline.errors import DiskTooSmall, Stopped, UserError
from pipeline.files import write_atomic
from pipeline.paths import STREAM, TEST_CATALOG, WITHOUT_TTA
from pipeline.prediction.pace import MARGIN, Pace, WriteTime
from pipeline.prediction.store import StoreWriter
from pipeline.training.assemble import load_predictor, predicting_content
from pipeline.wording import duration
from pipeline.work.inputs import image_folder, large_ids, member_runs, sizes_of
from pipeline.work.members import combination_facts
from pipeline.work.predict import windows_until_stopped
from pipeline.work.writing import amend, write_checked_submission

REWRITE_SHARE = 0.1  # while predicting, another submission may take this share of the time since the last


def submit_within_limit(run: Run, decoding: Mapping[str, Any]) -> None:
    """Writes the best submission that fits into SUBMIT.TIME_LIMIT_HOURS, counted from the start of the command.

    Args:
        decoding: the content of decode.json.

    Raises:
        Stopped: it was asked to stop; the last submission that was written stays.
    """
    work = LimitedSubmission(run, decoding)
    best, *others = work.order
    work.write()
    work.predict_best(best)
    for number in others:
        work.add(number)
    work.finish()


class LimitedSubmission:
    """A submission that grows until the time is over.

    Attributes:
        order: numbers of the members, best first.
        used: members that have predicted every image.
        left_out: why other members are not used, by their numbers.
        without_tta: whether images were predicted without the test-time augmentation that the config asks for.
        pixels: of each test image, by its id.
    """

    def __init__(self, run: Run, decoding: Mapping[str, Any]) -> None:
        self.run, self.decoding = run, decoding
        self.members, self.found = member_runs(run), combination_facts(run)
        self.names = member_names([member.loaded for member in self.members])
        self.order: list[int] = [0] if self.found is None else run.task.member_order(run, self.found)
        self.used: list[int] = []
        self.left_out: dict[int, str] = {}
        self.without_tta = False
        self.test = read_catalog(run.paths / TEST_CATALOG)
        self.pixels = {row.id: int(row.height) * int(row.width) for row in self.test.itertuples()}
        limit_s = run.loaded.config.submit.time_limit_hours * 3600
        self.limit = duration(limit_s)
        self.deadline_s = run.stop.started_s + limit_s - MARGIN * _report_seconds(run)
        self.stores: dict[int, StoreWriter] = {}
        self.longest_start_s = 0.0
        self.write_time = WriteTime()
        self.written: tuple[int, int] | None = None  # of how many members and pixels the last submission was made
        self.written_s = run.stop.now_s()

    @property
    def time_left_s(self) -> float:
        """The time until the limit, without that of the report; below 0 when it is over."""
        return self.deadline_s - self.run.stop.now_s()

    @property
    def shown(self) -> list[int]:
        """The members of which the submission is made: those used, or the best one, even if unfinished."""
        return sorted(self.used) or list(self.stores)[:1]

    def missing(self) -> list[str]:
        """Returns the images without a prediction, in the order of the list."""
        return self._missing_of(self.shown[0]) if self.shown else list(self.pixels)

    def predict_best(self, number: int) -> None:
        """Predicts the images with the best member; if time is short, without test-time augmentation, or only some."""
        member = self.members[number]
        is_done = self._has_time() and self._predict_early(number, member)
        if not is_done and member.loaded.config.predict.has_copies and self._has_time():
            num_left = len(self._missing_of(number))
            self.run.log(f"time limit: {num_left} of {len(self.pixels)} images without test-time augmentation")
            self.without_tta = True
            _mark_plain(self.stores[number])
            is_done = self._predict_early(number, _without_tta(member))
        if is_done:
            self.used.append(number)
            self.write()
        else:
            self.left_out |= dict.fromkeys(self.order[1:], "no time was left")

    def add(self, number: int) -> None:
        """Predicts all images with one more member, or leaves it out as soon as that does not fit."""
        if number in self.left_out:
            return
        write_s = self._write_s(len(self.used) + 1)
        if self.time_left_s < self.longest_start_s + write_s:
            self.left_out[number] = f"not started, only {duration(max(0.0, self.time_left_s))} were left"
            return
        try:
            for pace in self._predict(number, self.members[number]):
                needed_s = write_s + (pace.next_s if pace.left_s is None else pace.left_s)
                if self.time_left_s < needed_s:
                    times = f"{duration(needed_s)} more were needed, {duration(max(0.0, self.time_left_s))} were left"
                    self.left_out[number] = times
                    return
        except UserError as error:  # the other members go on without it
            self.left_out[number] = str(error)
            self.run.log(f"warning: {self.members[number].name}: {error}")
            return
        self.used.append(number)
        if number != self.order[-1] and self._is_cheap_to_write():
            self.write()

    def write(self) -> None:
        """Writes and checks the submission from what is predicted so far, and measures how long that takes."""
        run, began_s, numbers = self.run, self.run.stop.now_s(), self.shown
        found = self.found if self.found is None or not numbers else run.task.reduced(self.found, numbers)[0]
        decode = run.task.decoder(run, found, self.decoding)
        heights = self.test.set_index("id")[["height", "width"]]

        def decoded(image_id: str) -> Any:
            predictions = [self.stores[number].view(image_id, run.task.unpack) for number in numbers]
            if not predictions or predictions[0] is None:
                return run.task.empty(run.loaded.competition, tuple(map(int, heights.loc[image_id])))
            return decode(predictions)

        write_checked_submission(run, decoded, self.decoding, self.facts())
        self.written, self.written_s = self._state(), run.stop.now_s()
        self.write_time.add(self._shown_pixels(), self.written_s - began_s)

    def finish(self) -> None:
        """Writes the last submission if there is more than in the one before; logs what is left out."""
        if self.written != self._state():
            self.write()
        else:
            amend(self.run, self.facts())
        facts = self.facts()
        if "shortened" in facts:
            self.run.log(f"warning: {facts['shortened']}")
        else:
            self.run.log(f"time limit: everything fits into {self.limit}")

    def facts(self) -> dict[str, Any]:
        """Returns what the origin file says about the time limit; a shortened submission has no local score."""
        missing, lines, facts = len(self.missing()), [], {"time_limit": self.limit}
        if missing:
            lines.append(f"{missing} of {len(self.pixels)} images were not predicted and are empty")
        if self.without_tta:
            lines.append("some images were predicted without test-time augmentation")
        if len(self.members) > 1:
            names = [self.names[number] for number in self.shown]
            facts["members"] = ", ".join(names) or "none"
            absent = {self.names[number]: self._why_absent(number) for number in self._absent()}
            if absent:
                listed = "; ".join(f"{name} ({why})" for name, why in absent.items())
                lines.append(f"{len(names)} of {len(self.members)} members are used; left out: {listed}")
                lines += [self.run.task.reduced(self.found, self.shown)[1]] if self.shown else []
        if lines:
            facts["shortened"] = f"time limit of {self.limit}: " + ". ".join(lines)
            facts |= {"local_score": None, "local_scores": {}}
        return facts

    def _predict_early(self, number: int, member: Run) -> bool:
        """Predicts the images with the best member and writes in between; returns whether all are predicted.

        It stops early if not all images fit and augmentation can still be left out, or if the next batch does not fit.
        """
        has_less = member.loaded.config.predict.has_copies
        try:
            for pace in self._predict(number, member):
                if not self._missing_of(number):
                    return True
                if has_less and pace.left_s is not None and self.time_left_s < pace.left_s + self._write_s(1):
                    return False
                if self.time_left_s < pace.next_s + self._write_s():
                    return False
                is_first_chance = pace.left_s is not None and self.written == (0, 0)
                if is_first_chance or self._is_cheap_to_write():
                    self.write()
        except DiskTooSmall as error:
            self.run.log(f"warning: {error}")
        return not self._missing_of(number)

    def _predict(self, number: int, member: Run) -> Iterator[Pace]:
        """Predicts what a member has not predicted yet; yields its pace after each batch.

        Raises:
            Stopped: it was asked to stop.
        """
        task, stop, pace = self.run.task, self.run.stop, Pace(0, self.run.stop.now_s())
        if number not in self.stores:
            folder, key = self.run.paths / STREAM / f"member-{number}", f"{self.run.key} member {number}"
            alone = large_ids(self.test, self.run.loaded.competition.image.whole_px)
            self.stores[number] = StoreWriter(folder, key, list(self.pixels), {}, task.pack, member.log, alone)
        self.without_tta |= _marks_plain(self.stores[number])
        writer, missing = self.stores[number], self._missing_of(number)
        if not missing:
            return
        pace.total = sum(self.pixels[image_id] for image_id in missing)
        rows = self.test[self.test["id"].isin(missing)]
        predictor = load_predictor(member, predicting_content(member))
        dataset = task.valid_data(member, image_folder(member, "test"), rows)
        writer.expect(*task.stored_bytes(predictor, sizes_of(rows)))
        options = member.loaded.config.dataloaders.valid
        pins = options.pin_memory and predictor.device.type == "cuda"
        batch_size, num_workers = options.batch_size, options.num_workers
        loader = image_loader(dataset, batch_size, task.collate_valid, num_workers, pins, log=member.log)
        with tqdm(total=len(missing), desc=member.name, unit="image", leave=False, disable=None) as bar:
            # All windows of a large image in one call, which joins them.
            for _, batches in groupby(valid_batches(loader), lambda batch: batch.windows_of or object()):
                predictions = list(task.predict(predictor, windows_until_stopped(self.run, batches)))
                for image_id, prediction in predictions:
                    writer.put(image_id, prediction)
                pace.add(sum(self.pixels[image_id] for image_id, _ in predictions), stop.now_s())
                self.longest_start_s = max(self.longest_start_s, pace.start_s)
                bar.update(len(predictions))
                if stop.requested:
                    raise Stopped(f"{stop.reason}, {bar.n} of {len(missing)} images predicted by {member.name}")
                yield pace

    def _missing_of(self, number: int) -> list[str]:
        writer = self.stores.get(number)
        if writer is None:
            return list(self.pixels)
        return [image_id for image_id in writer.missing() if image_id not in writer.parts.pending]

    def _shown_pixels(self) -> int:
        """Returns the pixels of all predictions of which the submission is made."""
        num_pixels = sum(self.pixels.values()) - sum(self.pixels[image_id] for image_id in self.missing())
        return num_pixels * len(self.shown)

    def _state(self) -> tuple[int, int]:
        return len(self.shown), self._shown_pixels()

    def _write_s(self, num_members: int | None = None) -> float:
        """Returns how long it takes to write what there is now, or all images of so many members."""
        pixels = self._shown_pixels() if num_members is None else num_members * sum(self.pixels.values())
        return self.write_time.expected_s(pixels)

    def _has_time(self) -> bool:
        """Returns whether one batch more may fit."""
        return self.time_left_s >= self._write_s() + self.longest_start_s

    def _is_cheap_to_write(self) -> bool:
        return self._write_s() <= REWRITE_SHARE * (self.run.stop.now_s() - self.written_s)

    def _absent(self) -> list[int]:
        return [number for number in self.order if number not in self.shown]

    def _why_absent(self, number: int) -> str:
        return self.left_out.get(number, "not predicted yet")


def _mark_plain(writer: StoreWriter) -> None:
    """Notes in a store that images from now on are predicted without test-time augmentation, for a later process."""
    write_atomic(writer.folder / WITHOUT_TTA, writer.key)


def _marks_plain(writer: StoreWriter) -> bool:
    path = writer.folder / WITHOUT_TTA
    return path.is_file() and path.read_text(encoding="utf-8") == writer.key


def _without_tta(member: Run) -> Run:
    config = member.loaded.config
    plain = replace(config, predict=replace(config.predict, tta="none", scales=None, scale_weights=None))
    return replace(member, loaded=replace(member.loaded, config=plain))


def _report_seconds(run: Run) -> float:
    """Returns how long the report of another run of this config took, 0 where there is none."""
    return max((stage_seconds(run.stages, paths).get("report", 0.0) for paths in sibling_runs(run)), default=0.0)
