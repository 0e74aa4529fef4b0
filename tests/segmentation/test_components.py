"""Rules for connected components: against SciPy, on worked masks, and on ensembles of random predictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from pipeline.config.component_rules import ComponentRule, from_facts, parse_components
from pipeline.errors import UserError
from pipeline.segmentation.components import apply_rule, with_components
from pipeline.segmentation.decoding import Rule, decode_with_rules
from pipeline.segmentation.ensemble import Recipe, combine, mean_probs, next_best
from pipeline.segmentation.planes import is_present
from pipeline.segmentation.predict import Prediction
from tests.segmentation.members import CLASSES, draw_prediction

CORNERS = np.ones((3, 3))
PLANES = npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, max_side=12))
SHARES = st.sampled_from([0.01, 0.05, 0.1, 0.3, 1.0])


def rule(name: str, index: int = 1, **values: float) -> ComponentRule:
    return ComponentRule(name, index, tuple(values.items()))


def sizes_of(plane: np.ndarray, structure=CORNERS) -> tuple[np.ndarray, np.ndarray]:
    numbers, count = ndimage.label(plane, structure)
    return numbers, ndimage.sum_labels(plane, numbers, np.arange(count + 1))


@given(PLANES, SHARES)
def test_small_components_are_dropped_as_scipy_counts_them(plane, share):
    numbers, sizes = sizes_of(plane)
    sizes[0] = 0
    expected = (sizes >= share * plane.size)[numbers] & plane
    assert np.array_equal(apply_rule(rule("min_area", share=share), plane), expected)


@given(PLANES)
def test_the_largest_component_alone_stays(plane):
    found, (_, sizes) = apply_rule(rule("largest"), plane), sizes_of(plane)
    assert not (found & ~plane).any()
    assert found.sum() == (max(sizes[1:]) if len(sizes) > 1 else 0)
    assert ndimage.label(found, CORNERS)[1] == min(1, len(sizes) - 1)


@given(PLANES, SHARES)
def test_holes_are_those_of_scipy_up_to_their_size(plane, share):
    holes = ndimage.binary_fill_holes(plane) & ~plane
    numbers, sizes = sizes_of(holes, None)
    expected = plane | (holes & (sizes <= share * plane.size)[numbers])
    assert np.array_equal(apply_rule(rule("fill_holes", share=share), plane), expected)


@given(PLANES, st.integers(0, 100), st.sampled_from([0.6, 0.9]), st.sampled_from([0.3, 0.5, 1.0]))
def test_hysteresis_keeps_what_grows_from_a_sure_pixel(plane, seed, high, low):
    probs = np.random.default_rng(seed).random(plane.shape).astype(np.float32)
    candidates = plane | (probs >= low) if low < 1 else plane
    expected = ndimage.binary_propagation(candidates & (probs >= high), CORNERS, mask=candidates)
    assert np.array_equal(apply_rule(rule("hysteresis", high=high, low=low), plane, probs), expected)


@given(PLANES, SHARES)
def test_a_rule_applied_twice_is_applied_once(plane, share):
    for own in (rule("largest"), rule("min_area", share=share), rule("fill_holes", share=share)):
        once = apply_rule(own, plane)
        assert np.array_equal(apply_rule(own, once), once)


def test_a_hole_that_touches_the_edge_of_the_image_or_a_gap_is_none():
    ring = np.zeros((7, 7), bool)
    ring[1:6, 1:6] = True
    ring[2:5, 2:5] = False
    assert apply_rule(rule("fill_holes", share=1.0), ring).sum() == 25
    assert apply_rule(rule("fill_holes", share=8 / 49), ring).sum() == 16
    open_ring = ring.copy()
    open_ring[1, 3] = False
    assert apply_rule(rule("fill_holes", share=1.0), open_ring).sum() == 15


def members(seed: int, number: int = 2, size=(24, 30)) -> list[Prediction]:
    generator = np.random.default_rng(seed)
    return [draw_prediction(generator, size, 4, sharpness=3.0) for _ in range(number)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["AP", "BP", "GEO"]))
def test_the_next_best_class_is_the_best_of_the_others(seed, method):
    predictions, recipe = members(seed), Recipe(method)
    first, second = combine(predictions, [recipe])[0], next_best(predictions, recipe)
    for index in range(len(CLASSES)):
        others = combine(predictions, [recipe], (index,))[0]
        assert np.array_equal(second[first == index], others[first == index])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.02, 0.1]), st.integers(0, 3))
def test_a_dropped_component_goes_to_the_next_best_class(seed, share, index):
    predictions, recipe = members(seed), Recipe("AP")
    plain = combine(predictions, [recipe])[0]
    found = with_components(predictions, recipe, plain, [rule("min_area", index, share=share)])
    stays = apply_rule(rule("min_area", share=share), plain == index)
    assert np.array_equal(found == index, stays)
    lost = (plain == index) & ~stays
    assert np.array_equal(found[lost], next_best(predictions, recipe)[lost])
    assert np.array_equal(found[~lost], plain[~lost])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.02, 0.1]), st.sets(st.integers(0, 3), min_size=2, max_size=3))
def test_no_pixel_returns_to_a_class_that_lost_it(seed, share, indices):
    predictions, recipe = members(seed), Recipe("AP")
    rules = [rule("min_area", index, share=share) for index in sorted(indices)]
    masks = [combine(predictions, [recipe])[0]]
    masks += [with_components(predictions, recipe, masks[0], rules[:number]) for number in range(1, len(rules) + 1)]
    for number, one in enumerate(rules):
        lost = (masks[number] == one.class_index) & (masks[number + 1] != one.class_index)
        assert not (masks[-1][lost] == one.class_index).any()


def test_rules_for_components_come_after_those_that_drop_a_class_which_stays_away():
    predictions, recipe = members(1), Recipe("AP")
    plain = combine(predictions, [recipe])[0]
    smallest = int(np.bincount(plain.ravel(), minlength=4).argmin())
    drop, others = [Rule(smallest, "area", 1.0)], [index for index in range(4) if index != smallest]
    smoothed = decode_with_rules(predictions, recipe, drop, [rule("min_area", one, share=0.05) for one in others[:2]])
    assert (plain == smallest).any() and not (smoothed == smallest).any()
    assert np.array_equal(
        decode_with_rules(predictions, recipe, drop, ()), decode_with_rules(predictions, recipe, drop)
    )


def test_hysteresis_in_an_ensemble_goes_by_the_mean_probability():
    predictions, recipe = members(3, number=3), Recipe("AP")
    predictions = [replace(one, logits=one.logits * np.float16(3)) for one in predictions]
    plain = combine(predictions, [recipe])[0]
    probs = np.concatenate([block.numpy() for _, _, block in mean_probs(predictions)], 1)[1]
    found = with_components(predictions, recipe, plain, [rule("hysteresis", 1, high=0.8, low=0.3)])
    candidates = (plain == 1) | (probs >= 0.3)
    expected = ndimage.binary_propagation(candidates & (probs >= 0.8), CORNERS, mask=candidates)
    assert np.array_equal(found == 1, expected) and expected.any()


def test_several_classes_per_pixel_are_changed_one_by_one():
    logits = np.random.default_rng(0).normal(0, 3, (3, 20, 20)).astype(np.float16)
    predictions = [Prediction(logits, 1, False, (0, 0), (20, 20), is_sigmoid=True)]
    plain = combine(predictions, [Recipe("AP")])[0]
    rules = parse_components("largest(b) + fill_holes(c, share=1)", ("a", "b", "c"), (0, 1, 2))
    found = with_components(predictions, Recipe("AP"), plain, rules)
    assert np.array_equal(found[..., 0], plain[..., 0])
    assert np.array_equal(is_present(found[..., 1]), apply_rule(rule("largest"), is_present(plain[..., 1])))
    assert np.array_equal(is_present(found[..., 2]), ndimage.binary_fill_holes(is_present(plain[..., 2])))
    assert set(np.unique(found)) <= {0, 240}


def test_a_class_without_another_to_go_to_keeps_its_pixels():
    predictions, recipe = members(0), Recipe("AP")
    excluded = (0, 2, 3)
    mask = combine(predictions, [recipe], excluded)[0]
    found = with_components(predictions, recipe, mask, [rule("min_area", 1, share=1.0), rule("largest", 1)], excluded)
    assert np.array_equal(found, mask)


def test_rules_are_read_in_the_order_in_which_they_apply_and_written_as_they_were_read():
    text = "fill_holes(all, share=0.01) + min_area(Paved area, share=1e-3) + hysteresis(Car, high=0.8, low=0.3)"
    classes = ("Land", "Paved area", "Car")
    rules = parse_components(text, classes, (0, 2))
    assert [one.text(classes[one.class_index]) for one in rules] == [
        "hysteresis(Car, high=0.8, low=0.3)",
        "min_area(Paved area, share=0.001)",
        "fill_holes(Land, share=0.01)",
        "fill_holes(Car, share=0.01)",
    ]
    written = " + ".join(one.text(classes[one.class_index]) for one in rules)
    assert parse_components(written, classes, (0, 2)) == rules
    assert tuple(from_facts(one.facts(classes[one.class_index]), classes) for one in rules) == rules


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("fited", "did you mean fitted?"),
        ("min_size(Car, share=0.1)", "expected none, fitted, or rules such as min_area(CLASS, share=0.001)"),
        ("minarea(Car, share=0.1)", "did you mean min_area?"),
        ("largest", "largest needs a class first, or all: largest(CLASS)"),
        ("min_area(share=0.1)", "min_area needs a class first, or all: min_area(CLASS, share=0.1)"),
        ("largest(Cra)", "there is no class 'Cra'; did you mean Car?"),
        ("min_area(Car)", "min_area needs share"),
        ("min_area(Car, area=5)", "min_area has no 'area'; did you mean share?"),
        ("min_area(Car, share=5)", "min_area: share: found '5', expected a number (above 0, at most 1)"),
        ("hysteresis(Car, high=0.3, low=0.8)", "hysteresis: low 0.8 is above high 0.3; exchange them"),
        ("largest(Car) + largest(all)", "largest is given twice for Car; keep one"),
    ],
)
def test_rules_that_cannot_be_read_are_refused_with_the_remedy(text, why):
    with pytest.raises(UserError) as caught:
        parse_components(text, ("Land", "Car"), (0, 1))
    assert why in str(caught.value)
