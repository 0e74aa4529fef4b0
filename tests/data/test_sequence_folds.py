"""Folds of whole sequences: what they are chosen by, in which order, and that the choice stays the same."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.sequence_folds import assign_sequences, fewer_folds


def folds_of(sizes: dict[str, int], showing: str, num_folds: int) -> list[str]:
    """Returns the sequences of each fold, sorted; those in `showing` have a second class in all images."""
    sequences = [name for name, size in sizes.items() for _ in range(size)]
    present = np.array([[True, name in showing] for name in sequences])
    fold_of = assign_sequences(sequences, present, num_folds, seed=42)
    assert set(fold_of) == set(sizes)
    return sorted("".join(sorted(name for name in fold_of if fold_of[name] == fold)) for fold in range(num_folds))


def test_sizes_within_a_quarter_go_before_a_class_on_both_sides():
    # With the class on both sides the folds would have 16 and 4 images, or 14 and 6.
    assert folds_of({"a": 10, "b": 6, "c": 4}, "bc", 2) == ["a", "bc"]


def test_a_class_on_both_sides_goes_before_sizes_that_differ_by_just_a_quarter():
    # 5 and 3 images; with the class in one fold only it would be 4 and 4.
    assert not any({"a", "b"} <= set(fold) for fold in folds_of({"a": 3, "b": 1, "c": 2, "d": 2}, "ab", 2))


def test_a_class_in_every_fold_goes_before_equal_sizes():
    # 4, 6 and 6 images; 5, 5 and 6 would leave one fold without the class.
    assert folds_of({"a": 1, "b": 4, "c": 2, "d": 3, "e": 6}, "abe", 3) == ["ad", "bc", "e"]


def test_the_folds_of_a_seed_are_frozen():
    """Runs are compared by their folds, so a change of them is a change of every result."""
    sequences = [f"{number:02d}" for number in range(20) for _ in range(7 * number % 11 + 1)]
    present = np.array([[True, int(name) % 4 == 0, name in ("03", "11")] for name in sequences])
    found = assign_sequences(sequences, present, 4, 42)
    assert "".join(str(found[name]) for name in sorted(found)) == "20301033022332111201"
    assert found != assign_sequences(sequences, present, 4, 43)


@pytest.mark.parametrize(("most", "advice"), [(0, ""), (1, ""), (2, "--folds 2 ("), (3, "--folds 2 to 3 (")])
def test_only_numbers_of_folds_that_are_possible_are_advised(most, advice):
    assert advice in fewer_folds(most) and bool(fewer_folds(most)) == (most > 1)
