"""How a network of each architecture is made, and which options it has: those of its class's own signature."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import segmentation_models_pytorch as smp
from torch import nn

from pipeline.config.architectures import NO_ENCODER, own_code
from pipeline.config.schema import Model
from pipeline.errors import UserError
from pipeline.segmentation.deeplab_v2 import DeepLabV2
from pipeline.segmentation.own_code import own_function
from pipeline.segmentation.plain_unet import PlainUnet
from pipeline.training.encoder_names import name_to_build
from pipeline.wording import did_you_mean

# Arguments that other keys give, and activation, which loss and decoding apply.
GIVEN = ("encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params")
UNIONS = (typing.Union, types.UnionType)
LISTS = (collections.abc.Sequence, collections.abc.Iterable, list, tuple)
ANY_KIND = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def architectures() -> dict[str, type[nn.Module]]:
    """Returns the architectures of the library and the project's own, by name."""
    return {one.__name__: one for one in (*smp.MODEL_ARCHITECTURES_MAPPING.values(), DeepLabV2, PlainUnet)}


def make_network(model: Model, num_outputs: int, num_channels: int, is_trusted: bool, **further: Any) -> nn.Module:
    """Returns a network with random weights; where, in which layout, and whether it runs, is not decided here.

    Args:
        is_trusted: whether a file of the user's own may be run.
        further: arguments that are passed on to the encoder, such as `img_size`.

    Raises:
        UserError: an unknown encoder or option, or a file of the user's own that cannot be used.
        Exception: whatever the library says of arguments that do not go together.
    """
    options = {key.lower(): value for key, value in model.options.items()}
    if code := own_code(model.name):
        return own_function(*code, is_trusted)(in_channels=num_channels, classes=num_outputs, **options)
    architecture = architectures()[model.name]
    check_options(architecture, model.options)
    arguments: dict[str, Any] = {"in_channels": num_channels, "classes": num_outputs, **options, **further}
    if model.encoder.name != NO_ENCODER:
        arguments |= {"encoder_name": name_to_build(model.encoder), "encoder_weights": None}
    if model.aux_weight:
        arguments["aux_params"] = {"classes": num_outputs}
    # Remarks on old names `timm-...`, which still work, and on readout tokens that a network lacks, would only alarm.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message="Encoder does not have prefix tokens", category=UserWarning)
        return architecture(**arguments)


def check_options(architecture: type[nn.Module], options: Mapping[str, Any]) -> None:
    """Refuses options that an architecture does not have, or of a type that it does not take; None: its default.

    Raises:
        UserError: the option, what was found and what is expected.
    """
    known = options_of(architecture)
    for key, value in options.items():
        if key.lower() not in known or key != key.upper():
            names = [name.upper() for name in known]
            hint = did_you_mean(key, names, f"it has {', '.join(names)}")
            raise UserError(f"MODEL.OPTIONS.{key}: {architecture.__name__} has no such option; {hint}")
        if not fits(value, known[key.lower()]):
            expected = describe(known[key.lower()])
            raise UserError(f"MODEL.OPTIONS.{key}: found {_shown(value)}, expected {expected}")


def options_of(architecture: type[nn.Module]) -> dict[str, Any]:
    """Returns the options of an architecture, by the names of its arguments, with their types.

    >>> sorted(options_of(PlainUnet))
    ['encoder_depth', 'first_channels', 'use_norm']
    """
    parameters = inspect.signature(architecture).parameters.values()
    hints = typing.get_type_hints(inspect.unwrap(architecture.__init__))
    names = [one.name for one in parameters if one.kind not in ANY_KIND and one.name not in GIVEN]
    return {name: hints.get(name, Any) for name in names}


def fits(value: Any, expected: Any) -> bool:
    """Returns whether a value of a config is of the type of an argument.

    >>> fits((64, 32), collections.abc.Sequence[int]), fits("deep", int), fits(True, int), fits(8, Literal[8, 16])
    (True, False, False, True)
    """
    origin, parts = typing.get_origin(expected), typing.get_args(expected)
    if expected is Any:
        return True
    if origin in UNIONS:
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin in LISTS:
        return isinstance(value, tuple) and all(fits(item, parts[0]) for item in value)
    if expected is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    return type(value) is expected


def describe(expected: Any) -> str:
    """Returns a type in words, without what no config can give.

    >>> describe(str | bool | None), describe(collections.abc.Sequence[int]), describe(Literal[8, 16])
    ('text, true or false, null', 'a list, each item an integer', 'one of 8, 16')
    """
    origin, parts = typing.get_origin(expected), typing.get_args(expected)
    if origin in UNIONS:
        return ", ".join(filter(None, map(describe, parts)))
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in LISTS:
        return f"a list, each item {describe(parts[0])}"
    names = {bool: "true or false", int: "an integer", float: "a number", str: "text", type(None): "null"}
    return names.get(expected, "")


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else repr(value)
