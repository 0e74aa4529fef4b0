"""Two ranks with half a batch each do what one process does with the whole: losses, batch norms, whole trainings.

One pair of processes computes everything for this file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from pipeline.config.loss_mix import parse_mix
from pipeline.errors import UserError
from pipeline.paths import LAST
from pipeline.segmentation import losses, losses_by_class, soft_losses
from pipeline.segmentation.auxiliary import presence_loss
from pipeline.task import Batch, Loss
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.finite import NotFinite
from pipeline.training.ranks import group
from pipeline.training.ranks.engine import STATISTICS, average_statistics, share_batch_norms
from pipeline.training.step import train_step
from pipeline.training.trainer import train
from tests.ranks import in_ranks
from tests.training.toy import NUM_VALID_BATCHES, Toy, batch, history, make

IMAGES, CLASSES, HEIGHT, WIDTH = 4, 4, 12, 10
SETTINGS = ("(stride=2)", "(top=0.3)", "(smooth=0.1)", "(top=0.2, below=0.3)")
SOFTMAX = (*losses.TERMS, *(f"ce{settings}" for settings in SETTINGS), "focal(top=0.5)", "bce(smooth=0.1)")
SOFTMAX += ("bitempered(top=0.5)", "tversky(alpha=0.3, beta=0.7)", "0.7 ce + 0.3 dice")
SIGMOID = (*losses_by_class.TERMS, "bce(top=0.3)", "focal(top=0.5)")
SOFT = (*soft_losses.TERMS, "ce(smooth=0.1)")
FAMILIES = {"softmax": (losses, SOFTMAX), "sigmoid": (losses_by_class, SIGMOID), "soft": (soft_losses, SOFT)}
TRAININGS = {
    "plain": (),
    "micro-batches": ("SOLVER.ACCUMULATE=2", "SOLVER.CLIP_NORM=0.5"),
    "adamw-ema": ("SOLVER.OPTIMIZER.NAME=AdamW", "SOLVER.EMA_DECAY=0.9", "LOSS_FN.MIX=0.5 dice + 0.5 lovasz"),
    "frozen": ("SOLVER.PLAN=freeze_then_thaw", "SOLVER.NUM_EPOCHS=1", "LOSS_FN.ADAPTIVE.ENABLE=true"),
}


def mix_of(text: str) -> list[tuple[str, float]]:
    return parse_mix(text if text[0].isdigit() else f"1 {text}")


def labelled(family: str) -> tuple[Tensor, Tensor]:
    """Returns logits (float64) and labels of four images; the first two lack the last class, the last has it alone."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(IMAGES, CLASSES, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    if family == "softmax":
        mask = torch.randint(0, CLASSES - 1, (IMAGES, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)
        mask[3, :, :4] = CLASSES - 1
        mask[:, :3, ::2] = 255
        mask[2, :6] = 255
        return logits, mask
    mask = torch.randint(0, 241, (IMAGES, HEIGHT, WIDTH, CLASSES), generator=generator, dtype=torch.uint8)
    if family == "sigmoid":
        mask = (mask > 160).to(torch.uint8) * 240
    else:
        shares = mask.double() / mask.double().sum(-1, keepdim=True)
        mask = (shares * 240).round().to(torch.uint8)
    mask[:, :3, ::2] = 255
    mask[2, :6] = 255
    return logits, mask


def loss_and_gradient(family: str, text: str) -> tuple[float, dict[str, float], Tensor]:
    """Returns the loss of the whole batch, its terms, and the gradient for the images of this process."""
    logits, labels = (part.tensor_split(group.count())[group.rank()] for part in labelled(family))
    logits = logits.clone().requires_grad_()
    weights = torch.tensor([0.5, 1.0, 0.7, 1.8], dtype=torch.float64)
    with group.joint_batches():
        loss = FAMILIES[family][0].mixed_loss(mix_of(text), logits, labels, weights)
        loss.total.backward()
    terms = {name: float(term) for name, term in loss.terms.items()}
    return float(loss.total.detach()), terms, logits.grad / group.count()  # as the mean over ranks that a network gets


def presence() -> tuple[float, Tensor]:
    """Returns the loss of the auxiliary head and its gradient."""
    labels = torch.linspace(-1, 1, IMAGES * CLASSES).view(IMAGES, CLASSES).tensor_split(group.count())[group.rank()]
    labels = labels.clone().requires_grad_()
    with group.joint_batches():
        loss = presence_loss(labels, labelled("softmax")[1].tensor_split(group.count())[group.rank()], [0, 2])
        loss.backward()
    return float(loss.detach()), labels.grad / group.count()


def normed(is_frozen: bool) -> dict[str, Tensor]:
    """Returns what a batch norm makes of this process's images, its gradients and its statistics."""
    torch.manual_seed(2)
    norm = nn.BatchNorm2d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        norm.bias.copy_(torch.tensor([0.1, 0.0, -1.0]))
    network = nn.Sequential(nn.Conv2d(2, 3, 1), norm, nn.Tanh())
    if group.count() > 1:
        share_batch_norms(network, torch.device("cpu"))
    if is_frozen:
        norm.eval()
    images = torch.randn(IMAGES, 2, 5, 5).tensor_split(group.count())[group.rank()].clone().requires_grad_()
    for _ in range(2):
        outputs = network(images)
    (outputs.square() * torch.linspace(0, 1, 5)).sum().backward()  # of all ranks: the sum over all images
    found = {"outputs": outputs.detach(), "images": images.grad}
    found |= {name: group.reduced(param.grad) if group.count() > 1 else param.grad for name, param in _named(network)}
    return found | {name: getattr(norm, name).clone() for name in (*STATISTICS, "num_batches_tracked")}


def _named(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(network.named_parameters())


def averaged_statistics() -> list[float]:
    """Returns running means of a norm that learns and of a frozen one; those of the second rank begin 1 higher."""
    network = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2).eval())
    for norm in network:
        norm.running_mean.copy_(torch.tensor([0.0, 10.0]) + group.rank())
    average_statistics(network)
    return [*network[0].running_mean.tolist(), *network[1].running_mean.tolist()]


def toy_network() -> Toy:
    """Returns the toy without dropout, which draws anew in each process.

    A bias before a batch norm has a gradient of rounding errors alone, which Adam and Ranger make as large as any.
    """
    torch.manual_seed(1)
    network = Toy()
    network.decoder, network.encoder[0].bias = nn.Identity(), None
    return share_batch_norms(network, torch.device("cpu")) if group.count() > 1 else network


def toy_validation() -> Iterator[Batch]:
    """Yields this process's validation batches."""
    first = NUM_VALID_BATCHES * group.rank() // group.count()
    return iter([batch(999, first + index) for index in range(NUM_VALID_BATCHES // group.count())])


def toy_training(name: str, changes: Sequence[str]) -> tuple[list[dict[str, str]], dict[str, Tensor]]:
    """Trains the toy to its end; returns its history, and its weights from the checkpoint."""
    training = make(name, changes=changes, network=toy_network(), validation=toy_validation)
    train(training)
    group.objects_of_all(None)  # the first rank has written everything
    return history(training.run.paths), load_checkpoint(training.run.paths / LAST)["network"]


def broken_training() -> tuple[str, str, bool]:
    """Breaks the loss of the last rank alone; returns what each raises, and whether anything was saved after that."""
    training = make("broken", network=toy_network(), validation=toy_validation)
    plain = training.learning.criterion

    def criterion_of(*arguments: Any) -> Any:
        criterion = plain(*arguments)

        def broken(outputs: Any, labels: Any) -> Loss:
            loss = criterion(outputs, labels)
            is_third = (training.state.epoch, training.state.step) == (0, 2) and torch.is_grad_enabled()
            return loss._replace(total=loss.total * math.nan) if is_third and group.rank() else loss

        return broken

    training.learning = replace(training.learning, criterion=criterion_of)
    with pytest.raises((UserError, NotFinite)) as raised:
        train(training)
    state = load_checkpoint(training.run.paths / LAST)["state"]
    return type(raised.value).__name__, str(raised.value).splitlines()[0], (state["epoch"], state["step"]) == (0, 0)


def decisions() -> list[Any]:
    """Returns answers that all ranks agree on."""
    flags = [group.any_of(False), group.any_of(group.rank() == 1), group.any_of(True)]
    group.seed_step(7)
    return [*flags, group.objects_of_all(group.rank()), torch.rand(1).item()]


def reductions(accumulate: int) -> int:
    """Returns how often gradients are reduced in one step."""
    name, changes = f"counted-{accumulate}", [f"SOLVER.ACCUMULATE={accumulate}"]
    training = make(name, changes=changes, network=toy_network(), validation=toy_validation)
    training.learner.join_ranks()
    calls = []

    def counted(state, bucket):  # torch takes no annotations in words
        calls.append(bucket.index())
        return allreduce_hook(state, bucket)

    training.learner.ddp.register_comm_hook(None, counted)
    criterion = training.learning.criterion("1 ce", 0, ())
    train_step(training.learner, batch(1, 0, 1), criterion, training.sums, training.watch)
    return len(calls)


def everything() -> dict[str, Any]:
    mixes = [(family, text) for family, (_, texts) in FAMILIES.items() for text in texts]
    return {
        "losses": {mix: loss_and_gradient(*mix) for mix in mixes},
        "presence": presence(),
        "normed": {is_frozen: normed(is_frozen) for is_frozen in (False, True)},
        "trainings": {name: toy_training(name, changes) for name, changes in TRAININGS.items()},
    }


def of_ranks() -> dict[str, Any]:
    return everything() | {
        "averaged": averaged_statistics(),
        "broken": broken_training(),
        "decisions": decisions(),
        "reductions": [reductions(1), reductions(2)],
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict[str, Any]]:
    """What each of two ranks has found."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("RUNS_DIR", str(tmp_path_factory.mktemp("ranks")))
        return in_ranks(of_ranks)


@pytest.mark.parametrize(
    ("family", "text"), [(family, text) for family, (_, texts) in FAMILIES.items() for text in texts]
)
def test_a_loss_over_two_ranks_and_its_gradient_are_those_of_the_whole_batch(ranks, family, text):
    total, terms, gradient = loss_and_gradient(family, text)
    for found in ranks:
        assert found["losses"][family, text][0] == pytest.approx(total, rel=1e-12)
        assert found["losses"][family, text][1] == pytest.approx(terms, rel=1e-12)
    joined = torch.cat([found["losses"][family, text][2] for found in ranks])
    torch.testing.assert_close(joined, gradient, rtol=1e-9, atol=1e-14)
    assert gradient.abs().sum() > 0


def test_without_sums_over_ranks_the_overlap_losses_would_be_others():
    logits, mask = labelled("softmax")
    whole = losses.mixed_loss([("dice", 1.0)], logits, mask).total
    halves = [
        losses.mixed_loss([("dice", 1.0)], *pair).total for pair in zip(logits.split(2), mask.split(2), strict=True)
    ]
    assert abs(float(sum(halves) / 2 - whole)) > 0.01


def test_the_loss_of_the_auxiliary_head_is_that_of_the_whole_batch(ranks):
    total, gradient = presence()
    assert [found["presence"][0] for found in ranks] == pytest.approx([total, total])
    torch.testing.assert_close(torch.cat([found["presence"][1] for found in ranks]), gradient)


@pytest.mark.parametrize("is_frozen", [False, True])
def test_batch_norms_of_two_ranks_go_by_the_whole_batch(ranks, is_frozen):
    expected = normed(is_frozen)
    first, second = (found["normed"][is_frozen] for found in ranks)
    for name, values in expected.items():
        by_image = name in ("outputs", "images")
        found = torch.cat([first[name], second[name]]) if by_image else first[name]
        torch.testing.assert_close(found, values, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
        assert by_image or torch.equal(first[name], second[name])


def test_statistics_of_ranks_by_themselves_are_averaged_except_those_that_are_frozen(ranks):
    assert [found["averaged"] for found in ranks] == [[0.5, 10.5, 0.0, 10.0], [0.5, 10.5, 1.0, 11.0]]


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_of_two_ranks_is_that_of_one_process_with_the_whole_batches(ranks, name):
    rows, weights = toy_training(name, TRAININGS[name])
    assert len(rows) > 3
    for found in ranks:
        for row, expected in zip(found["trainings"][name][0], rows, strict=True):
            numbers = {key: float(value) for key, value in expected.items() if value and key != "phase"}
            assert {key: float(row[key]) for key in numbers} == pytest.approx(numbers, rel=2e-3, abs=2e-3)
        for key, value in weights.items():
            torch.testing.assert_close(found["trainings"][name][1][key], value, rtol=2e-3, atol=2e-4)


def test_all_ranks_end_where_the_loss_of_one_is_not_finite_and_the_first_explains_it(ranks):
    first, second = (found["broken"] for found in ranks)
    what = "the training loss or its gradient is not finite"
    assert (first[0], second[0]) == ("UserError", "NotFinite")
    assert first[1].startswith(f"{what} at epoch 0, step 2.") and second[1] == what
    assert first[2] and second[2]


def test_gradients_are_reduced_once_per_step_however_many_micro_batches_it_has(ranks):
    assert [found["reductions"] for found in ranks] == [[1, 1], [1, 1]]


def test_decisions_are_those_of_all_ranks_and_each_draws_other_numbers(ranks):
    first, second = (found["decisions"] for found in ranks)
    assert first[:4] == second[:4] == [False, True, True, [0, 1]]
    group.seed_step(7)
    assert torch.rand(1).item() == first[4] != second[4]
