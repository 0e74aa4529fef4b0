"""Rules for components fitted on out-of-fold images: adopted where they gain on unseen sequences, and only there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from pipeline.config.competition import SCORE_DEFAULTS
from pipeline.config.component_rules import ComponentRule
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.component_fitting import (
    ComponentImage,
    JointGain,
    candidates_of,
    fit_components,
    given_facts,
    joint_gain,
    try_components,
)
from pipeline.segmentation.components import Changing, with_components
from pipeline.segmentation.ensemble import Recipe
from pipeline.segmentation.mask_scores import image_score
from pipeline.segmentation.predict import Prediction, decode

CLASSES, SCORED, SIZE = ("ground", "house"), (0, 1), (60, 80)
SPECK_PX = 12  # 0.25 % of the image; a house has 400 pixels


@dataclass(frozen=True)
class Scene:
    """An image with its prediction and truth; a house or two, and what is wrong with its prediction."""

    name: str
    sequence: str
    prediction: Prediction
    truth: np.ndarray

    def score_of(self, mask: np.ndarray) -> np.ndarray:
        return image_score("dice", SOFTMAX.count_masks(mask, self.truth, 2), mask, self.truth, SCORE_DEFAULTS)

    def changing(self) -> Changing:
        return Changing([self.prediction], Recipe("AP"), decode(self.prediction), (), SCORED)

    def tried(self) -> ComponentImage:
        return try_components(self.name, self.sequence, self.changing(), self.score_of, SCORED)

    def joint(self, rules: Sequence[ComponentRule]) -> JointGain:
        plain = decode(self.prediction)
        found = with_components([self.prediction], Recipe("AP"), plain, rules)
        gain = self.score_of(found).mean() - self.score_of(plain).mean()
        return JointGain(self.name, self.sequence, np.array([gain]))


def scene(number: int, specks: int = 0, has_holes: bool = False, sequence: str | None = None) -> Scene:
    rng, truth = np.random.default_rng(number), np.zeros(SIZE, np.uint8)
    truth[5:25, 10:30] = truth[30:50, 50:70] = 1
    mask, probs = truth.copy(), np.full(SIZE, 0.9)
    if has_holes:
        mask[10:13, 15:18] = mask[38:41, 58:61] = 0
    for column in rng.permutation(np.arange(4, 76, 8))[:specks]:
        mask[55:58, column : column + 4] = 1
        probs[55:58, column : column + 4] = 0.7  # less sure than a house
    logits = np.log(np.where(mask[None] == np.arange(2)[:, None, None], probs, 1 - probs)).astype(np.float16)
    prediction = Prediction(logits, 1, False, (0, 0), SIZE)
    return Scene(f"{number}", f"{number}" if sequence is None else sequence, prediction, truth)


def fitted(scenes: Sequence[Scene], joint: Callable | None = None):
    by_name = {one.name: one for one in scenes}

    def together(rules_of: Callable[[str], tuple[ComponentRule, ...]]) -> list[JointGain]:
        return [one.joint(rules_of(name)) for name, one in by_name.items()]

    return fit_components([one.tried() for one in scenes], CLASSES, SCORED, "dice", joint or together)


def test_the_gain_of_each_candidate_is_that_of_the_mask_under_it():
    one = scene(1, specks=3, has_holes=True)
    for index in SCORED:
        for column, rule in enumerate(candidates_of(index)):
            wanted = one.joint([rule]).gain
            assert one.tried().gains[index, column] == pytest.approx(wanted.item()), rule


def test_specks_and_holes_make_rules_that_drop_and_fill_them():
    found = fitted([scene(number, specks=2 + number % 3, has_holes=True) for number in range(12)])
    names = {(CLASSES[rule.class_index], rule.name) for rule in found.adopted}
    assert ("house", "fill_holes") in names and names & {("house", "min_area"), ("house", "hysteresis")}
    by_name = {(CLASSES[rule.class_index], rule.name): rule for rule in found.adopted}
    if rule := by_name.get(("house", "min_area")):
        assert SPECK_PX / 4800 < rule["share"] <= 400 / 4800
    assert found.words[0].startswith("components: ") and "fill_holes(house, share=" in "\n".join(found.words)
    unseen = scene(99, specks=3, has_holes=True)
    assert unseen.joint(found.adopted).gain.item() > 0.01
    mask = with_components([unseen.prediction], Recipe("AP"), decode(unseen.prediction), found.adopted)
    assert np.array_equal(mask, unseen.truth)


def test_without_a_gain_nothing_is_adopted():
    found = fitted([scene(number) for number in range(8)])
    assert found.adopted == () and found.words[0].startswith("components stay as they are: no setting improves")


def test_specks_in_a_single_sequence_are_no_proof():
    scenes = [scene(number) for number in range(10)]
    scenes += [scene(100 + number, specks=4, sequence="odd") for number in range(10)]
    found = fitted(scenes)
    assert found.trials.by_key and found.adopted == ()
    assert "no gain on held-out sequences exceeds noise" in found.words[0] and "not adopted" in found.words[1]


def test_too_few_sequences_adopt_nothing():
    found = fitted([scene(number, specks=3) for number in range(3)])
    assert found.adopted == () and "fitting needs 4 sequences or more" in found.words[0]


def test_rules_that_gain_alone_but_not_together_leave_the_surest():
    scenes = [scene(number, specks=2 + number % 3, has_holes=True) for number in range(12)]
    asked = []

    def worse(rules_of):
        asked.extend(rules_of(one.name) for one in scenes)
        return [JointGain(one.name, one.sequence, np.array([-0.01])) for one in scenes]

    found = fitted(scenes, worse)
    assert len(found.adopted) == 1 and len(found.trials.adopted) > 1
    assert asked and all(len(rules) > 1 for rules in asked)
    (rule,) = found.adopted
    key = (rule.class_index, rule.name)
    assert found.trials.by_key[key].gain.low == max(trial.gain.low for trial in found.trials.adopted.values())


def test_images_without_a_score_take_no_part():
    scenes = [scene(number, specks=3) for number in range(8)]
    images = [one.tried() for one in scenes]
    images.append(ComponentImage("none", "none", np.full_like(images[0].gains, np.nan)))
    gains = {one.name: one for one in scenes}

    def joint(rules_of):
        return [one.joint(rules_of(name)) for name, one in gains.items()]

    found = fit_components(images, CLASSES, SCORED, "dice", joint)
    assert found.adopted == fitted(scenes).adopted != ()


def test_rules_as_given_are_measured_with_their_interval():
    rule = ComponentRule("min_area", 1, (("share", 0.01),))
    gains = [scene(number, specks=number % 4).joint([rule]) for number in range(12)]
    facts = given_facts([*gains, JointGain("none", "none", np.array([np.nan]))], "Dice")
    (gain,) = facts["gains"].values()
    assert gain == vars(joint_gain(gains)[0]) and gain["low"] > 0
    assert facts["words"].startswith("components: rules as given, not fitted; mean Dice +0.")
    assert facts["words"].endswith(" out of fold: better") and list(facts["verdicts"].values()) == ["better"]
    nothing = given_facts([JointGain("none", "none", np.array([np.nan]))], "Dice")
    assert nothing["gains"] == {} and "no out-of-fold image has a value" in nothing["words"]
