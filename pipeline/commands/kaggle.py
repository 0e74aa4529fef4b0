"""`./run.sh kaggle NAME`: a notebook for Kaggle that trains a run, or predicts with it; made, pushed, fetched."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.table import Parser, add_config
from pipeline.errors import UserError
from pipeline.paths import DEMOS, NOTEBOOKS, Folders, descriptor, shown
from pipeline.wording import hours_of, size

if TYPE_CHECKING:
    from pipeline.config.competition import Competition
    from pipeline.config.schema import Encoder
    from pipeline.engine.run import Run
    from pipeline.notebook.folder import Notebook

CODE_COMPETITION_HOURS = 8.5  # they allow 9, as a rule
NO_ACCELERATOR = "none"
DOING = ("--continue", "--push", "--status", "--fetch")  # what to do with the notebook, not what it is


def kaggle_command(options: Parser, arguments: Sequence[str]) -> None:
    """Creates the folder of a notebook; pushes it, prints its state or gets its output, as the options ask."""
    chosen = _parsed(options, arguments)

    from pipeline.engine.api import open_run
    from pipeline.notebook.folder import write_dataset, write_kernel

    run = open_run(chosen.name, chosen.overrides, trust_code=chosen.trust_code)
    client = _client(chosen)
    notebook = notebook_for(run, chosen, _owner(chosen.owner, client))
    folder = run.folders.runs / NOTEBOOKS / notebook.slug
    if chosen.status or chosen.fetch:
        _ask(notebook, folder, run.folders, client, chosen.fetch)
        return
    parts = parts_for(run, chosen, folder)
    pack = write_dataset(notebook, folder, parts)
    path = write_kernel(notebook, folder, chosen.continues)
    named = ", ".join(f"{len(files)} files in {part}" for part, files in parts.items() if files)
    print(f"{shown(pack)}  {size(pack.stat().st_size)}: the project" + (f", {named}" if named else ""))
    print(f"{shown(path)}  {size(path.stat().st_size)}")
    if not chosen.push:
        print(_by_hand(notebook, folder, chosen))
        return
    from pipeline.notebook.push import push

    address = push(notebook, folder, client, print)
    print(f"the session has started: {address}")
    print(f"its state: {_again(chosen, '--status')}\nits output, when it is complete: {_again(chosen, '--fetch')}")


def _parsed(options: Parser, arguments: Sequence[str]) -> Any:
    add_config(options)
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


def notebook_for(run: Run, chosen: Any, owner: str) -> Notebook:
    """Returns the notebook that is asked for.

    Raises:
        UserError: the time limit cannot be read, an ensemble cannot be trained, or Kaggle does not have the data.
    """
    from pipeline.config.members import overrides_of
    from pipeline.engine.session import KAGGLE_RESERVE_S, KAGGLE_S
    from pipeline.notebook.folder import Notebook, slug_for
    from pipeline.submission.formats import format_of

    loaded, competition = run.loaded, run.loaded.competition
    kind = "predict" if chosen.predict else "train"
    if loaded.is_ensemble and kind == "train":
        raise UserError(f"{loaded.name} is an ensemble and trains nothing; add --predict, or name one of its members")
    usual = CODE_COMPETITION_HOURS if chosen.predict else (KAGGLE_S - KAGGLE_RESERVE_S) / 3600
    hours = usual if chosen.time_limit is None else hours_of(chosen.time_limit)
    if hours is None:
        raise UserError(f"--time-limit {chosen.time_limit}: expected a number and h, min or s, for example 8.5h")
    slug, data = slug_for(run.name, kind), chosen.data
    if competition.kaggle_slug is None and data is None and competition.name not in DEMOS:
        raise UserError(
            f"{competition.name} is not a Kaggle competition. Upload its folder as a dataset of that name "
            f"(kaggle datasets create), then add --data {owner}/{competition.name}"
        )
    if data is not None and data.count("/") != 1:
        raise UserError(f"--data {data}: expected OWNER/NAME, as in the address of a dataset on Kaggle")
    name = data.rpartition("/")[2] if data else None
    file = f"SUBMIT.FILE=/kaggle/working/submission{format_of(competition).suffix}"
    trust = ["--trust-code"] if chosen.trust_code else []
    test = chosen.test_dir or (folder_of_test(competition, name) if kind == "predict" else None)
    return Notebook(
        owner=owner,
        slug=slug,
        kind=kind,
        words=(loaded.name, *overrides_of(loaded), file, *trust),
        hours=round(hours, 4),
        command=" ".join(
            ["./run.sh kaggle", loaded.name, *chosen.overrides, *(["--predict"] if chosen.predict else [])]
        ),
        more=f"test={test!r}" if kind == "predict" else f"data={name!r}",
        accelerator=None if chosen.accelerator == NO_ACCELERATOR else chosen.accelerator,
        has_internet=chosen.internet,
        competitions=(competition.kaggle_slug,) if competition.kaggle_slug and data is None else (),
        datasets=(data,) if data else (),
    )


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


def parts_for(run: Run, chosen: Any, folder: Path) -> dict[str, list[tuple[Path, Path]]]:
    """Returns what goes into the pack beside the project: files by folder of the pack, each with its path there.

    Raises:
        UserError: weights, wheels or a run are not here; says how to get them.
    """
    from pipeline.notebook.bundle import write_bundle
    from pipeline.notebook.session import files_below
    from pipeline.notebook.wheels import wheels_for_kaggle

    parts: dict[str, list[tuple[Path, Path]]] = {"wheels": [], "weights": [], "runs": []}
    if not chosen.internet:
        _refuse_remote_encoders(run)
        wheels = wheels_for_kaggle(folder.parent) if chosen.wheels is None else chosen.wheels
        parts["wheels"] = [(path, Path(path.name)) for path in sorted(wheels.glob("*.whl"))]
        if not parts["wheels"]:
            raise UserError(f"--wheels {wheels}: there is no wheel; expected files that end with .whl")
    if chosen.predict:
        bundles = folder / "bundles"
        write_bundle(run, bundles)
        parts["runs"] = [(path, path.relative_to(bundles)) for path in files_below(bundles)]
        return parts
    if not chosen.internet:
        parts["weights"] = _encoder_weights(run)
    for name in _other_runs(run, chosen.others):
        paths = run.folders.run(name)
        if not paths.folder.is_dir():
            raise UserError(f"--with {name}: there is no such run in {shown(run.folders.runs)}")
        parts["runs"] += [(path, path.relative_to(run.folders.runs)) for path in files_below(paths.folder)]
    return parts


def _refuse_remote_encoders(run: Run) -> None:
    from pipeline.config.members import load_members
    from pipeline.training.hub import is_of_hub

    for member in load_members(run.loaded) if run.loaded.is_ensemble else [run.loaded]:
        if is_of_hub(name := member.config.model.encoder.name):
            raise UserError(f"{name} is on Hugging Face's hub, and the notebook has no internet; add --internet")


def _encoder_weights(run: Run) -> list[tuple[Path, Path]]:
    from pipeline.training.inputs import find_encoder_weights

    encoder = run.loaded.config.model.encoder
    if encoder.weights is None:
        return []
    path = find_encoder_weights(encoder, run.folders.weights)
    if path is None:
        raise UserError(
            f"the weights of {encoder.name} ({encoder.weights}) are not in WEIGHTS_DIR, and the notebook has no "
            f"internet. {_how_to_get(encoder)}"
        )
    name = Path(f"{encoder.name}-{encoder.weights}{path.suffix}")
    if path.name != name.name:  # a path of this machine
        raise UserError(
            "MODEL.ENCODER.WEIGHTS is a path on this machine, which the notebook cannot read. Copy the file to "
            f"WEIGHTS_DIR/{encoder.name}-mine{path.suffix}, and add MODEL.ENCODER.WEIGHTS=mine"
        )
    return [(path, name)]


def _how_to_get(encoder: Encoder) -> str:
    from pipeline.training.encoder_names import download_name

    if (name := download_name(encoder)) is not None:
        return f"Type: ./run.sh download {name}; or add --internet"
    return f"Get the file that its authors publish, and save it there as {encoder.name}-{encoder.weights}.pth"


def _other_runs(run: Run, named: Sequence[str]) -> list[str]:
    """Returns the runs that go along: those that were named, and those that the config says it needs.

    Raises:
        UserError: the config needs a run that nobody named.
    """
    config = run.loaded.config
    needed = [("SOLVER.FROM", config.solver.from_), ("PSEUDO.TEACHER", config.pseudo.teacher)]
    needed += [("EXPERIMENT.LOAD_PREV", config.experiment.load_prev)]
    needed += [("AVERAGE.RUNS", name) for name in config.average.runs or ()]
    for key, name in needed:
        if name and (run.folders.runs / name).is_dir() and name not in named:
            raise UserError(f"{run.loaded.name} needs the run {name} ({key}); add --with {name}")
    return [*named]


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


def _ask(notebook: Notebook, folder: Path, folders: Folders, client: Any, is_fetch: bool) -> None:
    from pipeline.notebook.push import fetch, status_line

    print(status_line(notebook, client))
    for path in fetch(notebook, folder, folders, client) if is_fetch else ():
        print(f"fetched: {shown(path)}")


def _by_hand(notebook: Notebook, folder: Path, chosen: Any) -> str:
    dataset, kernel = shlex.quote(shown(folder / "dataset")), shlex.quote(shown(folder / "kernel"))
    lines = [
        "To push it by hand, with Kaggle's client:",
        f"  kaggle datasets create -p {dataset}                  # the first time",
        f"  kaggle datasets version -p {dataset} -m changed      # after changes",
        f"  kaggle kernels push -p {kernel}                      # starts a session",
    ]
    if notebook.kind == "train" and not chosen.continues:
        lines.append(f"  {_again(chosen, '--continue')}    # before the second session")
    return "\n".join([*lines, f"Or let this command do all of it: {_again(chosen, '--push')}"])


def _again(chosen: Any, option: str) -> str:
    """Returns the command that was typed, with another option for what to do."""
    return " ".join(["./run.sh kaggle", *map(shlex.quote, chosen.typed), option])
