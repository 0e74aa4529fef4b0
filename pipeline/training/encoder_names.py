"""Which encoders MODEL.ENCODER.NAME may name, and which pretrained weights they have: of the library, and of timm."""

from __future__ import annotations

import functools

import segmentation_models_pytorch as smp
import timm
import torch

from pipeline.config.schema import Encoder
from pipeline.errors import UserError
from pipeline.training.hub import encoder_of_hub, is_of_hub
from pipeline.wording import did_you_mean

TIMM_WEIGHTS = "imagenet"  # a tag of timm's is a part of the encoder's name


def published_weights(encoder: str) -> tuple[str, ...]:
    """Returns the tags of the weights that the library or timm has of an encoder.

    >>> published_weights("resnet18"), published_weights("tu-resnet18"), published_weights("yolox_s")
    (('imagenet', 'ssl', 'swsl'), ('imagenet',), ())
    """
    settings = smp.encoders.encoders.get(encoder, {}).get("pretrained_settings", {})
    return tuple(settings) or ((TIMM_WEIGHTS,) if timm_name(encoder) is not None else ())


def download_name(encoder: Encoder) -> str | None:
    """Returns what to type behind `./run.sh download` for an encoder's weights; None where nobody publishes them there.

    >>> download_name(Encoder("resnet18", "R18", "imagenet")), download_name(Encoder("resnet18", "R18", "swsl"))
    ('resnet18', 'resnet18-swsl')
    """
    if encoder.weights not in published_weights(encoder.name):
        return None
    return encoder.name if encoder.weights == "imagenet" else f"{encoder.name}-{encoder.weights}"


def encoder_to_download(name: str) -> Encoder | None:
    """Returns the encoder and the weights of a name such as `download_name` gives; None where there is none."""
    if (name in smp.encoders.encoders or timm_name(name)) and "imagenet" in published_weights(name):
        return Encoder(name, "", "imagenet")
    tagged = (Encoder(one, "", name.removeprefix(f"{one}-")) for one in smp.encoders.encoders if name.startswith(one))
    return next((one for one in tagged if download_name(one) == name), None)


def download_names(name: str) -> list[str]:
    """Returns what `download_name` gives for all published weights of an encoder; [] where there are none.

    >>> download_names("resnext101_32x4d"), download_names("dpn92"), download_names("resnet")
    (['resnext101_32x4d-ssl', 'resnext101_32x4d-swsl'], ['dpn92-imagenet+5k'], [])
    """
    return [download_name(Encoder(name, "", tag)) for tag in published_weights(name)]


def name_to_build(encoder: Encoder) -> str:
    """Returns the name by which the library builds an encoder: as in the config, or of a commit of the hub.

    timm would also take what a folder describes (`local-dir:`). That is refused: a config does not choose from where a
    network's description comes. What the hub describes is taken where MODEL.ENCODER.ALLOW_REMOTE permits it.

    Raises:
        UserError: neither the library nor timm's own list has the encoder; names the nearest. Or see `encoder_of_hub`.
    """
    if is_of_hub(encoder.name):
        return encoder_of_hub(encoder).name
    _refuse_unknown_encoder(encoder.name)
    return encoder.name


def _refuse_unknown_encoder(encoder: str) -> None:
    if (name := timm_name(encoder)) is not None:
        _refuse_unknown_to_timm(encoder, name)
        return
    known = sorted(smp.encoders.encoders)
    if encoder not in known:
        is_of_timm = encoder.partition(".")[0] in _timm_names()
        hint = did_you_mean(encoder, known, f"known: {', '.join(known)}", most=3)
        hint = f"timm has it: write tu-{encoder}" if is_of_timm else hint
        raise UserError(f"MODEL.ENCODER.NAME: the library has no {encoder!r}; {hint}")


def timm_name(encoder: str) -> str | None:
    """Returns timm's name of an encoder, as the library finds it; None where the encoder is the library's own.

    >>> timm_name("tu-lcnet_035"), timm_name("timm-mobilenetv3_small_075"), timm_name("resnet18")
    ('lcnet_035', 'tf_mobilenetv3_small_075', None)
    """
    if smp.encoders.is_equivalent_to_timm_universal(encoder):  # old names
        name = encoder.replace("timm-", "", 1)
        return f"tf_{name}" if "mobilenetv3" in name else name
    return encoder.removeprefix("tu-") if encoder.startswith("tu-") else None


def _refuse_unknown_to_timm(encoder: str, name: str) -> None:
    if {*":/\\"} & set(name):
        raise UserError(
            f"MODEL.ENCODER.NAME: found {encoder!r}, expected an encoder of timm's own list, not of a hub or a folder."
            " Write tu-ARCHITECTURE, such as tu-resnet18, and name a file of weights in MODEL.ENCODER.WEIGHTS"
        )
    architecture, dot, tag = name.partition(".")
    if not timm.is_model(architecture):
        known = [f"tu-{one}" for one in _timm_names()]
        hint = did_you_mean(encoder.partition(".")[0], known, "write for example tu-resnet18", most=3)
        raise UserError(f"MODEL.ENCODER.NAME: timm has no {name!r}; {hint}")
    tagged = timm.list_models(f"{architecture}.*", pretrained=True)
    if dot and name not in tagged:
        hint = did_you_mean(name, tagged, f"it has {', '.join(tagged) or 'none'}", most=3)
        raise UserError(f"MODEL.ENCODER.NAME: timm has no weights {tag!r} of {architecture}; {hint}")


@functools.cache
def _timm_names() -> tuple[str, ...]:
    return tuple(timm.list_models())


def is_plain_transformer(name: str) -> bool:
    """Returns whether an encoder of timm keeps one resolution, so that the library takes it for DPT alone."""
    if not name.startswith("tu-"):
        return False
    try:
        with torch.device("meta"):
            smp.encoders.get_encoder(name, weights=None)
    except ValueError:  # "Unsupported model downsampling pattern"
        return True
    return False
