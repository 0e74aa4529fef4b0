"""Several members' predictions image by image, straight from their networks: no store is written.

In: per member, its network and the images that it could predict; which members are wanted for which image. Out:
each wanted image with those members' predictions, in the order wanted.

A member predicts in the very batches in which it would fill its store, so that what comes out has the same bits as what
would have been read there, after a kill too: of a batch that was half used, all is predicted again. An image that
several members see padded alike is decoded once. Memory: all networks (a few ten to hundred MB of weights each) and of
each one batch of predictions; neither grows with the number of images.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipeline.data.loaders import same_size_batches
from pipeline.task import Batch, Task

BATCHES_AHEAD = 2  # decoded while the networks work on the one before


@dataclass(frozen=True)
class Source:
    """A member that can predict.

    Attributes:
        open: loads its network; called once, when its first image comes.
        dataset: every image that it would predict into its store, in that order.
        batch_size: of its store too.
        task: of its competition.
    """

    open: Callable[[], Any]
    dataset: Any
    batch_size: int
    task: Task


@dataclass(frozen=True)
class Job:
    """A batch that some members predict: `indices` into `dataset`, `members` by their numbers."""

    dataset: Any
    indices: tuple[int, ...]
    members: list[int]
    collate: Callable[[list], Batch]


def stream(
    sources: Sequence[Source], wanted: Mapping[str, Sequence[int]], num_threads: int = 0
) -> Iterator[tuple[str, list[Any]]]:
    """Yields (image id, predictions of its members) in the order of `wanted`.

    Args:
        sources: all members.
        wanted: numbers of the members that are to predict an image, by its id.
        num_threads: threads that decode images; 0: the caller's own.
    """
    predictors: dict[int, Any] = {}
    waiting: dict[tuple[int, str], Any] = {}
    jobs = _decoded(plan_jobs(sources, wanted), num_threads)
    for image_id, numbers in wanted.items():
        while any((number, image_id) not in waiting for number in numbers):
            job, batch = next(jobs)
            for number in job.members:
                if number not in predictors:
                    predictors[number] = sources[number].open()
                for other_id, prediction in sources[number].task.predict(predictors[number], [batch]):
                    if number in wanted.get(other_id, ()):
                        waiting[number, other_id] = prediction
        yield image_id, [waiting.pop((number, image_id)) for number in numbers]


def plan_jobs(sources: Sequence[Source], wanted: Mapping[str, Sequence[int]]) -> list[Job]:
    """Returns the batches to predict, each once, in the order in which their first image is wanted."""
    batch_of: list[dict[str, tuple[int, ...]]] = []
    for source in sources:
        batches = [tuple(batch) for batch in same_size_batches(source.dataset, source.batch_size)]
        batch_of.append({source.dataset.rows[index].id: batch for batch in batches for index in batch})
    jobs: dict[tuple, Job] = {}
    for image_id, numbers in wanted.items():
        for number in numbers:
            dataset, indices = sources[number].dataset, batch_of[number][image_id]
            alike = (dataset.padding, *(dataset.rows[index].id for index in indices))
            job = jobs.setdefault(alike, Job(dataset, indices, [], sources[number].task.collate_valid))
            if number not in job.members:
                job.members.append(number)
    return list(jobs.values())


def _decoded(jobs: Sequence[Job], num_threads: int) -> Iterator[tuple[Job, Batch]]:
    """Yields each job with its images, a few batches ahead where there are threads for it."""
    if not num_threads:
        for job in jobs:
            yield job, job.collate([job.dataset[index] for index in job.indices])
        return
    pool = ThreadPoolExecutor(num_threads)
    try:
        ahead: deque = deque()
        for job in jobs:
            ahead.append((job, [pool.submit(job.dataset.__getitem__, index) for index in job.indices]))
            if len(ahead) > BATCHES_AHEAD:
                yield _finished(*ahead.popleft())
        while ahead:
            yield _finished(*ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(job: Job, futures: Sequence) -> tuple[Job, Batch]:
    return job, job.collate([future.result() for future in futures])
