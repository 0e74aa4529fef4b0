"""`./run.sh download NAME`: a competition's data, or an encoder's weights, to where the chain looks for them."""

from __future__ import annotations

import difflib
from pathlib import Path

from pipeline.config.competition import Competition
from pipeline.config.load import load_competition
from pipeline.errors import UserError
from pipeline.files import atomic_path
from pipeline.paths import CONFIGS, DEMO, Folders, shown


def download(name: str, folders: Folders) -> None:
    """Fetches a competition by its name, or the ImageNet weights of an encoder by its.

    Raises:
        UserError: nothing has that name, or it cannot be fetched from here; says how to get it by hand.
    """
    competitions = sorted(path.stem for path in (CONFIGS / "competitions").glob("*.yaml"))
    if name not in competitions:
        download_weights(name, competitions, folders)
        return
    target = folders.data[0] / name
    competition, existed = load_competition(name), target.exists()
    if existed and not (target / competition.train_csv).is_file():
        raise UserError(f"{shown(target)} is there but has no {competition.train_csv}; move it away and start again")
    path = fetch(competition, target)
    print(f"{shown(path)} is there already; remove it to fetch it anew" if existed else f"fetched: {shown(path)}")


def fetch(competition: Competition, target: Path) -> Path:
    """Returns the folder of a competition after fetching it from where it is published."""
    if competition.name == DEMO:
        from pipeline.demo import generate

        generate(target)
        return target
    if competition.name == "camvid":
        from pipeline.data.camvid import download_camvid

        return download_camvid(competition, target)
    if competition.kaggle_slug is None:
        raise UserError(
            f"{competition.name} is not published in a form that can be fetched: {competition.title}.\n"
            f"Put its folder where DATA_DIR points; its layout is in configs/competitions/{competition.name}.yaml."
        )
    from pipeline.submission.download import download_competition

    return download_competition(competition, target)


def download_weights(encoder: str, competitions: list[str], folders: Folders) -> None:
    """Writes `<encoder>-imagenet.safetensors` for machines without internet."""
    import segmentation_models_pytorch as smp
    from safetensors.torch import save_file

    from pipeline.config.schema import Encoder
    from pipeline.model.build import load_pretrained

    if encoder not in smp.encoders.encoders:
        near = difflib.get_close_matches(encoder, [*competitions, *smp.encoders.encoders], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"competitions: {', '.join(competitions)}"
        raise UserError(f"there is no competition and no encoder {encoder!r}; {hint}")
    path = folders.weights[0] / f"{encoder}-imagenet.safetensors"
    state = load_pretrained(Encoder(encoder, "", "imagenet"), folders.weights).state_dict()
    with atomic_path(path) as temporary:
        save_file({name: value.contiguous() for name, value in state.items()}, temporary)
    print(f"fetched: {shown(path)}")
