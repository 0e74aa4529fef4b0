"""RetinaNet against torchvision's with the same weights; its losses, and its code of boxes."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
import torchvision
from hypothesis import given, settings
from torch import nn
from torch.nn.utils import parameters_to_vector
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet as TorchvisionRetinaNet
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from pipeline.config.detector_options import options_of
from pipeline.config.schema import Encoder, Model
from pipeline.detection.anchors import anchors_of
from pipeline.detection.dense import BoxTargets, Dense
from pipeline.detection.retinanet import CODER, RETINANET, assign, focal, smooth_l1

CPU = torch.device("cpu")
NUM_CLASSES = 3
PLAIN = {"sigmoid_focal": {}, "smooth_l1": {"beta": 0.0}}  # as torchvision's
OURS = {"sigmoid_focal": {}, "smooth_l1": {}}


def model_of(encoder: str = "tu-lcnet_035", **options) -> Model:
    return Model("RetinaNet", "RN", Encoder(encoder, "E", None), options)


TINY = model_of(CHANNELS=16, CONVOLUTIONS=1)


def torchvision_network(encoder: str, num_classes: int) -> TorchvisionRetinaNet:
    backbone = getattr(torchvision.models, encoder)(weights=None)
    last_level = LastLevelP6P7(256, 256)
    pyramid = _resnet_fpn_extractor(backbone, 5, returned_layers=[2, 3, 4], extra_blocks=last_level)
    return TorchvisionRetinaNet(pyramid, num_classes)


@pytest.fixture(scope="module")
def ours() -> nn.Module:
    torch.manual_seed(1)
    network = RETINANET.build(model_of("resnet18"), NUM_CLASSES, 3).eval()
    for head in (network.classification_head, network.regression_head):  # at first all answers are nearly the same
        for weight in head.parameters():
            weight.data.add_(0.02 * torch.randn(weight.shape))
    return network


@pytest.fixture(scope="module")
def theirs(ours) -> TorchvisionRetinaNet:
    network = torchvision_network("resnet18", NUM_CLASSES).eval()
    network.backbone.body.load_state_dict(ours.encoder.state_dict())
    network.backbone.fpn.load_state_dict(ours.pyramid.fpn.state_dict())
    network.head.classification_head.load_state_dict(ours.classification_head.state_dict())
    network.head.regression_head.load_state_dict(ours.regression_head.state_dict())
    return network


def anchors_in(size: tuple[int, int]) -> torch.Tensor:
    return anchors_of(options_of(TINY), size, CPU)


def random_targets(size: tuple[int, int], counts: list[int], seed: int = 0) -> BoxTargets:
    """Returns so many random boxes of each image, inside their frames, at least 4 pixels wide and high."""
    draw = torch.Generator().manual_seed(seed)
    most = torch.tensor(size[::-1]) - 4.0
    boxes, classes = [], []
    for count in counts:
        corners = torch.rand(2, count, 2, generator=draw) * most
        boxes.append(torch.cat([corners.amin(0), corners.amax(0) + 4], 1))
        classes.append(torch.randint(NUM_CLASSES, (count,), generator=draw))
    return BoxTargets(boxes, classes, size)


def random_outputs(num_images: int, size: tuple[int, int], seed: int = 0) -> Dense:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_images, len(anchors_in(size)), NUM_CLASSES, generator=draw)
    codes = torch.randn(num_images, len(anchors_in(size)), 4, generator=draw)
    return Dense(logits.requires_grad_(), codes.requires_grad_(), logits[..., :0])


def losses_of(outputs: Dense, targets: BoxTargets, terms=OURS) -> dict[str, torch.Tensor]:
    return RETINANET.losses(TINY, NUM_CLASSES, outputs, targets, terms).values


def torchvisions_losses(theirs, outputs: Dense, targets: BoxTargets, anchors: torch.Tensor) -> dict[str, torch.Tensor]:
    labels = [{"boxes": one, "labels": classes} for one, classes in zip(targets.boxes, targets.classes, strict=True)]
    answers = {"cls_logits": outputs.classes, "bbox_regression": outputs.boxes}
    found = theirs.compute_loss(labels, answers, [anchors] * len(labels))
    return {"sigmoid_focal": found["classification"], "smooth_l1": found["bbox_regression"]}


@pytest.mark.parametrize("size", [(128, 256), (96, 160)])
def test_the_outputs_are_torchvisions(ours, theirs, size):
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        found = ours(images)
        expected = theirs.head(list(theirs.backbone(images).values()))
    num_anchors = len(anchors_in(size))
    assert found.classes.shape == (2, num_anchors, NUM_CLASSES) and found.objectness.shape == (2, num_anchors, 0)
    assert torch.equal(found.classes, expected["cls_logits"]) and found.classes.std() > 0.1
    assert torch.equal(found.boxes, expected["bbox_regression"]) and found.boxes.std() > 0.1


def test_losses_boxes_and_probabilities_are_torchvisions(ours, theirs):
    size, model = (128, 256), model_of("resnet18")
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(3))
    targets = random_targets(size, [5, 0, 2])
    with torch.inference_mode():
        features = list(theirs.backbone(images).values())
        anchors = theirs.anchor_generator(ImageList(images, [size] * 3), features)[0]
        expected_boxes = [theirs.box_coder.decode_single(one, anchors) for one in theirs.head.regression_head(features)]
        expected_probs = theirs.head.classification_head(features).sigmoid()
        outputs = ours(images)
        expected = torchvisions_losses(theirs, outputs, targets, anchors)
        found = RETINANET.losses(model, NUM_CLASSES, outputs, targets, PLAIN).values
        boxes, probs = RETINANET.decode(model, outputs, size)
    for name, loss in expected.items():
        assert found[name].item() == pytest.approx(loss.item(), rel=1e-6) and loss > 0.1
    assert torch.equal(boxes, torch.stack(expected_boxes)) and boxes.min() < 0  # not cut at the frame
    assert torch.equal(probs, expected_probs)


@settings(max_examples=20)
@given(counts=st.lists(st.integers(0, 6), min_size=1, max_size=3), seed=st.integers(0, 2**31))
def test_losses_and_gradients_of_random_outputs_are_torchvisions(theirs, counts, seed):
    size = (96, 160)
    outputs, targets = random_outputs(len(counts), size, seed), random_targets(size, counts, seed)
    found = losses_of(outputs, targets, PLAIN)
    expected = torchvisions_losses(theirs, outputs, targets, anchors_in(size))
    for name, loss in expected.items():
        assert found[name].item() == pytest.approx(loss.item(), rel=1e-6)
    inputs = outputs[:2]
    gradients = torch.autograd.grad(sum(found.values()), inputs)
    for one, other in zip(gradients, torch.autograd.grad(sum(expected.values()), inputs), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("encoder", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_each_depth_has_as_many_parameters_as_torchvisions(encoder):
    with torch.device("meta"):
        network = RETINANET.build(model_of(encoder), 20, 3)
        expected = torchvision_network(encoder, 20)
        outputs = network(torch.empty(1, 3, 64, 64))
    counts = [sum(weight.numel() for weight in one.parameters()) for one in (network, expected)]
    assert counts[0] == counts[1]
    assert outputs.classes.shape == (1, 9 * (64 + 16 + 4 + 1 + 1), 20)


@pytest.mark.parametrize("prior", [0.01, 0.2])
def test_every_class_has_its_prior_probability_before_training(prior):
    torch.manual_seed(0)
    network = RETINANET.build(model_of("resnet18", PRIOR=prior), NUM_CLASSES, 3).eval()
    with torch.inference_mode():
        probs = network(torch.randn(1, 3, 128, 128)).classes.sigmoid()
    assert probs.mean().item() == pytest.approx(prior, rel=0.02)


def test_options_change_channels_convolutions_and_the_number_of_anchors():
    network = RETINANET.build(model_of(CHANNELS=24, CONVOLUTIONS=2, SCALES=2, RATIOS=(1,)), NUM_CLASSES, 3)
    for head in (network.classification_head, network.regression_head):
        assert [layer[0].out_channels for layer in head.conv] == [24, 24]
    assert network.regression_head.bbox_reg.out_channels == 2 * 4
    assert network.classification_head.cls_logits.out_channels == 2 * NUM_CLASSES
    assert network.strides == (8, 16, 32, 64, 128)


def test_channels_last_gives_the_same_outputs():
    torch.manual_seed(0)
    network = RETINANET.build(TINY, NUM_CLASSES, 3).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        expected = network(images)
        network.to(memory_format=torch.channels_last)
        found = network(images.to(memory_format=torch.channels_last))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_bfloat16_outputs_have_float32_losses_and_boxes_and_train_every_weight():
    torch.manual_seed(0)
    network = RETINANET.build(TINY, NUM_CLASSES, 3)
    targets = random_targets((64, 96), [3, 0])
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(torch.randn(2, 3, 64, 96))
    assert outputs.classes.dtype == outputs.boxes.dtype == torch.bfloat16
    found = losses_of(outputs, targets)
    assert found == losses_of(Dense(*(one.float() for one in outputs)), targets)
    assert {loss.dtype for loss in found.values()} == {torch.float32}
    sum(found.values()).backward()
    assert all(weight.grad.isfinite().all() and weight.grad.any() for weight in network.pyramid.parameters())
    assert all(weight.grad.isfinite().all() for weight in network.parameters())
    assert {one.dtype for one in RETINANET.decode(TINY, outputs, (64, 96))} == {torch.float32}


def test_a_batch_without_boxes_has_a_finite_loss_and_gradients():
    outputs = random_outputs(2, (64, 64))
    found = losses_of(outputs, random_targets((64, 64), [0, 0]))
    probs = outputs.classes.detach().sigmoid()
    by_hand = -0.75 * probs**2 * (1 - probs).log()
    assert found["sigmoid_focal"].item() == pytest.approx(by_hand.sum().item() / 2, rel=1e-5)
    assert found["smooth_l1"].item() == 0
    sum(found.values()).backward()
    assert outputs.classes.grad.isfinite().all() and outputs.classes.grad.min() > 0
    assert torch.equal(outputs.boxes.grad, torch.zeros_like(outputs.boxes))


def test_only_the_terms_that_are_asked_for_are_computed():
    outputs, targets = random_outputs(1, (64, 64)), random_targets((64, 64), [2])
    assert RETINANET.terms == ("sigmoid_focal", "smooth_l1")
    for term in RETINANET.terms:
        assert list(losses_of(outputs, targets, {term: {}})) == [term]


def test_the_settings_of_the_losses_are_the_papers_unless_given():
    outputs, targets = random_outputs(2, (64, 64)), random_targets((64, 64), [2, 3])
    defaults = losses_of(outputs, targets)
    assert defaults == losses_of(
        outputs, targets, {"sigmoid_focal": {"alpha": 0.25, "gamma": 2}, "smooth_l1": {"beta": 1 / 9}}
    )
    changed = losses_of(outputs, targets, {"sigmoid_focal": {"alpha": 0.5, "gamma": 1}, "smooth_l1": {"beta": 1}})
    assert all(abs(changed[name] - defaults[name]) > 0.01 * defaults[name] for name in defaults)


def test_worked_numbers_of_both_losses():
    # Two anchors of 10x10: the object's box is the first one moved by a pixel; the second is elsewhere.
    anchors = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    assigned = assign(anchors, BoxTargets([torch.tensor([[1.0, 0, 11, 10]])], [torch.tensor([1])], (64, 64)))
    assert assigned.has_object.tolist() == [[True, False]] and assigned.classes[0, 0] == 1
    # At probability 1/2 a class of an anchor costs its weight * 0.5^2 * ln 2; one of the four is the object's.
    expected = (0.25 + 3 * 0.75) * 0.25 * 0.693147
    assert focal(torch.zeros(1, 2, 2), assigned).item() == pytest.approx(expected, rel=1e-5)
    # The code of the object is (0.1, 0, 0, 0); below beta the loss is half the square divided by beta.
    codes = torch.zeros(1, 2, 4)
    assert smooth_l1(codes, anchors, assigned, beta=0).item() == pytest.approx(0.1, rel=1e-5)
    assert smooth_l1(codes, anchors, assigned).item() == pytest.approx(0.5 * 0.1**2 * 9, rel=1e-5)


def test_perfect_outputs_have_no_loss_and_decode_to_the_boxes():
    size = (128, 128)
    boxes = torch.tensor([[4.0, 8, 60, 50], [70, 10, 90, 60], [30, 70, 41, 82], [64, 64, 128, 128]])
    targets, anchors = BoxTargets([boxes], [torch.tensor([0, 1, 2, 1])], size), anchors_in(size)
    assigned = assign(anchors, targets)
    has_object, classes, boxes = assigned.has_object[0], assigned.classes[0], assigned.boxes[0]
    logits = torch.full((1, len(anchors), NUM_CLASSES), -20.0)
    logits[0, has_object, classes[has_object]] = 20.0
    perfect = Dense(logits, CODER.encode_single(boxes, anchors)[None], logits[..., :0])
    found = losses_of(perfect, targets)
    assert found["sigmoid_focal"] < 1e-6 and found["smooth_l1"] == 0
    decoded, probs = RETINANET.decode(TINY, perfect, size)
    assert torch.allclose(decoded[0, has_object], boxes[has_object], atol=1e-3)
    assert torch.equal(probs[0, has_object].argmax(1), classes[has_object])
    assert set(map(tuple, boxes[has_object].tolist())) == set(map(tuple, targets.boxes[0].tolist()))  # all are learnt


COORDINATE = st.floats(-64, 320, width=32)
SIDE = st.floats(1, 640, width=32)


@given(COORDINATE, COORDINATE, SIDE, SIDE)
def test_decoding_undoes_the_code_of_a_box_at_every_anchor(left, top, width, height):
    anchors = anchors_in((64, 96))
    boxes = torch.tensor([[left, top, left + width, top + height]]).expand(anchors.shape)
    outputs = random_outputs(1, (64, 96))._replace(boxes=CODER.encode_single(boxes, anchors)[None])
    assert torch.allclose(RETINANET.decode(TINY, outputs, (64, 96))[0][0], boxes, atol=2e-2)


def test_an_anchor_is_ignored_between_the_two_thresholds():
    # Their IoU with the box are 1, 0.45, 0.3 and 0.
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 4.5], [0, 0, 10, 3], [20, 20, 30, 30]])
    assigned = assign(anchors, BoxTargets([torch.tensor([[0.0, 0, 10, 10]])], [torch.tensor([2])], (32, 32)))
    assert assigned.has_object.tolist() == [[True, False, False, False]]
    assert assigned.is_ignored.tolist() == [[False, True, False, False]]
    logits = torch.full((1, 4, 3), -20.0)
    logits[0, 0, 2] = 20.0
    logits[0, 1] = 20.0  # wrong, but of the ignored anchor
    assert focal(logits, assigned).item() < 1e-6


def test_anchors_without_an_object_are_in_no_loss_where_half_of_them_is_in_a_crowd():
    # 1, 1/2 and 0.4 of them are in the crowd; the last one is, too, but has an object.
    anchors = torch.tensor([[0.0, 0, 10, 10], [30, 0, 50, 10], [32, 0, 52, 10], [20, 20, 30, 30]])
    boxes, classes = torch.tensor([[20.0, 20, 30, 30]]), torch.tensor([1])
    targets = BoxTargets([boxes, boxes], [classes, classes], (64, 64), [torch.tensor([[0.0, 0, 40, 40]]), boxes[:0]])
    assigned = assign(anchors, targets)
    assert assigned.has_object.tolist() == [[False, False, False, True]] * 2
    assert assigned.is_ignored.tolist() == [[True, True, False, False], [False] * 4]
    logits = torch.zeros(2, 4, 3, requires_grad=True)
    focal(logits, assigned).backward()
    assert logits.grad.abs().amax(2).gt(0).tolist() == [[False, False, True, True], [True] * 4]


def test_every_object_has_an_anchor_unless_no_anchor_overlaps_it():
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]])
    # A small part of the first anchor, between two anchors, and a box without an area.
    boxes = torch.tensor([[0.0, 0, 2, 2], [12, 12, 18, 18], [45, 45, 45, 48]])
    assigned = assign(anchors, BoxTargets([boxes], [torch.tensor([0, 1, 2])], (64, 64)))
    assert assigned.has_object.tolist() == [[True, False, False]] and not assigned.is_ignored.any()
    assert smooth_l1(torch.zeros(1, 3, 4), anchors, assigned).isfinite()


def test_a_few_steps_lower_the_loss_of_an_image():
    torch.manual_seed(0)
    network = RETINANET.build(TINY, NUM_CLASSES, 3).train()
    images = torch.zeros(2, 3, 64, 64)
    images[0, :, 8:40, 16:56] = 2.0
    nothing = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    boxes, classes = torch.tensor([[16.0, 8, 56, 40]]), torch.tensor([1])
    targets = BoxTargets([boxes, nothing[0]], [classes, nothing[1]], (64, 64))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    history = []
    for _ in range(12):
        terms = losses_of(network(images), targets)
        history.append([loss.item() for loss in terms.values()])
        optimizer.zero_grad()
        sum(terms.values()).backward()
        assert parameters_to_vector([weight.grad for weight in network.parameters()]).isfinite().all()
        optimizer.step()
    (first_focal, first_boxes), (last_focal, last_boxes) = history[0], history[-1]
    assert last_focal < 0.7 * first_focal and last_boxes < 0.7 * first_boxes


def test_network_and_boxes_can_be_exported():
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = RETINANET.build(TINY, NUM_CLASSES, 3).eval()

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return RETINANET.decode(TINY, self.network(images), (32, 96))

    images, whole = torch.randn(1, 3, 32, 96), Whole()
    exported = torch.export.export(whole, (images,), strict=False).module()
    for one, other in zip(exported(images), whole(images), strict=True):
        assert torch.allclose(one, other, atol=1e-4)
