"""`./run.sh download NAME`: a competition's data, or an encoder's weights, into the folders where runs find them."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.competition import Competition
from pipeline.config.load import competition_names, load_competition
from pipeline.errors import UserError
from pipeline.files import atomic_path
from pipeline.paths import DEMO, Folders, shown
from pipeline.wording import did_you_mean


def download(name: str, folders: Folders) -> None:
    """Downloads the data of a competition, or the ImageNet weights of an encoder.

    Raises:
        UserError: nothing has that name, or the download is not possible; says how to get the data by hand.
    """
    competitions = competition_names()
    if name not in competitions:
        download_weights(name, competitions, folders)
        return
    target = folders.data[0] / name
    competition, existed = load_competition(name), target.exists()
    if existed and not (target / competition.train_csv).is_file():
        raise UserError(
            f"{shown(target)} exists but has no {competition.train_csv}; move it away, then type the same command"
        )
    fetch(competition, target)
    path = shown(target)
    print(f"{path} already exists; remove it to download again" if existed else f"downloaded: {path}")


def fetch(competition: Competition, target: Path) -> None:
    """Downloads a competition's folder from its publisher; one that exists is left alone."""
    if competition.name == DEMO:
        from pipeline.demo.write import generate

        generate(target)
    elif competition.name == "camvid":
        from pipeline.data.camvid import download_camvid

        download_camvid(competition, target)
    elif competition.kaggle_slug is None:
        raise UserError(
            f"{competition.name} cannot be downloaded: it has no KAGGLE_SLUG ({competition.title}).\n"
            f"Put its folder into DATA_DIR; configs/competitions/{competition.name}.yaml describes its files."
        )
    else:
        from pipeline.submission.download import download_competition

        download_competition(competition, target)


def download_weights(encoder: str, competitions: list[str], folders: Folders) -> None:
    """Writes `<encoder>-imagenet.safetensors` for machines without internet."""
    import segmentation_models_pytorch as smp
    from safetensors.torch import save_file

    from pipeline.config.schema import Encoder
    from pipeline.training.encoder import load_pretrained

    if encoder not in smp.encoders.encoders:
        known = [*competitions, *smp.encoders.encoders]
        hint = did_you_mean(encoder, known, f"competitions: {', '.join(competitions)}", most=3)
        raise UserError(f"there is no competition or encoder {encoder!r}; {hint}")
    path = folders.weights[0] / f"{encoder}-imagenet.safetensors"
    state = load_pretrained(Encoder(encoder, "", "imagenet"), folders.weights).state_dict()
    with atomic_path(path) as temporary:
        save_file({name: value.contiguous() for name, value in state.items()}, temporary)
    print(f"downloaded: {shown(path)}")
