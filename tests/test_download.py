"""Downloads: whole or absent, and nothing outside the folder."""

import random
import re
import stat
import zipfile

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from pipeline.config.schema import Encoder, Model
from pipeline.download import download, fetch, unpack
from pipeline.errors import UserError
from pipeline.paths import Folders
from pipeline.segmentation.networks import build_network
from pipeline.training.encoder import load_encoder
from pipeline.training.encoder_names import encoder_to_download
from tests.damages import damaged
from tests.segmentation.submission.scenes import make_competition
from tests.submission.clients import run_lines
from tests.submission.loopback import kaggle_at

DOWNLOAD = "fetch(competition, Path('data/a-competition'))"


def make_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files:
            zipped.writestr(name, content)
    return path


def test_all_files_arrive_and_nothing_else_is_left(tmp_path):
    make_zip(tmp_path / "archive.zip", [("train.csv", "ImageID\n"), ("imgs/imgs/a.jpg", b"\xff" * 100)])
    outcome = run_lines(DOWNLOAD, tmp_path)
    assert outcome.code == 0, outcome.error
    target = tmp_path / "data" / "a-competition"
    assert (target / "imgs" / "imgs" / "a.jpg").read_bytes() == b"\xff" * 100
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["a-competition"]


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "data" / "a-competition").mkdir(parents=True)
    assert run_lines(DOWNLOAD, tmp_path, "no network").code == 0


def large(path):
    """Returns an archive of several of the MiB that the client writes at once."""
    return make_zip(path, [("train.csv", "ImageID\n"), ("noise", np.random.default_rng(0).bytes(5_000_000))])


def test_a_download_that_breaks_off_leaves_no_folder_and_goes_on_later(tmp_path):
    archive = large(tmp_path / "archive.zip")
    assert run_lines(DOWNLOAD, tmp_path, "broken download").code == 2
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["a-competition.partial"]
    with kaggle_at(tmp_path) as server:
        fetch(make_competition(), tmp_path / "data" / "a-competition")
    *_, asked = server.ranges
    assert 0 < int(asked.removeprefix("bytes=").removesuffix("-")) < archive.stat().st_size  # not from its beginning
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["a-competition"]
    assert (tmp_path / "data/a-competition/noise").stat().st_size == 5_000_000


@pytest.mark.parametrize("mood", ["slow download", "cut download"])
def test_a_slow_or_a_cut_answer_arrives_whole(tmp_path, mood):
    large(tmp_path / "archive.zip")
    outcome = run_lines(DOWNLOAD, tmp_path, mood)
    assert outcome.code == 0, outcome.error
    assert (tmp_path / "data/a-competition/noise").stat().st_size == 5_000_000


@pytest.mark.parametrize(("mood", "message"), [("no network", "cannot be reached"), ("403", "accept its rules")])
def test_without_network_or_permission_nothing_is_made(tmp_path, mood, message):
    outcome = run_lines(DOWNLOAD, tmp_path, mood)
    assert outcome.code == 2
    assert message in outcome.error
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:/evil", "..\\evil", "a/.."])
def test_a_path_that_leaves_the_folder_is_refused_before_anything_is_written(tmp_path, name):
    archive = make_zip(tmp_path / "a.zip", [("good.txt", "1")])
    with zipfile.ZipFile(archive, "a") as zipped:
        member = zipfile.ZipInfo("evil")
        member.filename = name
        zipped.writestr(member, "x")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UserError, match="could leave the folder"):
        unpack(archive, folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", ["\0a", ".", "./."])  # a name is read up to its first NUL
def test_a_file_without_a_name_is_refused(tmp_path, name):
    member = zipfile.ZipInfo("a")
    member.filename = name
    with pytest.raises(UserError, match="it has no name"):
        unpack(make_zip(tmp_path / "a.zip", [(member, "x")]), tmp_path)


def test_links_are_refused(tmp_path):
    member = zipfile.ZipInfo("link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UserError, match="a link or a device"):
        unpack(make_zip(tmp_path / "a.zip", [(member, "/etc/passwd")]), tmp_path)


def test_bombs_and_double_names_are_refused(tmp_path):
    bomb = make_zip(tmp_path / "bomb.zip", [("zeros", b"\0" * 1_000_000)])
    with pytest.raises(UserError, match=r"unpacks to .* GiB are allowed"):
        unpack(bomb, tmp_path, max_bytes=999_999)
    many = make_zip(tmp_path / "many.zip", [(str(number), "") for number in range(11)])
    with pytest.raises(UserError, match="11 files; at most 10 are allowed"):
        unpack(many, tmp_path, max_files=10)
    with pytest.raises(UserError, match="it is there twice"):
        unpack(make_zip(tmp_path / "double.zip", [("a", "1"), ("A", "2")]), tmp_path)


def test_a_damaged_archive_is_refused(tmp_path):
    archive = make_zip(tmp_path / "a.zip", [("a", bytes(range(256)) * 40)])
    content = bytearray(archive.read_bytes())
    content[60] ^= 255
    archive.write_bytes(content)
    (tmp_path / "flipped").mkdir()
    with pytest.raises(UserError, match="is damaged"):
        unpack(archive, tmp_path / "flipped")
    archive.write_bytes(content[:100])
    with pytest.raises(UserError, match="is damaged"):
        unpack(archive, tmp_path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_whatever_is_damaged_in_an_archive_it_is_unpacked_or_refused_with_its_name(tmp_path, packing):
    content = random.Random(0).randbytes(400) + bytes(400)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", packing) as zipped:
        for name in ("train.csv", "imgs/1.jpg", "imgs/caf\u00e9.jpg", "imgs/2.jpg"):
            zipped.writestr(name, content)
    whole, num_refused = (tmp_path / "a.zip").read_bytes(), 0
    broken_name = whole.replace("\u00e9".encode(), b"\xc1\xff", 1)  # in the header of the file, not in the list
    for number, data in enumerate([broken_name, *damaged(whole, 100)]):
        (tmp_path / "b.zip").write_bytes(data)
        (folder := tmp_path / f"{number}").mkdir()
        try:
            unpack(tmp_path / "b.zip", folder)
        except UserError as error:
            assert "b.zip" in str(error)
            num_refused += 1
    assert num_refused > number / 2


def test_an_announced_size_that_is_a_lie_writes_no_more_than_announced(tmp_path):
    archive = make_zip(tmp_path / "a.zip", [("a", b"\0" * 100_000)])
    content = archive.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="is damaged"):
        unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "a").stat().st_size <= 10


@pytest.mark.parametrize(("encoder", "architecture"), [("tu-lcnet_035", "Unet"), ("tu-vit_tiny_patch16_224", "DPT")])
def test_weights_of_an_encoder_of_timm_are_written_as_a_run_finds_them(tmp_path, monkeypatch, encoder, architecture):
    # Stands for the hub: timm builds the network with random weights where it would fetch pretrained ones.
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **options: create(name, **options))
    monkeypatch.setattr("pipeline.training.hub._reaches", lambda address: True)
    folders = Folders(tmp_path / "runs", tmp_path / "out", tmp_path / "scratch", (tmp_path,), (tmp_path / "weights",))
    download(encoder, folders)
    state = load_file(tmp_path / "weights" / f"{encoder}-imagenet.safetensors")
    settings = Encoder(encoder, "X", "imagenet")
    network = build_network(Model(architecture, "X", settings), 2)
    load_encoder(network, settings, folders.weights)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.encoder.state_dict().items())


@pytest.mark.parametrize("name", ["yolox_s", "yolox_s-coco"])
def test_weights_of_yolox_are_refused_with_where_to_get_and_to_put_them(name, tmp_path):
    folders = Folders(tmp_path / "runs", tmp_path / "out", tmp_path / "scratch", (tmp_path,), (tmp_path / "weights",))
    where = r"get yolox_s\.pth from the releases of https://github\.com/Megvii-BaseDetection/YOLOX and save it as "
    with pytest.raises(UserError, match=where + r".*weights/yolox_s-coco\.pth"):
        download(name, folders)


def test_an_encoder_that_nobody_has_is_refused_with_the_nearest(tmp_path):
    folders = Folders(tmp_path / "runs", tmp_path / "out", tmp_path / "scratch", (tmp_path,), (tmp_path / "weights",))
    with pytest.raises(
        UserError, match=r"there is no competition or encoder 'tu-lcnet_036'; did you mean .*tu-lcnet_035"
    ):
        download("tu-lcnet_036", folders)


@pytest.mark.parametrize("name", ["dpn92", "resnext101_32x32d", "timm-efficientnet-l2"])
def test_an_encoder_without_weights_of_imagenet_is_refused_with_names_that_are_downloaded(name, tmp_path):
    folders = Folders(tmp_path / "runs", tmp_path / "out", tmp_path / "scratch", (tmp_path,), (tmp_path / "weights",))
    with pytest.raises(UserError, match=f"^{name} has no weights 'imagenet'") as refused:
        download(name, folders)
    proposed = re.findall(r"\./run\.sh download (\S+)", str(refused.value))
    assert proposed and all(encoder_to_download(one).name == name for one in proposed)


@pytest.mark.parametrize("name", ["dpn92-imagenet", "resnext101_32x32d-instagramm", "resnet18-sswl", "resnet188"])
def test_what_is_proposed_for_a_slip_in_an_encoder_is_downloaded(name, tmp_path):
    folders = Folders(tmp_path / "runs", tmp_path / "out", tmp_path / "scratch", (tmp_path,), (tmp_path / "weights",))
    with pytest.raises(UserError, match="did you mean ") as refused:
        download(name, folders)
    proposed = str(refused.value).partition("did you mean ")[2].rstrip("?").split(" or ")
    assert all(encoder_to_download(one) for one in proposed)
