"""`./run.sh kaggle NAME`: creates a notebook for Kaggle that trains or predicts, pushes it and fetches its output.

It trains one run, the runs of `--folds` and `--seeds`, or the runs of a study.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.table import Parser, add_config
from pipeline.errors import UserError
from pipeline.paths import DEMOS, NOTEBOOKS, descriptor, shown
from pipeline.wording import hours_of, size

if TYPE_CHECKING:
    from pipeline.config.competition import Competition
    from pipeline.notebook.folder import Notebook
    from pipeline.notebook.subject import Subject

CODE_COMPETITION_HOURS = 8.5  # they allow 9, as a rule
NO_ACCELERATOR = "none"
DOING = ("--continue", "--push", "--status", "--fetch")  # what to do with the notebook, not what it is


def kaggle_command(options: Parser, arguments: Sequence[str]) -> None:
    """Creates the folder of a notebook; pushes it, prints its state or gets its output, as the options ask."""
    chosen = _parsed(options, arguments)

    from pipeline.notebook.contents import parts_of
    from pipeline.notebook.folder import write_dataset, write_kernel

    subject = subject_of(chosen)
    client = _client(chosen)
    notebook = notebook_for(subject, chosen, _owner(chosen.owner, client))
    folder = subject.folders.runs / NOTEBOOKS / notebook.slug
    if chosen.status or chosen.fetch:
        _ask(notebook, folder, subject, client, chosen)
        return
    _write_ensemble(subject, chosen.trust_code)
    parts = parts_of(subject, folder, chosen.internet, chosen.wheels, chosen.others)
    pack = write_dataset(notebook, folder, parts)
    path = write_kernel(notebook, folder, chosen.continues)
    named = ", ".join(f"{len(files)} files in {part}" for part, files in parts.items() if files)
    print(f"{shown(pack)}  {size(pack.stat().st_size)}: the project" + (f", {named}" if named else ""))
    print(f"{shown(path)}  {size(path.stat().st_size)}" + _what_it_trains(subject))
    if not chosen.push:
        print(_by_hand(notebook, folder, chosen))
        return
    from pipeline.notebook.push import push

    address = push(notebook, folder, client, print)
    print(f"the session has started: {address}")
    print(f"its state: {_again(chosen, '--status')}\nits output, when it is complete: {_again(chosen, '--fetch')}")


def _parsed(options: Parser, arguments: Sequence[str]) -> Any:
    add_config(options, "a config, configs/NAME.yaml, a run folder, or a study, configs/studies/NAME.yaml")
    meaning = "train on each of N folds, and combine the runs, as ./run.sh NAME --folds N does"
    options.add_argument("--folds", metavar="N", type=int, help=meaning)
    options.add_argument("--seeds", metavar="N", type=int, help="train with each of N seeds, and combine the runs")
    options.add_argument("--predict", action="store_true", help="an inference bundle that predicts a hidden test set")
    meaning = "the time that a session may take, such as 8.5h. Default: 11.5h, with --predict 8.5h"
    options.add_argument("--time-limit", metavar="TIME", help=meaning)
    meaning = "with --predict: COMPETITION/FOLDER of the test images in /kaggle/input; default: as its config says"
    options.add_argument("--test-dir", metavar="DIR", help=meaning)
    meaning = "a dataset on Kaggle with the competition's files, if they are not from a Kaggle competition"
    options.add_argument("--data", metavar="OWNER/NAME", help=meaning)
    meaning = "upload a run too: one that this run needs, or this run itself, to continue it; may be repeated"
    options.add_argument("--with", metavar="RUN", dest="others", action="append", default=[], help=meaning)
    options.add_argument("--owner", metavar="NAME", help="your username on Kaggle; default: that of your token")
    meaning = f"default: NvidiaTeslaT4 (two T4s); {NO_ACCELERATOR}: CPU only"
    options.add_argument("--accelerator", metavar="NAME", default="NvidiaTeslaT4", help=meaning)
    options.add_argument("--wheels", metavar="DIR", type=Path, help="a folder of wheels; default: downloaded by pip")
    meaning = "give the notebook internet access; it then needs no wheels and no weights"
    options.add_argument("--internet", action="store_true", help=meaning)
    meaning = "make the last session's output an input; --push does this by itself"
    options.add_argument("--continue", dest="continues", action="store_true", help=meaning)
    options.add_argument("--push", action="store_true", help="upload it and start a session")
    options.add_argument("--status", action="store_true", help="print the state of the last session")
    options.add_argument("--fetch", action="store_true", help="get the output of the last session")
    meaning = "as for a run: the notebook may run the Python file that MODEL.NAME names"
    options.add_argument("--trust-code", action="store_true", help=meaning)
    chosen = options.parse_args(arguments)
    chosen.typed = [word for word in arguments if word not in DOING]
    return chosen


def subject_of(chosen: Any) -> Subject:
    """Returns what the notebook runs.

    Raises:
        UserError: there is no such config or study, or an option does not apply to it.
    """
    from pipeline.notebook.subject import is_study, subject_of_folds, subject_of_run, subject_of_study

    name, is_of_several = chosen.name, chosen.folds is not None or chosen.seeds is not None
    if is_study(name):
        _refuse_for_study(chosen)
        return subject_of_study(name)
    if not is_of_several:
        return subject_of_run(name, chosen.overrides, chosen.predict, chosen.trust_code)
    if chosen.predict:
        raise UserError("--predict is for a trained run or ensemble, but --folds and --seeds train; leave one out")
    return subject_of_folds(name, chosen.overrides, chosen.folds, chosen.seeds, chosen.trust_code)


def _refuse_for_study(chosen: Any) -> None:
    """Refuses options that do not apply to a study.

    Raises:
        UserError: names the option and what to do instead.
    """
    name = chosen.name
    if chosen.predict:
        why = f"{name} is a study, and a study only trains"
        raise UserError(f"--predict: {why}; name a run or an ensemble: ./run.sh kaggle EnsAAA --predict")
    for option, number in (("--folds", chosen.folds), ("--seeds", chosen.seeds)):
        if number is not None:
            key = {"--folds": "SPLITS", "--seeds": "SEEDS"}[option]
            raise UserError(f"{option} {number}: {name} is a study, whose file has {key}; change it there")
    if chosen.overrides:
        where = f"configs/studies/{name}.yaml"
        raise UserError(
            f"{chosen.overrides[0]}: {name} is a study, which takes no settings here; add it to SET in {where}"
        )
    if chosen.trust_code:
        raise UserError(f"--trust-code: {name} is a study, and a study runs no Python file of a network; leave it out")


def notebook_for(subject: Subject, chosen: Any, owner: str) -> Notebook:
    """Returns the notebook that is asked for.

    Raises:
        UserError: the time limit cannot be read, or Kaggle does not have the data.
    """
    from pipeline.engine.session import KAGGLE_RESERVE_S, KAGGLE_S
    from pipeline.notebook.folder import Notebook, slug_for

    competition, kind, data = subject.competition, subject.kind, chosen.data
    usual = CODE_COMPETITION_HOURS if kind == "predict" else (KAGGLE_S - KAGGLE_RESERVE_S) / 3600
    hours = usual if chosen.time_limit is None else hours_of(chosen.time_limit)
    if hours is None:
        raise UserError(f"--time-limit {chosen.time_limit}: expected a number and h, min or s, for example 8.5h")
    if competition.kaggle_slug is None and data is None and competition.name not in DEMOS:
        raise UserError(
            f"{competition.name} is not a Kaggle competition. Upload its folder as a dataset of that name "
            f"(kaggle datasets create), then add --data {owner}/{competition.name}"
        )
    if data is not None and data.count("/") != 1:
        raise UserError(f"--data {data}: expected OWNER/NAME, as in the address of a dataset on Kaggle")
    if data is not None and kind == "study" and competition.name in DEMOS:
        raise UserError(f"--data {data}: a study draws the images of {competition.name} itself; leave it out")
    return Notebook(
        owner=owner,
        slug=slug_for(subject.name, kind),
        kind=kind,
        words=subject.words,
        hours=round(hours, 4),
        command=" ".join(["./run.sh kaggle", *subject.typed]),
        more=_more(subject, data.rpartition("/")[2] if data else None, chosen.test_dir),
        accelerator=None if chosen.accelerator == NO_ACCELERATOR else chosen.accelerator,
        has_internet=chosen.internet,
        competitions=(competition.kaggle_slug,) if competition.kaggle_slug and data is None else (),
        datasets=(data,) if data else (),
        packages=subject.packages,
    )


def _more(subject: Subject, data: str | None, test_dir: str | None) -> str:
    """Returns the further arguments of the function that the notebook calls, as text."""
    if subject.kind == "predict":
        return f"test={test_dir or folder_of_test(subject.competition, data)!r}"
    if subject.kind == "study":
        return f"data={(subject.competition.name, data) if data else ()!r}"
    return f"data={data!r}"


def folder_of_test(competition: Competition, data: str | None) -> str | None:
    """Returns where the test images are below /kaggle/input: the folder with their list, or that of the images.

    None for the demo, which is drawn wherever it is needed.

    Raises:
        UserError: the competition's file does not say where they are.
    """
    if competition.name in DEMOS and data is None:
        return None
    if not (competition.test_csv or competition.test_images):
        raise UserError(
            f"{descriptor(competition.name)} names no test images; add --test-dir NAME/FOLDER, their folder below "
            "/kaggle/input"
        )
    folder = data or competition.kaggle_slug or competition.name
    template = competition.templates("test")[0]
    fixed = template.partition("{")[0].rpartition("/")[0].partition("*")[0].strip("/")
    return folder if competition.test_csv or not fixed else f"{folder}/{fixed}"


def _owner(given: str | None, client: Any | None) -> str:
    """Returns the user's name on Kaggle: as given, of the client, of the environment, or of the token's file.

    Raises:
        UserError: it is not known; says how to give it.
    """
    known = given or (getattr(client, "config_values", {}) or {}).get("username") or os.environ.get("KAGGLE_USERNAME")
    folder = Path(os.environ.get("KAGGLE_CONFIG_DIR") or "~/.kaggle").expanduser()
    if not known and (folder / "kaggle.json").is_file():
        try:
            known = json.loads((folder / "kaggle.json").read_text(encoding="utf-8"))["username"]
        except (ValueError, KeyError, TypeError, OSError):
            known = None
    if not known:
        raise UserError(
            "the notebook needs an owner: add --owner NAME, the username in the address of your Kaggle profile"
        )
    return str(known).lower()


def _client(chosen: Any) -> Any | None:
    if not (chosen.push or chosen.status or chosen.fetch):
        return None
    from pipeline.submission.kaggle import connect

    return connect()


def _ask(notebook: Notebook, folder: Path, subject: Subject, client: Any, chosen: Any) -> None:
    from pipeline.notebook.push import fetch, status_line

    print(status_line(notebook, client))
    if not chosen.fetch:
        return
    for path in fetch(notebook, folder, subject.folders, client, print):
        print(f"fetched: {shown(path)}")
    _write_ensemble(subject, chosen.trust_code)
    if len(subject.runs) > 1:
        command = ["./run.sh", *subject.words, "--table"] if subject.kind == "study" else ["./run.sh", *subject.typed]
        print(f"the table of all runs: {shlex.join(command)}")


def _write_ensemble(subject: Subject, trust_code: bool) -> None:
    """Writes the config of the ensemble of the runs of `--folds` and `--seeds`, which goes along with the project."""
    from pipeline.commands.folds import write_ensemble
    from pipeline.stages import has_test

    if subject.folds is not None and has_test(subject.runs[0].loaded):
        write_ensemble(subject.folds, trust_code)


def _what_it_trains(subject: Subject) -> str:
    if subject.packages:
        return ": a search"
    return f": {len(subject.runs)} runs" if len(subject.runs) > 1 else ""


def _by_hand(notebook: Notebook, folder: Path, chosen: Any) -> str:
    dataset, kernel = shlex.quote(shown(folder / "dataset")), shlex.quote(shown(folder / "kernel"))
    lines = [
        "To push it by hand, with Kaggle's client:",
        f"  kaggle datasets create -p {dataset}                  # the first time",
        f"  kaggle datasets version -p {dataset} -m changed      # after changes",
        f"  kaggle kernels push -p {kernel}                      # starts a session",
    ]
    if notebook.continues and not chosen.continues:
        lines.append(f"  {_again(chosen, '--continue')}    # before the second session")
    return "\n".join([*lines, f"Or let this command do all of it: {_again(chosen, '--push')}"])


def _again(chosen: Any, option: str) -> str:
    """Returns the command that was typed, with another option for what to do."""
    return " ".join(["./run.sh kaggle", *map(shlex.quote, chosen.typed), option])
