"""Names chosen by users in plots: shown as plain text, in a font that has their letters, and shortened if too long.

matplotlib reads $...$ as formulas, and draws a box and warns for each letter that its font lacks. Names of classes,
runs and phases may have any letter, so each text of a figure passes `make_legible` before it is drawn. Letters come
from the plots' own font, then from any installed one; what none has is written as an escape sequence.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from pipeline.terminal import printable

FAMILY = "DejaVu Sans"  # comes with matplotlib
PLACEHOLDERS = "Last Resort"  # likewise; it has only a box for each letter
MOST_LETTERS, MOST_OF_A_NAME = 70, 32  # of a title, and of a name at an axis, in the plot or in a legend
END_LETTERS = 10  # kept after the cut: long paths and names of series differ there, and legends end with a number
NOTED: list[str] = []  # the missing letters that this process has logged: one line is enough


def make_legible(figure: Any) -> None:
    """Makes all texts of a figure plain, short enough and drawable; to be called once, before it is drawn."""
    from matplotlib.legend import Legend
    from matplotlib.text import Text

    named = [text for legend in figure.findobj(Legend) for text in legend.get_texts()]
    named += [text for one in figure.axes for text in one.texts]
    axes = [axis for one in figure.axes for axis in (one.xaxis, one.yaxis)]
    ticks = {axis: formatter for axis in axes if (formatter := _words_of(axis)) is not None}
    texts = figure.findobj(Text)
    words = [text.get_text() for text in texts]
    words += [formatter(value, index) for axis, formatter in ticks.items() for index, value in enumerate(_at(axis))]
    families = [FAMILY, *fallbacks("".join(words))]
    for text in texts:
        text.set_text(_plain(text.get_text(), MOST_OF_A_NAME if text in named else MOST_LETTERS))
        text.set_fontfamily(families)
    for axis, formatter in ticks.items():
        axis.set_major_formatter(functools.partial(_tick, formatter))
    for axis in axes if len(families) > 1 else ():
        axis.set_tick_params(labelfontfamily=families)


def drawable(text: str) -> str:
    r"""Returns a text with escape sequences in place of letters that no font has.

    >>> drawable("Straße Ω"), drawable("a\x1bb"), drawable("\U0010fffd")
    ('Straße Ω', 'a\\x1bb', '\\U0010fffd')
    """
    return _escaped(text, frozenset(letter for letter in _missing(text) if not _family_with(letter)))


def own_drawable(text: str) -> str:
    r"""Returns a line with escape sequences in place of letters that the plots' own font lacks.

    >>> own_drawable("Ω\t\n")
    'Ω\\t\\n'
    """
    return _escaped(text, _missing(text) | {"\n"})


def legend_label(name: str) -> str:
    """Returns a name as a label of a line: matplotlib leaves labels that begin with an underscore out of a legend.

    >>> legend_label("_road"), legend_label("road")
    (' _road', 'road')
    """
    return f" {name}" if name.startswith("_") or not name else name


def middle_cut(text: str, most: int) -> str:
    """Returns a text of at most `most` letters, with … in place of its middle where it was longer.

    >>> middle_cut("a very long name of a class 0.53", 20)
    'a very lo…class 0.53'
    """
    return text if len(text) <= most else f"{text[: most - END_LETTERS - 1]}…{text[-END_LETTERS:]}"


def fallbacks(text: str) -> list[str]:
    """Returns the families of installed fonts that have the letters of a text that the plots' own lacks."""
    missing = sorted(_missing(text))
    found = {letter: _family_with(letter) for letter in missing}
    if unknown := "".join(letter for letter, family in found.items() if family is None and letter.isprintable()):
        _note_missing(unknown[:8])
    return list(dict.fromkeys(family for family in found.values() if family is not None))


def _note_missing(letters: str) -> None:
    if not NOTED:
        NOTED.append(letters)
        what = f"note: no installed font has {letters}; plots show such letters as escape sequences"
        tqdm.write(
            printable(f"{what}. To see them, install a font, such as Noto Sans CJK (apt install fonts-noto-cjk)")
        )


def _plain(text: str, most: int) -> str:
    return middle_cut(drawable(text), most).replace("$", r"\$")


def _tick(formatter: Any, value: float, index: int | None = None) -> str:
    return _plain(formatter(value, index), MOST_OF_A_NAME)


def _words_of(axis: Any) -> Any:
    """Returns the formatter of an axis whose ticks have words; None where matplotlib writes numbers itself."""
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    formatter = axis.get_major_formatter()
    return formatter if isinstance(formatter, FixedFormatter | FuncFormatter) else None


def _at(axis: Any) -> Iterable[float]:
    return axis.get_majorticklocs()


def _escaped(text: str, letters: frozenset[str]) -> str:
    if letters.isdisjoint(text):
        return text
    return "".join(one.encode("unicode_escape").decode() if one in letters else one for one in text)


def _missing(text: str) -> frozenset[str]:
    """Returns the letters of a text that the plots' own font lacks or that cannot be printed, except new lines."""
    if text.isascii() and text.isprintable():
        return frozenset()
    own = _letters_of(_own_file())
    return frozenset(one for one in text if one != "\n" and not (one.isprintable() and ord(one) in own))


@functools.cache
def _own_file() -> str:
    from matplotlib.font_manager import findfont

    return findfont(FAMILY)


@functools.cache
def _letters_of(path: str) -> frozenset[int]:
    """Returns the letters that a file has; none if it is a bitmap font or cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()


@functools.cache
def _family_with(letter: str) -> str | None:
    """Returns the family of the first installed font, of ordinary weight before others, that has a letter."""
    if not letter.isprintable():
        return None
    from matplotlib.font_manager import fontManager

    entries = [one for one in fontManager.ttflist if not one.name.startswith(PLACEHOLDERS)]
    entries.sort(key=lambda one: (one.style != "normal", one.weight != 400, one.fname))
    return next((one.name for one in entries if ord(letter) in _letters_of(one.fname)), None)
