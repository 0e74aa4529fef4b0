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
    """A batch that some members predict: `indices` into `dataset`, `members` by their numbers.

    Of a large image it is all batches of its windows, which are read again for each member, as they come.
    """

    dataset: Any
    batches: tuple[tuple[int, ...], ...]
    members: list[int]
    collate: Callable[[list], Batch]

    def read(self) -> Iterator[Batch]:
        """Yields the batches."""
        for indices in self.batches:
            yield self.collate([self.dataset[index] for index in indices])


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
            job, batches = next(jobs)
            for number in job.members:
                if number not in predictors:
                    predictors[number] = sources[number].open()
                for other_id, prediction in sources[number].task.predict(predictors[number], batches or job.read()):
                    if number in wanted.get(other_id, ()):
                        waiting[number, other_id] = prediction
        yield image_id, [waiting.pop((number, image_id)) for number in numbers]


def plan_jobs(sources: Sequence[Source], wanted: Mapping[str, Sequence[int]]) -> list[Job]:
    """Returns the batches to predict, each once, in the order in which their first image is wanted."""
    batches_of: list[dict[str, tuple[tuple[int, ...], ...]]] = []
    for source in sources:
        own: dict[str, tuple[tuple[int, ...], ...]] = {}
        for batch in map(tuple, same_size_batches(source.dataset, source.batch_size)):
            for image_id in dict.fromkeys(map(source.dataset.image_id, batch)):
                own[image_id] = (*own.get(image_id, ()), batch)
        batches_of.append(own)
    jobs: dict[tuple, Job] = {}
    for image_id, numbers in wanted.items():
        for number in numbers:
            dataset, batches = sources[number].dataset, batches_of[number][image_id]
            seen = ((dataset.frame(batch[0]), *map(dataset.image_id, batch)) for batch in batches)
            alike = (dataset.padding, *seen)
            job = jobs.setdefault(alike, Job(dataset, batches, [], sources[number].task.collate_valid))
            if number not in job.members:
                job.members.append(number)
    return list(jobs.values())


def _decoded(jobs: Sequence[Job], num_threads: int) -> Iterator[tuple[Job, Sequence[Batch] | None]]:
    """Yields each job with its images, a few batches ahead where there are threads for it; None for a large image's."""
    if not num_threads:
        for job in jobs:
            yield job, list(job.read()) if len(job.batches) == 1 else None
        return
    pool = ThreadPoolExecutor(num_threads)
    try:
        ahead: deque = deque()
        for job in jobs:
            indices = job.batches[0] if len(job.batches) == 1 else ()
            ahead.append((job, [pool.submit(job.dataset.__getitem__, index) for index in indices]))
            if len(ahead) > BATCHES_AHEAD:
                yield _finished(*ahead.popleft())
        while ahead:
            yield _finished(*ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(job: Job, futures: Sequence) -> tuple[Job, Sequence[Batch] | None]:
    return job, [job.collate([future.result() for future in futures])] if futures else None
