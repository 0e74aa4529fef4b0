"""Devices and number formats, and what is said where a GPU cannot do what it is asked."""

from __future__ import annotations

import os

import pytest
import torch

from pipeline.errors import UserError
from pipeline.training import device
from pipeline.training.device import (
    choose_device,
    choose_precision,
    described,
    explained_faults,
    has_kernels,
    make_reproducible,
)

CPU = torch.device("cpu")
OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 2.81 GiB. GPU 0 has a total capacity of 14.74 GiB of which 412.12 MiB is "
    "free. Including non-PyTorch memory, this process has 14.33 GiB memory in use."
)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A P100 beside a torch of today, as on Kaggle since 2026: it is found, and then nothing runs on it."""
    answers = {"is_available": True, "get_device_capability": (6, 0), "get_device_name": "Tesla P100-PCIE-16GB"}
    for name, answer in {**answers, "get_arch_list": ["sm_75", "sm_80", "sm_90", "sm_120"]}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *arguments, answer=answer: answer)
    device._log_once.cache_clear()


def test_a_gpu_that_is_wanted_and_absent_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"RUNTIME\.DEVICE is cuda, but torch finds no GPU"):
        choose_device("cuda")
    assert choose_device("auto") == choose_device("cpu") == CPU


@pytest.mark.parametrize(
    ("name", "device", "capability", "wanted"),
    [
        ("auto", "cpu", None, torch.float32),
        ("auto", "cuda", (7, 5), torch.float16),  # a T4 says that it can bfloat16, and emulates it
        ("auto", "cuda", (8, 0), torch.bfloat16),
        ("float32", "cuda", (8, 0), torch.float32),
        ("bfloat16", "cpu", None, torch.bfloat16),
        ("fastest", "cuda", (7, 5), torch.float16),
        ("fastest", "cuda", (8, 0), torch.bfloat16),
    ],
)
def test_precision_is_what_the_card_does_natively(monkeypatch, name, device, capability, wanted):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision(name, torch.device(device)) == wanted


@pytest.mark.parametrize(
    ("name", "instructions", "wanted"),
    [
        ("fastest", "amx_bf16", torch.bfloat16),
        ("fastest", "avx512_bf16", torch.bfloat16),
        ("fastest", "avx2", torch.float32),
        ("auto", "avx512_bf16", torch.float32),
    ],
)
def test_a_cpu_uses_bfloat16_where_that_is_fastest_and_asked_for(monkeypatch, name, instructions, wanted):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {instructions: True}, raising=False)
    assert choose_precision(name, CPU) == wanted


@pytest.mark.parametrize(
    ("precision", "instructions", "is_slow"),
    [
        (torch.bfloat16, "amx_bf16", False),
        (torch.bfloat16, "avx512_f", True),
        (torch.float16, "avx512_bf16", True),
        (torch.float32, "avx2", False),
    ],
)
def test_a_number_format_without_instructions_for_it_is_called_slow(monkeypatch, precision, instructions, is_slow):
    known = {"architecture": "x86_64", instructions: True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert ("float32 is usually faster" in described(CPU, precision)) == is_slow


def test_a_card_that_is_too_old_for_this_torch_is_left_aside_and_that_is_said_once(card, capsys):
    assert [choose_device("auto"), choose_device("auto"), choose_device("cpu")] == [CPU] * 3
    said = capsys.readouterr().out
    assert said.count("Tesla P100-PCIE-16GB (capability 6.0) is too old for torch") == 1 and "T4 x2" in said
    with pytest.raises(UserError, match=r"is too old for torch [\s\S]*RUNTIME\.DEVICE=cpu"):
        choose_device("cuda")


def test_a_card_that_torch_was_built_for_is_taken(card, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *arguments: (7, 5))
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
    assert capsys.readouterr().out == ""


def test_a_build_for_cards_of_another_maker_is_believed():
    assert has_kernels((9, 0), ["gfx90a", "gfx942"])


def test_a_card_is_described_with_its_memory(monkeypatch):
    class Properties:
        name, total_memory = "Tesla T4", 15_835_660_288

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    assert described(torch.device("cuda"), torch.float16) == "Tesla T4, 15 GiB, float16"


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (torch.OutOfMemoryError(OUT_OF_MEMORY), r"\(2.81 GiB more were wanted, 412.12 MiB of 14.74 GiB are free\)"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), r"^the GPU's memory is too small\.\ntype this\n"),
        (MemoryError(), r"^the machine's memory is too small\.\ntype this\ntop shows"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "^the machine's memory is too small"),
        (RuntimeError("put_cuda does not have a deterministic implementation"), "no repeatable way to do put_cuda"),
    ],
)
def test_what_a_gpu_cannot_do_is_told_with_its_cure(error, wanted):
    with pytest.raises(UserError, match=wanted), explained_faults("type this"):
        raise error


def test_other_faults_pass_through_as_they_are():
    with pytest.raises(RuntimeError, match="shapes differ"), explained_faults("type this"):
        raise RuntimeError("shapes differ")


def test_reproducible_asks_for_deterministic_operations_everywhere(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        make_reproducible(True)
        assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert not torch.utils.deterministic.fill_uninitialized_memory
    finally:
        make_reproducible(False)
    assert not torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.benchmark
