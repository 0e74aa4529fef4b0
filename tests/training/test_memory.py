"""Out of memory: a step is repeated in more parts, from where it began; images are predicted fewer at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.engine import api
from pipeline.errors import UserError
from pipeline.paths import BEST, HISTORY, MEMORY, METRICS, PROJECT
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.memory import MicroBatches, PartLimit, in_parts, is_out_of_memory, micro_batches
from pipeline.training.trainer import train
from tests.experiments import copy_configs
from tests.tiny import draw_nothing, overrides, write_competition
from tests.training.toy import Toy, make

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.81 GiB."
FAULTS = [
    torch.OutOfMemoryError(OUT_OF_MEMORY),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]


class Greedy(Toy):
    """A toy that has memory for so many samples at a time in training; the fault comes behind the batch norm."""

    def __init__(self, most: int, fault: BaseException = FAULTS[0]) -> None:
        super().__init__()
        self.most, self.fault, self.seen = most, fault, []

    def forward(self, image_BCHW):
        features = self.decoder(self.encoder(image_BCHW))
        self.seen.append(len(image_BCHW))
        if self.training and len(image_BCHW) > self.most:
            raise self.fault
        return self.segmentation_head(features)


def trained(name: str, network: nn.Module, *changes: str, log=lambda line: None):
    training = make(name, changes=changes, network=network, log=log)
    training.learner.micro = micro_batches(training.config, training.run.paths / MEMORY, log=log)
    train(training)
    return training


@pytest.mark.parametrize("fault", FAULTS, ids=["GPU", "host", "allocator", "cuDNN"])
@pytest.mark.parametrize(("most", "parts"), [(2, 2), (1, 4)])
def test_a_step_that_does_not_fit_is_repeated_as_if_it_had_been_in_parts_from_the_start(fault, most, parts):
    network, plain = Greedy(most, fault), Greedy(4)
    plain.load_state_dict(network.state_dict())
    lines: list[str] = []
    found = trained("short", network, log=lines.append)
    expected = trained("parts", plain, f"SOLVER.ACCUMULATE={parts}")
    for one, other in zip(network.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(one, other)  # running statistics of batch norms among them
    assert (found.run.paths / HISTORY).read_bytes() == (expected.run.paths / HISTORY).read_bytes()
    said = [line for line in lines if line.startswith("out of memory on")]
    assert len(said) == (1 if parts == 2 else 2)
    assert f"in {parts} micro-batches from now on, as with SOLVER.ACCUMULATE={parts}" in said[-1]
    assert ("the GPU" in said[0]) == (fault in (FAULTS[0], FAULTS[3]))


def test_what_did_not_fit_is_not_tried_again_in_this_process_or_the_next():
    network = Greedy(2)
    training = trained("short", network)
    num_validations = 1 + training.state.epoch
    assert network.seen.count(4) == 1 + 2 * num_validations  # the first step; images that are validated fit
    lines: list[str] = []
    micro = micro_batches(training.config, training.run.paths / MEMORY, log=lines.append)
    assert micro.accumulate == 2 and lines == [
        "batches of 4 are processed in 2 micro-batches, as memory ran out before"
    ]
    larger = make("other", changes=["DATALOADERS.TRAIN.BATCH_SIZE=8"]).config
    assert micro_batches(larger, training.run.paths / MEMORY).accumulate == 1  # of other settings nothing is known
    (training.run.paths / MEMORY).write_text("{")
    assert micro_batches(training.config, training.run.paths / MEMORY).accumulate == 1


def test_the_last_smaller_batch_that_does_not_fit_cuts_the_whole_ones_too():
    micro = MicroBatches(accumulate=1, batch_size=8, log=lambda line: None)

    def attempt(num_parts: int) -> int:
        if num_parts < 2:
            raise MemoryError
        return num_parts

    assert micro.fitted(attempt, 3, nn.Linear(1, 1), torch.zeros(1)) == 2
    assert micro.num_parts(3) == 2 and micro.num_parts(8) == micro.accumulate == 6


def test_one_sample_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"(?s)the GPU's memory is too small.*Not one sample fits"):
        trained("short", Greedy(0))


def test_other_faults_are_not_taken_for_a_lack_of_memory():
    network = Greedy(2, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        trained("short", network)
    assert network.seen.count(2) == 0 and not is_out_of_memory(ValueError("x"))


def test_images_that_do_not_fit_together_are_predicted_in_parts_and_the_next_ones_at_once(capsys):
    seen, limit = [], PartLimit()

    def double(part):
        seen.append(len(part))
        if len(part) > 2:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        return part * 2

    images = torch.arange(7.0).view(7, 1)
    assert torch.equal(in_parts(double, images, limit=limit), images * 2)
    assert seen == [7, 4, 2, 2, 3, 2, 1]
    seen.clear()
    assert torch.equal(in_parts(double, images, limit=limit), images * 2)
    assert seen == [2, 2, 2, 1]
    assert "7 images at once do not fit; 4 at a time from now on" in capsys.readouterr().out


def test_one_image_that_does_not_fit_is_the_end():
    def refuse(part):
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    with pytest.raises(torch.OutOfMemoryError):
        in_parts(refuse, torch.zeros(4, 1))


NETWORK = """
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, classes, 1)

    def forward(self, image):
        features = self.body(image)
        if len(image) > MOST and image.any():  # a file of one's own is first tried on a batch of zeros
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.81 GiB.")
        return self.head(features)

def build(in_channels, classes):
    return Network(classes)
"""


def test_the_whole_chain_runs_with_less_memory_than_its_batches_need(monkeypatch, tmp_path):
    """A user's network with memory for one image: training, validation, evaluation and prediction all get through."""
    draw_nothing(monkeypatch)
    configs = copy_configs(PROJECT, tmp_path)
    for module in ("pipeline.config.load", "pipeline.segmentation.own_code", "pipeline.work.inputs"):
        monkeypatch.setattr(f"{module}.CONFIGS", configs)
    data, lines, paths = write_competition(tmp_path / "data"), {}, {}
    settings = ("SWEEP.ENABLE=false", "SOLVER.PLAN=constant", "SOLVER.NUM_EPOCHS=2", "LOSS_FN.MIX=1 ce")
    settings += ("DATASETS.AUGMENTATION.COPY_PASTE.ENABLE=false", "SOLVER.OPTIMIZER.NAME=SGD")
    for name, most, accumulate in (("short", 1, 1), ("plain", 99, 2)):
        (configs / f"{name}.py").write_text(f"MOST = {most}\n{NETWORK}")
        own = (f"MODEL.NAME={name}.py:build", "MODEL.ENCODER.NAME=none", f"SOLVER.ACCUMULATE={accumulate}")
        lines[name] = []
        given = overrides(data, *settings, *own)
        paths[name] = api.run("demo", given, "predict", log=lines[name].append, trust_code=True).paths
    assert any(line.startswith("out of memory on the GPU: the step is repeated") for line in lines["short"])
    assert not any(line.startswith("out of memory") for line in lines["plain"])
    first, second = (load_checkpoint(one / BEST)["network"] for one in paths.values())
    assert all(torch.equal(first[name], second[name]) for name in first)
    scores = [json.loads((one / METRICS).read_text())["scores"] for one in paths.values()]
    assert scores[0] == scores[1]
    assert json.loads(Path(paths["short"] / MEMORY).read_text())["accumulate"] == 2
