"""Encoders of Hugging Face's hub, `tu-hf-hub:OWNER/NAME`, which MODEL.ENCODER.ALLOW_REMOTE permits.

An encoder there is two files: `config.json` names one of timm's architectures and its arguments, `model.safetensors`
has the weights. Both are fetched once into the hub's own cache (HF_HOME) and from then on read there, at the commit
that was fetched. Nothing else is read: no code, no pickled weights, no files that `config.json` names elsewhere.

What decides freshness imports this file at every start, so timm and the hub's client are imported where they are used.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config.schema import Encoder
from pipeline.errors import UserError

PREFIX = "tu-hf-hub:"
NAME = re.compile(rf"{PREFIX}([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([A-Za-z0-9][\w.-]*))?", re.ASCII)
DESCRIPTION, WEIGHTS = "config.json", "model.safetensors"
# By these a description would have timm read other files than these two, also from this machine.
ELSEWHERE = ("url", "file", "state_dict", "hf_hub_filename", "custom_load")
NOT_OF_THE_NETWORK = ("pretrained", "cache_dir", "checkpoint", "model_cfg", "feature_cfg", "kwargs_filter")


class HubEncoder(NamedTuple):
    """An encoder of the hub as it lies on this machine."""

    name: str  # as timm loads it, with the commit
    description: Path
    weights: Path | None


def is_of_hub(name: str) -> bool:
    """Returns whether MODEL.ENCODER.NAME names an encoder of the hub.

    >>> is_of_hub("tu-hf-hub:timm/resnet18.a1_in1k"), is_of_hub("tu-resnet18")
    (True, False)
    """
    return name.startswith(PREFIX)


def refuse_remote(encoder: Encoder) -> None:
    """Refuses an encoder of the hub that is not permitted, or whose name is none.

    Raises:
        UserError: says what to set.
    """
    if not encoder.allow_remote:
        raise UserError(
            f"MODEL.ENCODER.NAME: found {encoder.name!r}, which is fetched from Hugging Face's hub. If you trust its "
            "owner, set MODEL.ENCODER.ALLOW_REMOTE: true; otherwise write an encoder of timm's own list, such as "
            "tu-resnet18"
        )
    if not NAME.fullmatch(encoder.name):
        raise UserError(f"MODEL.ENCODER.NAME: found {encoder.name!r}, expected {PREFIX}OWNER/NAME or OWNER/NAME@COMMIT")


def on_this_machine(encoder: Encoder) -> list[Path]:
    """Returns the files of an encoder of the hub that are in the cache; asks no network."""
    import huggingface_hub

    owner_and_name, revision = NAME.fullmatch(encoder.name).groups()
    wanted = (DESCRIPTION, WEIGHTS) if encoder.weights is not None else (DESCRIPTION,)
    found = [huggingface_hub.try_to_load_from_cache(owner_and_name, file, revision=revision) for file in wanted]
    return [Path(path) for path in found if isinstance(path, str)]


def encoder_of_hub(encoder: Encoder) -> HubEncoder:
    """Returns an encoder of the hub, which is fetched where it is not on this machine.

    Raises:
        UserError: it is not permitted, the hub does not give it, it has no safetensors, or its description is of
            something else than a network of timm.
    """
    import timm

    refuse_remote(encoder)
    owner_and_name, revision = NAME.fullmatch(encoder.name).groups()
    paths = on_this_machine(encoder)
    wanted = (DESCRIPTION, WEIGHTS) if encoder.weights is not None else (DESCRIPTION,)
    if len(paths) < len(wanted):
        paths = [_fetched(owner_and_name, file, revision) for file in wanted]
    commits = {path.parent.name for path in paths}
    if len(commits) > 1:
        raise UserError(
            f"MODEL.ENCODER.NAME: the cache has the files of {owner_and_name} of several commits; "
            f"choose one: {PREFIX}{owner_and_name}@{min(commits)}"
        )
    description = read_description(paths[0], encoder.name)
    if not timm.is_model(str(description["architecture"])):
        raise UserError(
            f"MODEL.ENCODER.NAME: {encoder.name} has the architecture {description['architecture']!r}, which timm does "
            "not have; name another encoder"
        )
    return HubEncoder(f"{PREFIX}{owner_and_name}@{commits.pop()}", *paths, *([None] if len(paths) < 2 else []))


def read_description(path: Path, name: str) -> dict[str, Any]:
    """Returns the content of a `config.json`, with `pretrained_cfg` as a part of it in older ones, too.

    Raises:
        UserError: it is damaged, or would have other files read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("architecture"), str):
        raise UserError(
            f"MODEL.ENCODER.NAME: {name}: {path} does not name an architecture of timm; name another encoder"
        )
    own, arguments = content.setdefault("pretrained_cfg", dict(content)), content.get("model_args") or {}
    if not isinstance(own, dict) or not isinstance(arguments, dict):
        raise UserError(f"MODEL.ENCODER.NAME: {name}: {path} is damaged; remove it, then type the same command")
    wrong = [key for key in ELSEWHERE if own.get(key)]
    wrong += [key for key in arguments if key.startswith(NOT_OF_THE_NETWORK)]
    if wrong:
        raise UserError(
            f"MODEL.ENCODER.NAME: {name}: {path} has the key {wrong[0]}, which can make timm read other files; "
            "name another encoder"
        )
    return content


def mean_std_of_hub(name: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Returns mean and standard deviation of the images that an encoder of the hub was trained on; None: not given."""
    path = encoder_of_hub(Encoder(name, "", None, allow_remote=True)).description
    own = read_description(path, name)["pretrained_cfg"]
    pair = tuple(own.get(key) for key in ("mean", "std"))
    is_given = all(
        isinstance(part, list) and len(part) == 3 and all(isinstance(one, int | float) for one in part) for part in pair
    )
    return tuple(map(tuple, pair)) if is_given and all(one > 0 for one in pair[1]) else None


def _fetched(owner_and_name: str, file: str, revision: str | None) -> Path:
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(owner_and_name, file, revision=revision))
    except huggingface_hub.errors.EntryNotFoundError as error:
        if not isinstance(error, huggingface_hub.errors.LocalEntryNotFoundError):
            why = "the only weights that are read" if file == WEIGHTS else "which names the architecture"
            raise UserError(
                f"MODEL.ENCODER.NAME: {owner_and_name} has no {file}, {why}; name another encoder"
            ) from None
        raise _out_of_reach(owner_and_name, file, error) from None
    except Exception as error:  # the hub's client raises its own, requests' and the system's errors alike
        raise _out_of_reach(owner_and_name, file, error) from None


def _out_of_reach(owner_and_name: str, file: str, error: Exception) -> UserError:
    return UserError(
        f"MODEL.ENCODER.NAME: {file} of {owner_and_name} is not in the cache of Hugging Face's hub, and the hub did "
        f"not answer ({type(error).__name__}). Type the same command on a machine with internet, then copy the cache "
        "(HF_HOME) from there."
    )
