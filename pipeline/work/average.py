"""`average`: a mean of several networks' weights, adopted only where it is better than the run's best epoch.

In: `best.ckpt`, and the kept epochs or the best checkpoints of other runs. Out: `chosen.ckpt`, with which the run
predicts, and `average.json`, which says what was compared and why it was adopted or not.

Both networks predict the validation images once each, whatever PREDICT says. The mean is adopted where the lower bound
of its gain per image is above 0. Images on which the run was trained prove nothing and are left out.

Letters: I images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from pipeline.config.members import member_command
from pipeline.data.loaders import image_loader, valid_batches
from pipeline.engine.run import Run
from pipeline.errors import Stopped
from pipeline.files import second_name, write_json
from pipeline.intervals import LEAST_SEQUENCES, Interval, group_numbers
from pipeline.paths import AVERAGE, BEST, CHOSEN, HISTORY, STREAM, shown
from pipeline.report.read import read_columns, read_json
from pipeline.report.trained_on import own_images
from pipeline.scores import LABELS, per_image_score
from pipeline.training.assemble import load_network, open_data
from pipeline.training.averaging import mean_weights, moving_norms, renew_statistics
from pipeline.training.candidates import load_candidates, wanted_epochs
from pipeline.training.checkpoint import load_or_refuse, save_checkpoint
from pipeline.training.encoder import normalise, scaling_of
from pipeline.training.inputs import split_rows
from pipeline.training.learner import autocast, validated_weights
from pipeline.training.soup import Soup, choose_soup
from pipeline.training.weights import refuse_unfit
from pipeline.verdicts import held_out_gain
from pipeline.work.average_runs import check_runs, note_other_starts, weights_of_run
from pipeline.work.combining import forget_streamed
from pipeline.work.inputs import competition_folder
from pipeline.work.predict import windows_until_stopped

BEST_EPOCH = (0,)  # the networks of which it is the mean: the first one


def average(run: Run) -> None:
    """Writes `chosen.ckpt` and `average.json`."""
    check_runs(run)
    work = Averaging(run)
    facts = work.of_runs() if run.loaded.config.average.method == "greedy" else work.of_epochs()
    if facts["adopted"]:
        state = {name: work.best["state"][name] for name in ("key", "epoch", "best_epoch", "history")}
        content = {"network": work.weights(tuple(facts["soup"])), "ema": None, "state": state}
        save_checkpoint(run.paths / CHOSEN, {**content, "averaged": facts["weights"]})
    else:
        second_name(run.paths / BEST, run.paths / CHOSEN)
    write_json(run.paths / AVERAGE, facts)
    run.log(facts["words"])
    forget_streamed(run)


class Averaging:
    """The networks of which a mean may be taken, by number, and the scores of means of them.

    Number 0 is the run's best epoch; the others are its kept epochs, or other runs. A mean is named by the numbers of
    its networks.

    Attributes:
        names: of the networks, for people.
        rows: catalog rows of the validation images on which the run was not trained.
        groups: the sequence of each, as a number.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.average = run, run.loaded.config.average
        self.best = load_or_refuse(run.paths / BEST, f"train it: {member_command(run.loaded, 'train')}")
        self.epochs: tuple[int, ...] = ()
        if self.average.keeps_epochs:
            self.epochs = wanted_epochs(run.loaded.config, _history(run))
        others = [f"epoch {epoch}" for epoch in self.epochs] or list(self.average.runs)
        self.names = [f"epoch {self.best['state']['best_epoch']}" if self.epochs else run.name, *others]
        rows, seen = split_rows(run.paths, "valid"), own_images(run)
        self.rows = rows[[seen is not None and image_id not in seen for image_id in rows["id"]]]
        self.groups = group_numbers(self.rows["id"].tolist(), self.rows["sequence"].tolist())
        self.score = per_image_score(run.loaded.competition.score)
        self.known_path = run.paths / STREAM / AVERAGE
        known = read_json(self.known_path) or {}
        self.known: dict[str, list[float]] = known["scores"] if known.get("key") == run.key else {}
        self.num_norms = 0
        self.last: tuple[Soup, dict[str, Tensor]] | None = None

    def of_epochs(self) -> dict[str, Any]:
        """Returns the content of average.json on the mean of the kept epochs, of which nothing has to be chosen."""
        soup = tuple(range(1, len(self.names)))
        words = f"mean of epochs {', '.join(map(str, self.epochs))}"
        monitor = self.run.loaded.config.solver.monitor
        history = _history(self.run)
        networks = [{"name": f"epoch {epoch}", monitor: history[epoch][monitor]} for epoch in self.epochs]
        if not len(self.rows):
            return self._facts(soup, words, networks, None, "no validation image is out of fold for this run")
        own, mean = self.scores(BEST_EPOCH), self.scores(soup)
        return self._facts(soup, words, networks, self._gain(mean - own), compared=(own, mean))

    def of_runs(self) -> dict[str, Any]:
        """Returns the content of average.json on a greedy soup of this run and others."""
        num_sequences = len(np.unique(self.groups))
        if num_sequences < LEAST_SEQUENCES:
            why = f"choosing needs {LEAST_SEQUENCES} out-of-fold sequences or more, found {num_sequences}"
            return self._facts(BEST_EPOCH, "greedy mean", [{"name": name} for name in self.names], None, why)
        note_other_starts(self.run)
        is_known = ~np.isnan(self.scores(BEST_EPOCH))
        groups = self.groups[is_known]
        chosen = choose_soup(len(self.names), lambda soup: self.scores(soup)[is_known], groups)
        networks = [
            {"name": name, "score": _mean(self.scores((number,))), "is_used": number in chosen.soup}
            for number, name in enumerate(self.names)
        ]
        names = ", ".join(self.names[number] for number in chosen.soup)
        words = f"greedy mean of {names}" if len(chosen.soup) > 1 else f"the weights of {names} alone"
        compared = (self.scores(BEST_EPOCH), self.scores(chosen.soup))
        facts = self._facts(chosen.soup, words, networks, (chosen.gain, chosen.verdict), compared=compared)
        runs = [self.names[number] for number in chosen.soup if number] if facts["adopted"] else []
        by_fold = [[self.names[number] for number in soup] for soup in chosen.by_fold]
        return facts | {"in_sample": chosen.in_sample, "by_fold": by_fold, "runs": runs}

    def scores(self, soup: Soup) -> np.ndarray:
        """Returns the score of each image by a mean of networks, float64 (I,), NaN where it has none.

        It is computed once, even if the stage is killed in between.
        """
        name = " ".join(map(str, soup))
        if name not in self.known:
            self.known[name] = self._score(self.weights(soup), self._named(soup)).tolist()
            write_json(self.known_path, {"key": self.run.key, "scores": self.known})
        return np.array(self.known[name])

    def weights(self, soup: Soup) -> dict[str, Tensor]:
        """Returns the mean of networks, with its own statistics of batch norms; the best epoch as it is."""
        if self.last is None or self.last[0] != soup:
            self.last = (soup, self._mean(soup))
        return self.last[1]

    def _mean(self, soup: Soup) -> dict[str, Tensor]:
        mean = mean_weights(self._networks(soup))
        if mean.count == 1:
            return mean.weights
        network, device, precision = load_network(self.run, mean.weights, self._named(soup))
        norms, encoder = moving_norms(network, mean.differing), self.run.loaded.config.model.encoder
        self.num_norms = len(norms)

        def forward(images_BHWC: Tensor) -> None:
            with autocast(device, precision):
                network(normalise(images_BHWC.to(device, non_blocking=True), scaling_of(network, encoder)))

        renew_statistics(network, norms, self._training_images(), forward)
        return {name: value.cpu() for name, value in network.state_dict().items()}

    def _networks(self, soup: Soup) -> Iterator[Mapping[str, Tensor]]:
        """Yields the weights of networks one after the other; UserError: they are not of the kind of the first."""
        own = validated_weights(self.best)
        for number in soup:
            weights = own if number == 0 else self._weights_of(number)
            refuse_unfit(weights, own, self.names[number])
            yield weights

    def _weights_of(self, number: int) -> Mapping[str, Tensor]:
        if self.epochs:
            epochs, key = self.epochs[number - 1 : number], self.best["state"]["key"]
            return next(load_candidates(self.run.paths, epochs, key))
        return weights_of_run(self.run, self.names[number])

    @cached_property
    def _data(self) -> Any:
        return open_data(self.run)

    def _training_images(self) -> Iterator[Tensor]:
        """Yields the first batches of the best epoch again, up to AVERAGE.SAMPLES samples, as training saw them."""
        state, count = self.best["state"], 0
        name = read_columns(self.run.paths / HISTORY)["phase"][state["best_epoch"]]  # a phase may have been renamed
        augment = next(phase.augment for phase in self.run.loaded.plan if phase.name == name)
        batches = self._data.train_batches(max(1, state["epoch"]), 0, augment, state["class_scores"])
        for batch in batches:
            if count and count + len(batch.images) > self.average.samples:
                return
            self._refuse_to_go_on()
            yield batch.images
            count += len(batch.images)

    def _score(self, weights: Mapping[str, Tensor], name: str) -> np.ndarray:
        run, task, options = self.run, self.run.task, self.run.loaded.config.dataloaders.valid
        folder = competition_folder(run)
        predictor = task.make_predictor(run.loaded, *load_network(run, weights, name), is_plain=True)
        dataset, score_of = task.valid_data(run, folder, self.rows.drop(columns="mask")), task.image_scorer(run, folder)
        pins = options.pin_memory and predictor.device.type == "cuda"
        loader = image_loader(dataset, options.batch_size, task.collate_valid, options.num_workers, pins, log=run.log)
        rows, scores = {row.id: row for row in self.rows.itertuples()}, {}
        with tqdm(total=len(rows), desc=f"score {name}", unit="image", leave=False, disable=None) as bar:
            for image_id, prediction in task.predict(predictor, windows_until_stopped(run, valid_batches(loader))):
                scores[image_id] = score_of(rows[image_id], prediction)
                bar.update()
                self._refuse_to_go_on()
        return np.array([scores[image_id] for image_id in rows])

    def _refuse_to_go_on(self) -> None:
        if self.run.stop.requested:
            raise Stopped(f"{self.run.stop.reason}, while weights are averaged; scores kept: {len(self.known)}")

    def _named(self, soup: Soup) -> str:
        if soup == BEST_EPOCH:
            return shown(self.run.paths / BEST)
        return " + ".join(self.names[number] for number in soup)

    def _gain(self, gains: np.ndarray) -> tuple[Interval, str] | None:
        is_known = ~np.isnan(gains)
        return held_out_gain(gains[is_known], self.groups[is_known]) if is_known.any() else None

    def _facts(
        self,
        soup: Soup,
        mean: str,
        networks: list[dict[str, Any]],
        found: tuple[Interval, str] | None,
        why: str = "no validation image has a score",
        compared: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """Returns the content of average.json.

        Args:
            mean: what was averaged, in words.
            networks: of which it may be made.
            found: the gain and the verdict on it; None where nothing could be compared, for the reason `why`.
            compared: scores of the best epoch and of the mean.
        """
        own, averaged = (None, None) if compared is None else map(_mean, compared)
        gain, verdict = found or (None, "")
        is_adopted, label = gain is not None and gain.low > 0, LABELS[self.score]
        best = f"epoch {self.best['state']['best_epoch']}"
        if gain is None:
            words = f"not averaged: {why}; the weights of {best} stay"
        else:
            about = f"{mean}: {label} {own:.4f} -> {averaged:.4f} on {_counted(len(self.rows), gain)}"
            decision = "adopted" if is_adopted else f"the weights of {best} stay"
            words = f"{about}\ngain {gain}: {verdict}; {decision}"
        return {
            "method": self.average.method,
            "score": self.score,
            "images": len(self.rows),
            "networks": networks,
            "soup": list(soup),
            "best": own,
            "averaged": averaged,
            "gain": None if gain is None else {name: _finite(value) for name, value in vars(gain).items()},
            "verdict": verdict,
            "renewed_norms": self.num_norms,
            "adopted": is_adopted,
            "weights": mean if is_adopted else f"{best}, the best one",
            "words": words,
        }


def _counted(num_images: int, gain: Interval) -> str:
    sequences = "1 sequence" if gain.num_groups == 1 else f"{gain.num_groups} sequences"
    return f"{num_images} validation images of {sequences}"


def _mean(scores: np.ndarray) -> float | None:
    return None if np.isnan(scores).all() else float(np.nanmean(scores))


def _finite(value: float) -> float | None:
    """Returns a number as JSON can have it; an end of the interval of one sequence is infinite."""
    return value if math.isfinite(value) else None


def _history(run: Run) -> list[dict[str, float | None]]:
    """Returns the monitored value of each epoch, from 0 on."""
    monitor, columns = run.loaded.config.solver.monitor, read_columns(run.paths / HISTORY)
    return [{monitor: json.loads(cell) if cell else None} for cell in columns[monitor]]
