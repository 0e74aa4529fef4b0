"""The words after an experiment's name on the command line: stages and settings. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.commands.table import Parser
from pipeline.errors import UserError
from pipeline.stages import STAGE_NAMES
from pipeline.wording import did_you_mean


def split_words(name: str, words: Sequence[str], options: Parser) -> tuple[list[str], list[str]]:
    """Returns the stages and the overrides among the words after an experiment's name.

    Args:
        options: whose options a misspelt word may mean.

    Raises:
        UserError: a word that is neither; names the nearest.
    """
    stages, overrides = [], []
    for word in words:
        if word in STAGE_NAMES:
            stages.append(word)
        elif "=" in word and not word.startswith("-"):
            overrides.append(word)
        else:
            raise UserError(f"{name} {word}: neither a stage nor a setting; {word_hint(word, options)}")
    return stages, overrides


def word_hint(word: str, options: Parser) -> str:
    """Returns what was probably meant by a word that is neither a stage nor a setting."""
    if "." in word and word.isupper():
        return f"a setting is written {word}=VALUE, without a space"
    if word.startswith("-") and "=" in word:
        return f"a setting is written without dashes: {word.lstrip('-')}"
    known = [*STAGE_NAMES, *options.options()]
    return did_you_mean(word, known, f"stages: {' '.join(STAGE_NAMES)}; settings: KEY=VALUE")
