"""Weights of an earlier network for a new one: of a run, of a file, or of a published network.

In: EXPERIMENT.LOAD_PREV and LOAD_PART. Out: a network with these weights, and lines on what was taken and what is new.

Tensors that belong to the classes (those of the last layer) are taken only where both networks have the same classes in
the same order; with LOAD_PART `classes`, each class that both have keeps its own part of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.data.table import read_table
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.paths import BEST, CLASSES, shown
from pipeline.training.checkpoint import load_or_refuse
from pipeline.training.encoder import with_channels
from pipeline.training.inputs import find_checkpoint, how_to_train
from pipeline.training.learner import validated_weights
from pipeline.training.weights import load_weights, read_safetensors, refuse_other_kinds

MOST_LISTED = 6  # tensors that a line names


def load_previous(run: Run, network: nn.Module) -> None:
    """Fills a network from what EXPERIMENT.LOAD_PREV names, as LOAD_PART says; logs what does not come from there.

    Raises:
        UserError: there is no such network, it is damaged, a tensor is of another kind, or (LOAD_PART: all) does not
            fit; or nothing fits.
    """
    settings = run.loaded.config.experiment
    path = find_checkpoint(settings.load_prev, run.folders)
    origin, state = f"EXPERIMENT.LOAD_PREV {settings.load_prev}", read_weights(path)
    own_classes, classes = run.loaded.competition.class_names, classes_of(path)
    if settings.load_part == "all":
        load_weights(network, state, origin, ", or EXPERIMENT.LOAD_PART=fitting to take what fits")
        if classes not in (None, list(own_classes)):
            run.log(f"note: {origin} has a last layer for other classes; EXPERIMENT.LOAD_PART=fitting starts a new one")
        return
    if settings.load_part == "classes" and classes is None:
        raise UserError(
            f"EXPERIMENT.LOAD_PART classes needs the names of the classes of {settings.load_prev}, but there is no "
            f"{CLASSES} beside {shown(path)}; set LOAD_PART to fitting, and the last layer starts anew"
        )
    own, of_classes = network.state_dict(), class_tensors(run)
    refuse_other_kinds(state, own, origin)
    taken = fitting(state, own, of_classes if classes != list(own_classes) else set())
    if not taken:
        raise UserError(f"nothing in {origin} fits this network; set MODEL as in the run that wrote it")
    new = [name for name in own if name not in taken]
    if settings.load_part == "classes":
        taken |= {
            name: carried(state[name], own[name], classes, own_classes)
            for name in new
            if name in of_classes and name in state and _has_classes(state[name], own[name], classes)
        }
    network.load_state_dict(own | taken)
    for line in _lines(origin, own, state, new, set(taken) & set(new), (classes or (), own_classes)):
        run.log(line)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Returns the weights in a checkpoint (those that were validated) or in a .safetensors file, by name.

    Raises:
        UserError: the file is absent or damaged.
    """
    if path.suffix != ".safetensors":
        train = f"train it first{how_to_train(path.parent.name, 'train')}"
        other = "name a run, a checkpoint of this project or a .safetensors file"
        fix = f"EXPERIMENT.LOAD_PREV needs it; {train if path.name == BEST else other}"
        return validated_weights(load_or_refuse(path, fix))
    if not path.is_file():
        raise UserError(f"EXPERIMENT.LOAD_PREV: there is no file {shown(path)}")
    return read_safetensors(path)


def classes_of(path: Path) -> list[str] | None:
    """Returns the names of the classes of the run whose checkpoint this is; None for any other file."""
    table = path.parent / CLASSES
    return read_table(table, ("name",))["name"].tolist() if table.is_file() else None


def class_tensors(run: Run) -> set[str]:
    """Returns the names of the tensors that belong to the classes: those that one more class would make larger."""
    loaded = run.loaded
    more = replace(loaded.competition, classes=(*loaded.competition.classes, "another"), colors=())
    with torch.random.fork_rng(devices=[]):  # what is built here must not change the weights of the run
        networks = (run.task.build_network(one) for one in (loaded, replace(loaded, competition=more)))
        fewer, larger = ({name: tensor.shape for name, tensor in one.state_dict().items()} for one in networks)
    return {name for name, shape in fewer.items() if shape != larger[name]}


def fitting(state: Mapping[str, Tensor], own: Mapping[str, Tensor], excluded: set[str]) -> dict[str, Tensor]:
    """Returns the tensors of an earlier network that have the name and shape of one here.

    A first convolution of other channels is adapted as that of pretrained encoders.

    Args:
        own: the tensors of the new network.
        excluded: names that are not taken.
    """
    return {
        name: tensor
        for name, tensor in with_channels(state, own).items()
        if name in own and name not in excluded and tensor.shape == own[name].shape
    }


def _has_classes(earlier: Tensor, own: Tensor, classes: Sequence[str]) -> bool:
    return earlier.shape[1:] == own.shape[1:] and len(earlier) >= len(classes)


def carried(earlier: Tensor, own: Tensor, classes: Sequence[str], own_classes: Sequence[str]) -> Tensor:
    """Returns a tensor (classes first) in which each class that both networks have is as it was.

    >>> earlier, own = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([7.0, 8.0])
    >>> carried(earlier, own, ["Sky", "Car", "Tree"], ["Road", "car"]).tolist()
    [7.0, 2.0]
    """
    positions = {name.casefold(): index for index, name in enumerate(classes)}
    result = own.clone()
    for index, name in enumerate(own_classes):
        if (position := positions.get(name.casefold())) is not None:
            result[index] = earlier[position]
    return result


def _lines(
    origin: str,
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    new: Sequence[str],
    carried_over: set[str],
    classes: tuple[Sequence[str], Sequence[str]],
) -> list[str]:
    """Returns what to tell: what was taken, what is new and why, and what of the earlier network is not used."""
    before = [f"{name} {_why(name, own, state)}" for name in new if name not in carried_over]
    lines = [f"{origin}: {len(own) - len(new)} of {len(own)} tensors are taken"]
    if before:
        lines.append(f"  new: {_listed(before)}")
    if carried_over:
        known = {name.casefold() for name in classes[0]}
        kept = [name for name in classes[1] if name.casefold() in known]
        others = [name for name in classes[1] if name.casefold() not in known]
        lines.append(f"  classes that are carried over: {', '.join(kept) or 'none, as no name is the same'}")
        if kept and others:
            lines.append(f"  classes that are new: {', '.join(others)}")
    if unused := [name for name in state if name not in own]:
        lines.append(f"  not used: {_listed(unused)}")
    return lines


def _why(name: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    if name not in state:
        return "(not there)"
    there, here = tuple(state[name].shape), tuple(own[name].shape)
    return f"({there} there, {here} here)" if there != here else "(its classes are others, or not known)"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
