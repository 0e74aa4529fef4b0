"""A drone-like competition in the layout of AeroScapes, drawn by program, for whoever has no data yet.

`generate(folder)` writes it. A flight is a small world (`scene`) seen by a moving camera (`camera`): flat ground
(`layouts`, `ground`) and solid things on it (`population`, with `structures`, `vehicles`, `living`), which
`draw` turns into image and mask; `recipes` says what is to be seen in each flight.
"""

from pipeline.demo.recipes import CLASSES
from pipeline.demo.write import generate

__all__ = ["CLASSES", "generate"]
