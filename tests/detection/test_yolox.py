"""The networks of YOLOX are the reference's; options, colours and number formats are ours."""

from __future__ import annotations

import json

import pytest
import torch

from pipeline.config.load import load
from pipeline.detection.dense import Dense
from pipeline.detection.yolox import YOLOX
from pipeline.detection.yolox_boxes import to_centres
from pipeline.detection.yolox_weights import own_name
from pipeline.errors import UserError
from pipeline.paths import IMAGES
from pipeline.training.assemble import start_learner
from pipeline.training.encoder import normalise, scaling_of
from pipeline.training.learner import freeze
from tests.detection.reference_yolox import (
    copy_weights,
    make_reference,
    random_targets,
    reference_labels,
    with_random_norms,
    yolox_model,
)
from tests.tiny import run_of

ALL_SIZES = ("nano", "tiny", "s", "m", "l", "x")
TERMS = {"iou": {}, "conf": {}, "cls": {}, "l1": {}}


def pair_of(size: str, num_classes: int = 3):
    """Returns the reference's network and ours with the same weights, in evaluation mode."""
    torch.manual_seed(0)
    theirs = with_random_norms(make_reference(size, num_classes)).eval()
    ours = YOLOX.build(yolox_model(size=size), num_classes, 3).eval()
    copy_weights(theirs, ours)
    return theirs, ours


@pytest.mark.parametrize("size", ALL_SIZES)
def test_every_size_has_the_tensors_of_the_reference_and_answers_at_every_position(size):
    with torch.device("meta"):
        theirs, ours = make_reference(size, 7), YOLOX.build(yolox_model(size=size), 7, 3)
        outputs = ours(torch.zeros(2, 3, 64, 96))
    copy_weights(theirs, ours)  # refuses another name or shape
    assert [sum(p.numel() for p in network.parameters()) for network in (ours.encoder, ours.neck, ours.head)] == [
        sum(p.numel() for p in theirs.backbone.backbone.parameters()),
        sum(p.numel() for name, p in theirs.backbone.named_parameters() if not name.startswith("backbone.")),
        sum(p.numel() for p in theirs.head.parameters()),
    ]
    num_positions = 8 * 12 + 4 * 6 + 2 * 3
    assert [tuple(tensor.shape) for tensor in outputs] == [(2, num_positions, number) for number in (7, 4, 1)]


@pytest.mark.parametrize("size", ["nano", "tiny", "s"])
def test_the_same_weights_put_out_the_same_boxes_and_probabilities_as_the_reference(size):
    theirs, ours = pair_of(size)
    image = torch.rand(2, 3, 64, 96) * 255
    with torch.no_grad():
        wanted, outputs = theirs(image.flip(1)), ours(image)
        theirs.head.decode_in_inference = False
        raw = theirs(image.flip(1))
    torch.testing.assert_close(outputs.boxes, raw[..., :4], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outputs.objectness.sigmoid(), raw[..., 4:5], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outputs.classes.sigmoid(), raw[..., 5:], rtol=1e-5, atol=1e-5)
    boxes, probs = YOLOX.decode(yolox_model(), outputs, (64, 96))
    torch.testing.assert_close(to_centres(boxes), wanted[..., :4], rtol=1e-5, atol=1e-4)  # pixels
    torch.testing.assert_close(probs, wanted[..., 4:5] * wanted[..., 5:], rtol=1e-5, atol=1e-5)


def test_training_gives_the_losses_and_gradients_of_the_reference():
    theirs, ours = pair_of("nano")
    theirs.train()
    ours.train()
    theirs.head.use_l1 = True
    targets = random_targets(1, (4, 0, 2), (6.0, 60.0), (64, 64), 3)
    image = torch.rand(3, 3, 64, 64) * 255
    wanted = theirs(image.flip(1), reference_labels(targets))
    found = YOLOX.losses(yolox_model(), 3, ours(image), targets, TERMS).values
    for name in ("iou", "conf", "cls", "l1"):
        weight = 5 if name == "iou" else 1
        torch.testing.assert_close(weight * found[name], wanted[f"{name}_loss"], rtol=1e-5, atol=1e-5)
    wanted["total_loss"].backward()
    (5 * found["iou"] + found["conf"] + found["cls"] + found["l1"]).backward()
    gradients = {name: param.grad for name, param in ours.named_parameters()}
    for key, param in theirs.named_parameters():
        gradient = gradients[own_name(key)]
        assert gradient.isfinite().all()
        assert (gradient - param.grad).norm() <= 1e-4 * param.grad.norm() + 1e-6, key


def test_images_keep_their_values_and_red_and_blue_are_swapped():
    network = YOLOX.build(yolox_model(size="nano"), 2, 3).eval()
    image_BHWC = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    network_input = normalise(image_BHWC, scaling_of(network, yolox_model().encoder))
    assert torch.equal(network_input, image_BHWC.permute(0, 3, 1, 2).float())
    seen = []
    network.encoder.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        network(network_input)
    assert torch.equal(seen[0], network_input[:, [2, 1, 0]])


@pytest.mark.parametrize("high", [255.0, 65535.0])
def test_in_a_run_white_is_255_whatever_the_range_of_the_images(tmp_path, monkeypatch, high):
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    run = run_of(load("BccdY"))
    run.paths.folder.mkdir()
    facts = {"dtype": "uint16", "low": 0.0, "high": high, "shown": [0, 1, 2], "mean": None, "std": None}
    (run.paths / IMAGES).write_text(json.dumps(facts))
    network = start_learner(run).network
    image_BHWC = torch.tensor([0.0, high, high / 5]).reshape(1, 1, 1, 3)
    network_input = normalise(image_BHWC, scaling_of(network, run.loaded.config.model.encoder))
    assert network_input.flatten().tolist() == pytest.approx([0, 255, 51])


@pytest.mark.parametrize("num_channels", [1, 4])
def test_other_numbers_of_channels_are_taken_as_they_are(num_channels):
    network = YOLOX.build(yolox_model(size="nano"), 2, num_channels).eval()
    image_BHWC = torch.randint(0, 256, (1, 32, 32, num_channels), dtype=torch.uint8)
    network_input = normalise(image_BHWC, scaling_of(network, yolox_model().encoder))
    seen = []
    network.encoder.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        assert network(network_input).boxes.isfinite().all()
    assert torch.equal(seen[0], image_BHWC.permute(0, 3, 1, 2).float())


def test_the_channels_last_format_changes_no_output():
    network = YOLOX.build(yolox_model(size="nano"), 2, 3).eval()
    image = torch.rand(2, 3, 64, 32) * 255
    with torch.no_grad():
        wanted = network(image)
        found = network.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_training_in_bfloat16_gives_float32_losses_and_finite_gradients():
    torch.manual_seed(0)
    network = YOLOX.build(yolox_model(size="nano"), 3, 3)
    targets = random_targets(2, (3, 1), (8.0, 40.0), (64, 64), 3)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(torch.rand(2, 3, 64, 64) * 255)
        found = YOLOX.losses(yolox_model(), 3, outputs, targets, TERMS).values
    assert outputs.boxes.dtype == torch.bfloat16
    assert {loss.dtype for loss in found.values()} == {torch.float32}
    in_float32 = Dense(*(tensor.float() for tensor in outputs))
    assert found == YOLOX.losses(yolox_model(), 3, in_float32, targets, TERMS).values
    sum(found.values()).backward()
    assert all(param.grad.isfinite().all() for param in network.parameters())
    assert YOLOX.decode(yolox_model(), outputs, (64, 64))[0].dtype == torch.float32


def test_a_few_steps_on_one_image_lower_the_loss_and_find_its_boxes():
    torch.manual_seed(0)
    network = YOLOX.build(yolox_model(size="nano"), 2, 3)
    image = torch.full((1, 3, 64, 64), 50.0)
    image[:, 0, 8:24, 8:32], image[:, 2, 36:60, 40:60] = 250.0, 250.0
    targets = random_targets(0, (0,), (1.0, 1.0), (64, 64), 2)._replace(
        boxes=[torch.tensor([[8.0, 8, 32, 24], [40, 36, 60, 60]])], classes=[torch.tensor([0, 1])]
    )
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    totals = []
    for _ in range(100):
        found = YOLOX.losses(yolox_model(), 2, network(image), targets, TERMS).values
        total = 5 * found["iou"] + found["conf"] + found["cls"] + found["l1"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.3 * totals[0]
    with torch.no_grad():
        boxes, probs = YOLOX.decode(yolox_model(), network(image), (64, 64))
    for index in (0, 1):
        best = boxes[0, probs[0, :, index].argmax()]
        assert (best - targets.boxes[0][index]).abs().max() < 4


def test_the_prior_is_the_first_probability_of_objects_and_classes():
    network = YOLOX.build(yolox_model(size="nano", prior=0.2), 2, 3)
    biases = [conv.bias for conv in (*network.head.classes, *network.head.objectness)]
    torch.testing.assert_close(torch.cat(biases).sigmoid(), torch.full((9,), 0.2))


def test_batch_norms_have_the_constants_of_yolox():
    network = YOLOX.build(yolox_model(size="nano"), 2, 3)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.03)} and len(norms) > 50


@pytest.mark.parametrize(("name", "kind"), [("relu", torch.nn.ReLU), ("lrelu", torch.nn.LeakyReLU)])
def test_the_activation_can_be_chosen(name, kind):
    network = YOLOX.build(yolox_model(size="nano", ACTIVATION=name), 2, 3)
    found = {type(module) for module in network.modules() if module.__class__.__module__.endswith("activation")}
    assert found == {kind}


def test_backbone_parts_can_be_frozen():
    network = YOLOX.build(yolox_model(size="nano"), 2, 3)
    freeze(network, ["encoder", "neck"])
    trained = {name.partition(".")[0] for name, param in network.named_parameters() if param.requires_grad}
    assert trained == {"head"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"PRIOUR": 0.1}, "MODEL.OPTIONS.PRIOUR: YOLOX has no such option; did you mean PRIOR?"),
        ({"ACTIVATION": "swish"}, "MODEL.OPTIONS.ACTIVATION: .*silu"),
        ({"PRIOR": "low"}, "MODEL.OPTIONS.PRIOR: .*number"),
        ({"PRIOR": 0.0}, "MODEL.OPTIONS.PRIOR: .*0"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        YOLOX.build(yolox_model(**options), 2, 3)
