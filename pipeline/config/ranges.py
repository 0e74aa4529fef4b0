"""Ranges of numbers that several config keys share."""

from __future__ import annotations

from typing import Annotated, Literal

from pipeline.config.plain_yaml import Range

Share = Annotated[float, Range(least=0, most=1)]
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(least=0)]
Count = Annotated[int, Range(least=1)]
CountOrZero = Annotated[int, Range(least=0)]
ClassNames = Literal["all"] | tuple[str, ...]
