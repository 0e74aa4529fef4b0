"""The words of the command line: an experiment or a run, stages and settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from pipeline.commands.table import Parser
from pipeline.errors import UserError
from pipeline.paths import CONFIG
from pipeline.stages import STAGE_NAMES
from pipeline.wording import did_you_mean

RUN_FOLDER = re.compile(r"[^=/]+-[0-9a-f]{8}")  # of a run with overrides


def with_run_expanded(words: Sequence[str], runs: Path) -> list[str]:
    """Returns words with the config and the overrides of a run in place of the name of its folder.

    Overrides that are typed as well replace those of the run.

    Raises:
        UserError: the same config and overrides are another run now, as a config was changed.
    """
    words = list(words)
    named = [
        index for index, word in enumerate(words) if RUN_FOLDER.fullmatch(word) and (runs / word / CONFIG).is_file()
    ]
    if not named:
        return words

    from pipeline.config.load import load
    from pipeline.report.folders import config_of, typed_for

    index = named[0]
    config, *overrides = typed_for(runs / words[index], config_of(runs / words[index]))
    if (run := load(config, overrides).run) != words[index]:
        command = shlex.join(["./run.sh", config, *overrides])
        raise UserError(
            f"{words[index]} was made with other values in {config} or base.yaml; now it is {run}: {command}"
        )
    given = {word.partition("=")[0] for word in words if "=" in word}
    kept = [word for word in overrides if word.partition("=")[0] not in given]
    return [*words[:index], config, *kept, *words[index + 1 :]]


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
