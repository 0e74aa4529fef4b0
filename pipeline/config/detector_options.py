"""MODEL.OPTIONS of detectors: each architecture has a frozen dataclass of its options, their types and ranges.

They are here, not beside the networks, so that a config is checked without torch.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeVar

import yaml

from pipeline.config.plain_yaml import Mismatch, Range, coerce
from pipeline.config.ranges import Count, Positive
from pipeline.config.schema import Model
from pipeline.config.tree import Problems
from pipeline.errors import UserError
from pipeline.wording import did_you_mean

Schema = TypeVar("Schema")
Activation = Literal["silu", "relu", "lrelu"]


@dataclass(frozen=True)
class RetinaNetOptions:
    """MODEL.OPTIONS of RetinaNet; the defaults are the paper's.

    Attributes:
        channels: of every level of the pyramid, and of the heads.
        convolutions: of each head, before its output layer.
        prior: probability of every class at every anchor before training. With a small value, the many anchors without
            an object do not dominate the first steps.
        scales: anchor sizes per octave; with 3, the sizes of a level are multiplied by 1, 2^(1/3) and 2^(2/3).
        ratios: height to width of anchors.
        anchor_sizes: the smallest anchors of P3 to P7, the roots of their areas, in pixels.
    """

    channels: Count = 256
    convolutions: Annotated[int, Range(least=0, most=16)] = 4
    prior: Annotated[float, Range(above=0, most=0.99)] = 0.01
    scales: Annotated[int, Range(least=1, most=8)] = 3
    ratios: tuple[Positive, ...] = (0.5, 1.0, 2.0)
    anchor_sizes: tuple[Positive, Positive, Positive, Positive, Positive] = (32.0, 64.0, 128.0, 256.0, 512.0)

    @property
    def num_shapes(self) -> int:
        """Anchors at each position."""
        return self.scales * len(self.ratios)


@dataclass(frozen=True)
class YoloxOptions:
    """MODEL.OPTIONS of YOLOX.

    Attributes:
        prior: probability of every class and of an object at every position before training.
        activation: after every convolution; the published weights are for `silu`.
    """

    prior: Annotated[float, Range(above=0, most=0.99)] = 0.01
    activation: Activation = "silu"


OPTIONS = {"RetinaNet": RetinaNetOptions, "YOLOX": YoloxOptions}  # by MODEL.NAME


def options_of(model: Model) -> RetinaNetOptions | YoloxOptions:
    """Returns the options of a detector that MODEL.OPTIONS gives.

    Raises:
        UserError: an unknown option, or a wrong value.
    """
    return read_options(OPTIONS[model.name], model.options, model.name)


def option_problems(model: Model) -> Problems:
    """Yields what is wrong with MODEL.OPTIONS of a detector: key and reason."""
    yield from _read(OPTIONS[model.name], model.options, model.name)[1]


def read_options(schema: type[Schema], options: Mapping[str, Any], architecture: str) -> Schema:
    """Returns the options of an architecture as its dataclass; options that are not given have the defaults.

    Args:
        schema: a dataclass whose fields have defaults, and types that `coerce` knows.
        options: by key, in upper case as in configs or in lower case.
        architecture: its name, for messages.

    Raises:
        UserError: the option, what was found and what is expected.
    """
    values, problems = _read(schema, options, architecture)
    if problems:
        raise UserError(": ".join(problems[0]))
    return schema(**values)


def _read(
    schema: type[Schema], options: Mapping[str, Any], architecture: str
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Returns the given options by field, and what is wrong with them: keys and reasons."""
    hints = typing.get_type_hints(schema, include_extras=True)
    known = {field.name: hints[field.name] for field in fields(schema)}
    values: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for key, value in options.items():
        name, full = key.lower(), f"MODEL.OPTIONS.{key}"
        if name not in known or key not in (name, name.upper()):
            names = [one.upper() for one in known]
            hint = did_you_mean(key, names, f"it has {', '.join(names)}")
            problems.append((full, f"{architecture} has no such option; {hint}"))
        elif name in values:
            problems.append((full, f"given in upper and in lower case; keep {name.upper()}"))
        else:
            try:
                # Read like the text of a config, so that types, ranges and messages are as for all other keys.
                values[name] = coerce(yaml.compose(yaml.safe_dump(value)), known[name])
            except Mismatch as mismatch:
                problems.append((full, str(mismatch)))
    if values.get("ratios") == ():
        problems.append(("MODEL.OPTIONS.RATIOS", "found an empty list, expected at least one ratio, for example [1]"))
    return values, problems
