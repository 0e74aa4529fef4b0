"""MODEL.OPTIONS of detectors: each architecture has a frozen dataclass of its options, their types and ranges."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import yaml

from pipeline.config.plain_yaml import Mismatch, coerce
from pipeline.errors import UserError
from pipeline.wording import did_you_mean

Schema = TypeVar("Schema")


def read_options(schema: type[Schema], options: Mapping[str, Any], architecture: str) -> Schema:
    """Returns the options of an architecture as its dataclass; options that are not given have the defaults.

    Args:
        schema: a dataclass whose fields have defaults, and types that `coerce` knows.
        options: by key, in upper case as in configs or in lower case.
        architecture: its name, for messages.

    Raises:
        UserError: the option, what was found and what is expected.
    """
    hints = typing.get_type_hints(schema, include_extras=True)
    known = {field.name: hints[field.name] for field in fields(schema)}
    values: dict[str, Any] = {}
    for key, value in options.items():
        name = key.lower()
        if name not in known or key not in (name, name.upper()):
            names = [one.upper() for one in known]
            hint = did_you_mean(key, names, f"it has {', '.join(names)}")
            raise UserError(f"MODEL.OPTIONS.{key}: {architecture} has no such option; {hint}")
        if name in values:
            raise UserError(f"MODEL.OPTIONS.{key}: given in upper and in lower case; keep {name.upper()}")
        try:
            # Read like the text of a config, so that types, ranges and messages are the same as for all other keys.
            values[name] = coerce(yaml.compose(yaml.safe_dump(value)), known[name])
        except Mismatch as mismatch:
            raise UserError(f"MODEL.OPTIONS.{key}: {mismatch}") from None
    return schema(**values)
