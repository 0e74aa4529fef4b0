"""Encoders of Hugging Face's hub, `tu-hf-hub:OWNER/NAME`, which MODEL.ENCODER.ALLOW_REMOTE permits.

An encoder there is two files: `config.json` names one of timm's architectures and its arguments, `model.safetensors`
has the weights. Both are fetched once into the hub's own cache (HF_HOME) and from then on read there, at the commit
that was fetched. Nothing else is read: no code, no pickled weights, no files that `config.json` names elsewhere.

What decides freshness imports this file at every start, so timm and the hub's client are imported where they are used.
"""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pipeline.config.schema import Encoder
from pipeline.errors import UserError

PREFIX = "tu-hf-hub:"
# As the hub allows: parts of at most 96 characters that end with a letter, digit or underscore, without -- and ..
_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?"
NAME = re.compile(
    rf"{PREFIX}(?![^@]*(?:--|\.\.))({_PART}/{_PART})(?<!\.git)(?:@([A-Za-z0-9][\w.-]*))?",
    re.ASCII,
)
DESCRIPTION, WEIGHTS = "config.json", "model.safetensors"
# By these a description would have timm read other files than these two, also from this machine.
ELSEWHERE = ("url", "file", "state_dict", "hf_hub_filename", "custom_load")
NOT_OF_THE_NETWORK = ("pretrained", "cache_dir", "checkpoint", "model_cfg", "feature_cfg", "kwargs_filter")


class HubEncoder(NamedTuple):
    """An encoder of the hub as it lies on this machine."""

    name: str  # as timm loads it, with the commit
    description: Path


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


def on_this_machine(encoder: Encoder, files: tuple[str, ...] = (DESCRIPTION, WEIGHTS)) -> list[Path]:
    """Returns the files of an encoder of the hub that are in the cache; asks no network. None of a name that is none.

    >>> on_this_machine(Encoder("tu-hf-hub:resnet18", "R18", None))
    []
    """
    parts = NAME.fullmatch(encoder.name)
    return [path for file in files if (path := _cached(*parts.groups(), file)) is not None] if parts else []


def encoder_of_hub(encoder: Encoder, has_weights: bool = False) -> HubEncoder:
    """Returns an encoder of the hub, which is fetched where it is not on this machine.

    Args:
        has_weights: whether its weights are wanted, too, of the same commit; to build it, the description is enough.

    Raises:
        UserError: it is not permitted, the hub does not give it, it has no safetensors, or its description is of
            something else than a network of timm.
    """
    import timm

    refuse_remote(encoder)
    owner_and_name, revision = NAME.fullmatch(encoder.name).groups()
    path = _cached(owner_and_name, revision, DESCRIPTION) or _fetched(owner_and_name, revision, DESCRIPTION)
    commit = path.parent.name
    description = read_description(path, encoder.name)
    if not timm.is_model(str(description["architecture"])):
        raise UserError(
            f"MODEL.ENCODER.NAME: {encoder.name} has the architecture {description['architecture']!r}, which timm does "
            "not have; name another encoder"
        )
    if has_weights and _cached(owner_and_name, commit, WEIGHTS) is None:
        _fetched(owner_and_name, commit, WEIGHTS)
    return HubEncoder(f"{PREFIX}{owner_and_name}@{commit}", path)


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


def use_cache_without_network() -> None:
    """Lets the hub's client read its cache only where its host is out of reach; it would try again for some 24 s."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE or not _reaches(constants.ENDPOINT)


def _reaches(address: str) -> bool:
    """Returns whether the host of a web address accepts a connection within two seconds."""
    try:
        with socket.create_connection((urlsplit(address).hostname or "", 443), timeout=2):
            return True
    except OSError:
        return False


def _cached(owner_and_name: str, revision: str | None, file: str) -> Path | None:
    import huggingface_hub

    path = huggingface_hub.try_to_load_from_cache(owner_and_name, file, revision=revision)
    return Path(path) if isinstance(path, str) else None  # otherwise None, or a mark that the hub does not have it


def _fetched(owner_and_name: str, revision: str | None, file: str) -> Path:
    import huggingface_hub

    use_cache_without_network()
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
