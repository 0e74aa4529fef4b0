"""The command `why`: why a stage would run, or that it is up to date; it runs nothing and writes nothing."""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.commands.table import Parser
from pipeline.commands.words import split_words
from pipeline.errors import UserError
from pipeline.paths import DEMO_FOLDER, DEMOS
from pipeline.wording import duration

if TYPE_CHECKING:
    from pipeline.engine.run import Run


def why_command(options: Parser, arguments: Sequence[str]) -> None:
    """Prints a line for each stage, or all that has changed since one of them was done."""
    options.add_argument("name", metavar="NAME", help="a config, configs/NAME.yaml, or a run folder")
    # Two arguments for the help; argparse assigns all words to the first, and split_words separates them.
    options.add_argument("stages", metavar="STAGE", nargs="*", help="the stage to explain; default: a line for each")
    meaning = "other settings; the run is then the one with these settings"
    options.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help=meaning)
    chosen = options.parse_args(arguments)
    stages, overrides = split_words(chosen.name, [*chosen.stages, *chosen.overrides], options)
    if len(stages) > 1:
        raise UserError(f"{options.prog}: found {' '.join(stages)}; name one stage, or none for a line for each")

    from pipeline.commands.absent import check_stages
    from pipeline.engine.api import open_run
    from pipeline.engine.explain import explain

    run = open_run(chosen.name, overrides)
    if (name := run.loaded.competition.name) in DEMOS and run.loaded.config.datasets.directory is None:
        # A stage that is asked for its files draws the demo where it is gone; of a named folder it says that it is.
        run = open_run(chosen.name, [*overrides, f"DATASETS.DIRECTORY={DEMO_FOLDER.with_name(name)}"])
    check_stages(stages, run)
    found = {one.stage: one for one in explain(run)}
    if run.name != chosen.name:
        print(f"{run.name}, the run with these settings:")
    if not stages:
        width = max(map(len, found))
        for name, one in found.items():
            print(f"{name:<{width}}  {one}")
        return
    own, earlier = found[stages[0]], list(found.values())[: list(found).index(stages[0])]
    print(f"{own.stage} {'is ' if own.state == 'up to date' else ''}{own.state}")
    width = shutil.get_terminal_size((120, 24)).columns
    for line in (*own.reasons, *_facts(run, own.stage)):
        print(textwrap.fill(line, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False))
    alike: dict[str, list[str]] = {}
    for one in earlier:
        if one.state != "up to date":
            alike.setdefault(str(one), []).append(one.stage)
    for line, names in alike.items():
        print(f"before it, {', '.join(names)} {line}")


def _facts(run: Run, name: str) -> list[str]:
    """Returns when a stage was done, and what it reads."""
    from pipeline.engine.explain import what_it_reads
    from pipeline.engine.freshness import read_marker

    path = run.paths.marker(name)
    marker, facts = read_marker(path), []
    if marker is not None:
        done = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
        facts.append(f"last done {done}, in {duration(marker.seconds)}")
    read = what_it_reads(run.stage(name), run)
    return [*facts, *([f"it reads {', '.join(read)}"] if read else [])]
