from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.bootstrap.doctor import competitions, doctor, encoder_weights, kaggle_credentials, table
from pipeline.bootstrap.findings import Finding, disk, gpus, internet, opencv, packages, shared_memory
from pipeline.bootstrap.requirements import parse_requirements
from pipeline.paths import Folders

PROJECT = Path(__file__).resolve().parent.parent.parent


def nvidia_smi(listing: str, cuda: str = "13.1"):
    """Returns a function that answers like nvidia-smi."""
    return lambda command: listing if len(command) > 1 else f"| NVIDIA-SMI 590  CUDA Version: {cuda} |"


def test_without_any_package_it_names_each_missing_one_with_its_fix(tmp_path: Path):
    subprocess.run([sys._base_executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    command = [str(tmp_path / "bare" / "bin" / "python"), "-m", "pipeline.bootstrap.doctor"]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == ""
    for package in ("torch", "segmentation-models-pytorch", "pytorch-toolbelt"):
        assert f"  FIX   {package} " in result.stdout
    assert "fix: rm -f .venv/ready && ./run.sh doctor" in result.stdout
    assert "The demo cannot run yet; fix first: torch, torchvision" in result.stdout


def test_on_this_machine_the_demo_can_run(capsys):
    assert doctor() == 0, capsys.readouterr().out
    assert "The demo can run" in capsys.readouterr().out


def test_a_check_that_takes_too_long_is_reported_and_not_waited_for(capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipeline.bootstrap.doctor.LIMIT_S", 0.0)
    doctor()
    assert "no answer within 0 s" in capsys.readouterr().out


def test_packages_that_only_the_tests_need_do_not_stop_the_demo():
    lines = parse_requirements("torch>=2.6  # networks\nruff>=0.17  # tests: linter\npandas>=2.1  # tables\n")
    findings = packages(lines, {"torch": "2.5.1", "pandas": "3.0"})
    assert [(finding.what, finding.state) for finding in findings] == [
        ("torch", "bad"),
        ("ruff", "note"),
        ("pandas", "ok"),
    ]


def test_two_builds_of_opencv_in_one_folder_are_named(tmp_path: Path):
    both = {"opencv-python": "4.12", "opencv-python-headless": "5.0"}
    (clash,) = opencv(both, dict.fromkeys(both, tmp_path / "cv2"))
    assert "opencv-python 4.12, opencv-python-headless 5.0" in clash.remark
    assert clash.fix
    assert opencv(both, {name: tmp_path / name / "cv2" for name in both}) == []


@pytest.mark.parametrize(
    ("listing", "cuda", "state", "words"),
    [
        ("Tesla T4, 15360, 7.5\nTesla T4, 15360, 7.5", "13.1", "ok", "float16 with a scaler"),
        ("NVIDIA H200, 143771, 9.0", "13.1", "ok", "bfloat16"),
        ("Tesla P100-PCIE-16GB, 16384, 6.0", "13.1", "note", "too old"),
        ("NVIDIA L4, 23034, 8.9", "12.4", "note", "the driver supports CUDA 12.4, torch was built for 13.0"),
        ("", "", "ok", "runs use the CPU"),
        ("Failed to initialize NVML", "", "ok", "runs use the CPU"),
    ],
)
def test_a_gpu_is_listed_with_its_precision(listing: str, cuda: str, state: str, words: str):
    findings = gpus("13.0", nvidia_smi(listing, cuda))
    assert len(findings) == max(1, listing.count("\n") + 1)
    assert {finding.state for finding in findings} == {state}
    assert words in findings[0].remark


@pytest.mark.parametrize(
    ("gpu", "torch_cuda", "is_too_old"),
    [
        ("Tesla P100-PCIE-16GB, 16384, 6.0", "12.8", True),  # Kaggle's image of 2026
        ("Tesla P100-PCIE-16GB, 16384, 6.0", "12.6", False),
        ("Tesla V100-SXM2-16GB, 16384, 7.0", "12.8", False),
        ("Tesla V100-SXM2-16GB, 16384, 7.0", "13.0", True),
        ("Tesla T4, 15360, 7.5", "13.2", False),
    ],
)
def test_whether_a_gpu_is_too_old_depends_on_the_build_of_torch(gpu: str, torch_cuda: str, is_too_old: bool):
    (finding,) = gpus(torch_cuda, nvidia_smi(gpu, "13.2"))
    assert ("too old for this torch" in finding.remark) == is_too_old


def test_a_gpu_beside_a_torch_without_cuda_is_reported():
    (finding,) = gpus(None, nvidia_smi("NVIDIA L4, 23034, 8.9"))
    assert (finding.state, "without CUDA" in finding.remark) == ("note", True)


def test_a_competition_is_listed_with_its_counts_or_how_to_get_it(tmp_path: Path):
    folder = tmp_path / "camvid"
    folder.mkdir()
    (folder / "train.csv").write_text("ImageID,Sequence\na,1\nb,1\n\n")
    (folder / "test.csv").write_text("ImageID\nc\n")
    findings = competitions(replace(Folders.from_environment(), data=(tmp_path,)))
    found = {finding.what: finding for finding in findings}
    assert found["camvid"].found == "2 train + 1 test"
    assert found["aeroscapes"].fix.startswith("./run.sh download aeroscapes")
    assert found["dubai_aerial"].fix == "DATA_DIR=/folder/that/contains/dubai_aerial"  # cannot be downloaded
    assert found["demo"].state == "ok"


def test_encoder_weights_are_found_in_a_folder_and_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "resnet18-imagenet.safetensors").write_bytes(b"0" * 1000)
    (tmp_path / "hub" / "models--smp-hub--resnet34.imagenet").mkdir(parents=True)
    names = [finding.what for finding in encoder_weights({"HF_HOME": str(tmp_path)}, Folders.from_environment())]
    assert {"resnet18-imagenet", "resnet34.imagenet"} <= set(names)


def test_credentials_are_searched_for_but_never_shown(tmp_path: Path):
    assert kaggle_credentials({}, tmp_path).state == "note"
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "kaggle.json").write_text('{"key": "secret"}')
    by_file = kaggle_credentials({}, tmp_path)
    by_name = kaggle_credentials({"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "secret"}, tmp_path / "nowhere")
    assert by_file.state == by_name.state == "ok"
    assert "secret" not in str(by_file) + str(by_name)


def test_a_network_without_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    is_over, answers = threading.Event(), []

    def hang(*_, **__):
        is_over.wait(20)
        answers.append(TimeoutError())
        raise answers[-1]

    monkeypatch.setattr("socket.create_connection", hang)
    findings = internet({"one.example": "packages", "two.example": "data"}, limit_s=0.2)
    assert not answers
    is_over.set()
    assert [finding.state for finding in findings] == ["note", "note"]


def test_a_disk_too_full_for_the_demo_stops_it(tmp_path: Path):
    assert disk("runs", tmp_path / "not" / "yet", 0.0).state == "ok"
    full = disk("runs", tmp_path, 1e9)
    assert (full.state, bool(full.fix)) == ("bad", True)


def test_a_machine_without_shared_memory_has_no_line_for_it(tmp_path: Path):
    assert shared_memory(tmp_path / "none") == []


def test_a_fix_of_consecutive_lines_is_printed_once():
    findings = [Finding(name, "-", "", "bad", "install") for name in "abc"]
    assert table([("Packages", findings)]).count("fix: install") == 1
