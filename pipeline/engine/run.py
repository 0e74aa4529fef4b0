"""What a stage is, and what it is given: the two records on which everything else in `engine/` works.

A stage reads files and writes files below the run's folder. The engine knows no task and no image: it moves names,
hashes and functions. `tests/engine/test_toy_chain.py` runs a chain that counts words.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.engine.freshness import Marker
from pipeline.engine.stopping import Stop
from pipeline.paths import Folders, RunPaths

Sources = dict[str, "Path | list[Path]"]  # paths by a name for messages


def named(name: str) -> Any:
    """Returns what `module:attribute` names, imported now."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True)
class Lazy:
    """What `lazy` returns; unlike a function in a function it can be pickled, for data-loading workers."""

    target: str
    last: tuple[Any, ...]
    always: Mapping[str, Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return named(self.target)(*args, *self.last, **kwargs, **self.always)


def lazy(name: str, *last: Any, **always: Any) -> Lazy:
    """Returns a function that imports `module:function` at its first call, so that a skipped stage costs nothing.

    Args:
        last: arguments to be added behind those of the call.
        always: keyword arguments of every call.

    >>> lazy("math:sqrt")(9)
    3.0
    """
    return Lazy(name, last, always)


@dataclass(frozen=True)
class Stage:
    """A step of the chain, as data.

    Attributes:
        does: one line for the log.
        function: does the work.
        settings: prefixes of the config keys that its result depends on.
        reads: files and folders below the run's folder, written by earlier stages.
        writes: files and folders below the run's folder.
        reads_outside: paths outside the run's folder (competition, weights, an earlier run), by a name for messages.
            A path that is absent when the stage has run before counts as unchanged.
        writes_outside: likewise.
        lacks: whether a product outside the run's folder is gone; it is made again when a later stage needs it.
        check: refuses early what the stage could not do later; called before the first stage runs.
        version: to be raised when the same inputs would give another result.
        leaves: patterns of other files that it leaves below the run's folder and that no later stage needs.
        is_shared: whether a sibling run's result is reused.
        is_on: whether a config, in the form of `Run.loaded`, has the stage.
        tidy: removes files that nobody needs once the stage is finished; called then, and when it is up to date.
        despite: names of earlier stages; where one of them is refused, this stage runs all the same.
        done: the state of a run that has come as far as this stage, in a word for lists.
    """

    name: str
    does: str
    function: Callable[[Run], None]
    settings: Callable[[Run], tuple[str, ...]] | tuple[str, ...]
    reads: Callable[[Run], tuple[str, ...]] | tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    reads_outside: Callable[[Run], Sources] = field(default=lambda run: {})
    writes_outside: Callable[[Run], dict[str, Path]] = field(default=lambda run: {})
    lacks: Callable[[Run], bool] = field(default=lambda run: False)
    check: Callable[[Run], None] = field(default=lambda run: None)
    version: int = 1
    leaves: tuple[str, ...] = ()
    is_shared: bool = False
    is_on: Callable[[Any], bool] = field(default=lambda loaded: True)
    tidy: Callable[[Run], None] = field(default=lambda run: None)
    despite: tuple[str, ...] = ()
    done: str = ""


@dataclass(frozen=True)
class Run:
    """One run of a config, with everything around it that a stage needs: what a stage's function receives.

    Attributes:
        loaded: the resolved config, such as `pipeline.config.load.Loaded`. The engine needs its `name`, `run` (the name
            of the folder), `settings` by dotted key, and `text`, which is written into the folder.
        folders: where runs, submissions, data and weights are.
        log: takes a line for the user.
        stop: whether the run should end soon.
        stages_of: the stages of a config, in order.
        task_of: the task of a config, a record of functions that the engine itself never looks at.
        key: hash of everything that the current stage depends on; a partial result with another key is not continued.
        begun: the same in full, for a stage that continues a partial result although some of it has changed.
        is_forced: whether the current stage is to begin anew, whatever is there.
        began_s: when this session began to work on the run, by `Stop.now_s`.
    """

    loaded: Any
    folders: Folders
    log: Callable[[str], None]
    stop: Stop
    stages_of: Callable[[Any], tuple[Stage, ...]]
    task_of: Callable[[Any], Any] = lambda loaded: None
    key: str = ""
    begun: Marker | None = None
    is_forced: bool = False
    began_s: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        return self.loaded.run

    @property
    def paths(self) -> RunPaths:
        return self.folders.run(self.loaded.run)

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.stages_of(self.loaded)

    @property
    def task(self) -> Any:
        return self.task_of(self.loaded)

    def stage(self, name: str) -> Stage:
        """Returns a stage of this run by its name."""
        return next(stage for stage in self.stages if stage.name == name)

    def of(self, loaded: Any) -> Run:
        """Returns another config's run in the same context."""
        return replace(self, loaded=loaded, key="", begun=None, is_forced=False)
