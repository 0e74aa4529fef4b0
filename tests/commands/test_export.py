"""What `./run.sh export` writes computes what the network computes, and is used as its README says."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from pipeline.__main__ import main
from pipeline.commands.export import read_me
from pipeline.config.schema import Encoder
from pipeline.errors import UserError
from pipeline.segmentation import export
from pipeline.segmentation.networks import build_network, network_of
from pipeline.segmentation.predict import PLAIN, Predictor, make_predictor
from pipeline.training import onnx_file
from pipeline.training.assemble import load_predictor, predicting_content
from pipeline.training.encoder import normalise, scaling_of
from pipeline.training.onnx_file import ExportedFiles
from tests.tiny import overrides, run_of, run_paths, run_stages, tiny

NOISE = np.random.default_rng(3)


def predictor_of(name: str, **options) -> Predictor:
    """Returns a network with random weights that tells 5 classes apart."""
    from pipeline.config.schema import Model

    encoder = Encoder("resnet18", "", None)
    torch.manual_seed(0)
    network = build_network(Model(name, "", encoder, **options), 5)
    return Predictor(network.eval(), encoder, PLAIN, 5, torch.device("cpu"), torch.float32)


def onnx_logits(path, image_BHWC: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path))
    return session.run(["logits"], {"image": image_BHWC.transpose(0, 3, 1, 2).astype(np.float32)})[0]


def own_logits(predictor: Predictor, image_BHWC: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        scaling = scaling_of(predictor.network, predictor.encoder)
        return predictor.network(normalise(torch.from_numpy(image_BHWC), scaling))[:, : predictor.num_classes].numpy()


def test_a_trained_run_is_written_for_other_programs(workshop, capsys, without_drawing):
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    words = ["export", "demo", *overrides(workshop.data, "SWEEP.ENABLE=false")]
    assert main(words) == 2
    assert "best.ckpt; train it: ./run.sh demo " in capsys.readouterr().err
    run_stages(loaded, "train")
    assert main(words) == 0
    folder, run = run_paths(loaded.run) / "exported", run_of(loaded)
    printed = capsys.readouterr().out
    assert "network.onnx takes images of any size" in printed and "exported/README.md" in printed
    facts = json.loads((folder / "export.json").read_text())
    assert facts["classes"] == list(loaded.competition.class_names) and facts["onnx"]["size"] is None

    predictor = load_predictor(run, predicting_content(run))
    for shape in ((1, 64, 64, 3), (3, 96, 160, 3)):
        image = NOISE.integers(0, 256, shape, dtype=np.uint8)
        wanted = own_logits(predictor, image)
        assert np.abs(onnx_logits(folder / "network.onnx", image) - wanted).max() <= 1e-4 * max(1, np.abs(wanted).max())
        scaled = (image - facts["low"]) / (facts["high"] - facts["low"])
        scaled = ((scaled - facts["mean"]) / facts["std"]).transpose(0, 3, 1, 2)  # as the README says
        with torch.inference_mode():
            found = smp.from_pretrained(folder / "pretrained").eval()(torch.from_numpy(scaled.astype(np.float32)))
        assert np.abs(found.numpy()[:, : wanted.shape[1]] - wanted).max() <= 1e-4 * max(1, np.abs(wanted).max())


@pytest.mark.slow
def test_a_network_that_no_file_for_any_size_can_hold_is_written_for_one_size(tmp_path, capfd):
    predictor = predictor_of("PSPNet")  # pools to grids whose cells depend on the size
    facts = export.export_network(predictor, (60, 100), tmp_path).facts
    assert capfd.readouterr().out == ""  # torch prints the graph of the export that failed
    assert tuple(facts["onnx"]["size"]) == (64, 128)
    image = NOISE.integers(0, 256, (1, 64, 128, 3), dtype=np.uint8)
    wanted = own_logits(predictor, image)
    assert np.abs(onnx_logits(tmp_path / "network.onnx", image) - wanted).max() <= 1e-4 * max(1, np.abs(wanted).max())


def test_a_network_of_our_own_has_no_folder_for_the_library(tmp_path):
    facts = export.export_network(predictor_of("DeepLabV2"), (64, 64), tmp_path).facts
    assert facts["library"] is None and [path.name for path in tmp_path.iterdir()] == ["network.onnx"]


def test_a_network_that_takes_no_small_images_is_written_where_it_sees_them_enlarged(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "export_onnx", lambda *_: {})  # its file has the hooks, which make the images larger
    loaded = tiny(tmp_path, "MODEL.NAME=PAN", "DATASETS.INPUT_SCALE=2")
    predictor = make_predictor(loaded, network_of(loaded), torch.device("cpu"), torch.float32)
    exported = export.export_network(predictor, (60, 60), tmp_path)
    assert exported.facts["smallest"] == 64 and exported.facts["library"]["difference"] <= 1e-4


def test_the_example_is_an_image_that_the_network_takes():
    facts = {"run": "own", "classes": ["road"], "mean": [0.5] * 3, "low": 0, "high": 255, "multiple": 32}
    facts |= {"smallest": 160, "onnx": {"size": None}, "library": None}
    text = read_me(facts, ExportedFiles(facts, "by mirroring", "- `logits`\n", ""))
    assert "multiples of 32, at least 160" in text and "np.zeros((1, 3, 160, 160), np.float32)" in text


@pytest.mark.parametrize(("factor", "share"), [(1.01, r"1\.0e-02"), (float("nan"), "inf")])
def test_a_file_with_other_logits_is_not_kept(tmp_path, monkeypatch, factor, share):
    class Other(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network, self.names, self.scale, self.shift = network, network.names, network.scale, network.shift

        def forward(self, image):
            return tuple(output * factor for output in self.network(image))

    tracing = onnx_file._by_tracing
    wrong = lambda network, *rest: tracing(Other(network).eval(), *rest)  # noqa: E731
    monkeypatch.setattr(onnx_file, "_by_tracing", wrong)
    monkeypatch.setattr(onnx_file, "_by_dynamo", wrong)
    with pytest.raises(UserError, match=f"its outputs differ from the network's by {share} of the largest"):
        export.export_network(predictor_of("Unet"), (64, 64), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pretrained"]


def test_an_ensemble_is_refused_by_the_names_of_its_members(capsys):
    assert main(["export", "DemoEns"]) == 2
    assert "DemoEns is an ensemble" in (error := capsys.readouterr().err) and "DemoAAA, DemoAAB" in error


def test_without_a_standard_output_no_other_file_is_taken_for_it(project, tmp_path):
    code = "import sys; from pipeline.training.onnx_file import quiet; file = open(sys.argv[1], 'w')\n"
    code += "with quiet():\n    print('lost'); print(file.fileno(), file=file, flush=True)"
    command = 'exec "$@" >&-'
    words = ["sh", "-c", command, "sh", sys.executable, "-c", code, str(tmp_path / "written")]
    subprocess.run(words, cwd=project, check=True)
    assert (tmp_path / "written").read_text() == "1\n"
