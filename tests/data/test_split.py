"""Who trains and who validates: the original's slices to the letter, sequences kept whole, classes on both sides."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.split import SLICES, kfold_split, make_split, slice_split, split_seed, stratified_split
from pipeline.errors import UserError

AEROSCAPES_IDS = [f"{number // 19:06d}_{number % 19:03d}" for number in range(2621)]


def catalog_of(sequences: list[str]) -> pd.DataFrame:
    """Returns a catalog of images p0, p1, ... in these sequences."""
    return pd.DataFrame({"id": [f"p{number}" for number in range(len(sequences))], "sequence": sequences})


def split_of(catalog: pd.DataFrame, by: str, index: int, present: np.ndarray | None = None) -> pd.DataFrame:
    """Returns the split of a catalog whose images all show two classes, unless told what they show."""
    return make_split(catalog, np.ones((len(catalog), 2), bool) if present is None else present, by, index)


def sides(split: pd.DataFrame) -> tuple[set[str], set[str]]:
    return tuple(set(split["id"][split["subset"] == side]) for side in ("train", "valid"))


def test_slice_0_of_aeroscapes_is_frozen():
    train, valid = slice_split(AEROSCAPES_IDS, 0)
    assert (len(train), len(valid)) == (2097, 524)
    digest = hashlib.sha256("\n".join(valid).encode()).hexdigest()
    assert digest == "04649f155f75b975e84ac9844b26fbf5c45da4021e8dbaca4a606e1b390c0715"


def test_slices_are_cut_from_one_shuffle_at_their_offsets():
    ids = [str(number) for number in range(100)]
    shuffled = list(ids)
    random.Random(42).shuffle(shuffled)
    assert set(slice_split(ids, 0)[1]) == set(shuffled[:20])
    assert set(slice_split(ids, 12)[1]) == set(shuffled[25:45])  # offset 0.25
    assert set(slice_split(ids, 19)[1]) == set(shuffled[95:] + shuffled[:15])  # offset 0.95 wraps around


def test_offsets_and_edges_are_rounded_half_up():
    ids = [str(number) for number in range(10)]
    shuffled = list(ids)
    random.Random(42).shuffle(shuffled)
    # Offset 0.05 of 10 is 0.5, which becomes 1; 0.25 of 10 is 2.5, which becomes 3 (Python's round would say 2).
    assert set(slice_split(ids, 10)[1]) == set(shuffled[1:3])


def test_seeds_and_offsets_are_the_originals():
    seeds = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71]
    offsets = [0.0, 0.2, 0.4, 0.6, 0.8, 0.1, 0.3, 0.5, 0.7, 0.9]
    offsets += [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95]
    assert [split_seed(index) for index in range(20)] == seeds
    assert [twentieths / 20 for _, twentieths in SLICES] == offsets


@pytest.mark.parametrize("num_images", [2621, 468, 100, 23, 5])
def test_five_slices_validate_every_image_once_ten_once_or_twice_twenty_three_or_four_times(num_images: int):
    ids = AEROSCAPES_IDS[:num_images]

    def times(num_slices: int) -> set[int]:
        uses = Counter(id for index in range(num_slices) for id in slice_split(ids, index)[1])
        return {uses[id] for id in ids}

    assert times(5) == {1}
    assert times(10) <= {1, 2}
    assert times(20) <= {3, 4}


@settings(max_examples=100, deadline=None)
@given(num_images=st.integers(5, 400), index=st.integers(0, 19))
def test_a_slice_and_its_rest_are_the_list(num_images: int, index: int):
    ids = [str(number) for number in range(num_images)]
    train, valid = slice_split(ids, index)
    assert sorted(train + valid, key=int) == ids
    assert abs(len(valid) - num_images / 5) <= 1
    assert train == sorted(train, key=int)
    assert valid == sorted(valid, key=int)


def test_a_negative_index_keeps_its_percentage_of_both_sides():
    catalog = catalog_of(["a", "b"] * 100)
    whole_train, whole_valid = sides(split_of(catalog, "slice", 0))
    train, valid = sides(split_of(catalog, "slice", -10))
    assert (len(train), len(valid)) == (16, 4)
    assert train <= whole_train
    assert valid <= whole_valid
    assert sides(split_of(catalog, "slice", -100)) == (whole_train, whole_valid)
    assert split_seed(-10) == split_seed(0)


@pytest.mark.parametrize("by", ["slice", "sequence", "kfold", "stratified"])
@pytest.mark.parametrize("index", [0, 4, 19, -20])
def test_a_split_lists_images_in_the_catalogs_order(by: str, index: int):
    catalog = catalog_of([f"s{number // 4}" for number in range(60)])
    split = split_of(catalog, by, index)
    assert split.columns.tolist() == ["id", "subset"]
    assert set(split["subset"]) == {"train", "valid"}
    order = catalog["id"].tolist()
    assert split["id"].tolist() == sorted(split["id"], key=order.index)
    assert len(split) == (60 if index >= 0 else 12)
    pd.testing.assert_frame_equal(split, split_of(catalog, by, index))


@pytest.mark.parametrize("by", ["sequence", "stratified"])
@pytest.mark.parametrize("index", range(0, 20, 3))
def test_no_sequence_is_on_both_sides(by: str, index: int):
    rng = np.random.default_rng(index)
    sequences = [f"s{number:02d}" for number in range(30) for _ in range(rng.integers(1, 20))]
    catalog = catalog_of(sequences)
    train, valid = sides(split_of(catalog, by, index))
    sequence_of = dict(zip(catalog["id"], catalog["sequence"], strict=True))
    assert not {sequence_of[id] for id in train} & {sequence_of[id] for id in valid}
    assert len(train) + len(valid) == len(sequences)
    assert 0.15 <= len(valid) / len(sequences) <= 0.25


def test_five_sequence_splits_validate_nearly_every_image():
    rng = np.random.default_rng(3)
    sequences = [f"s{number:03d}" for number in range(141) for _ in range(rng.integers(5, 40))]
    catalog = catalog_of(sequences)
    uses = Counter(id for index in range(5) for id in sides(split_of(catalog, "sequence", index))[1])
    assert sum(uses[id] >= 1 for id in catalog["id"]) >= 0.95 * len(sequences)
    for index in range(5):
        num_valid = len(sides(split_of(catalog, "sequence", index))[1])
        assert num_valid == pytest.approx(0.2 * len(sequences), rel=0.02)


def test_three_sequences_as_in_camvid_validate_on_one_of_the_smaller():
    sequences = ["0001TP"] * 62 + ["0006R0"] * 101 + ["0016E5"] * 305
    catalog = catalog_of(sequences)
    valid_of = [sides(split_of(catalog, "sequence", index))[1] for index in (0, 1)]
    assert [len(valid) for valid in valid_of] == [101, 62]  # 21.6 % is nearer to 20 % than 13.2 %
    with pytest.raises(UserError, match=r"3 sequences allow 2 validation sets[\s\S]*Give SPLIT_INDEX 0 to 1"):
        split_of(catalog, "sequence", 2)


def test_eight_equal_sequences_as_in_dubai_validate_in_pairs_each_once_in_four_splits():
    catalog = catalog_of([f"tile{number // 7}" for number in range(56)])
    valid_of = [sides(split_of(catalog, "sequence", index))[1] for index in range(20)]
    assert {len(valid) for valid in valid_of} == {14}
    assert len(set.union(*valid_of[:4])) == 56
    assert len({frozenset(valid) for valid in valid_of}) == 20


def test_the_sequences_of_each_index_are_frozen():
    """Runs are compared by their split, so a change of it is a change of every result."""
    numbers = [number for number in range(20) for _ in range(7 * number % 11 + 1)]
    present = np.array([[True, number % 4 == 0, number in (3, 11)] for number in numbers])
    catalog = catalog_of([f"s{number:02d}" for number in numbers])
    valid = [sides(split_of(catalog, "sequence", index, present))[1] for index in range(3)]
    assert [sorted({numbers[int(image_id[1:])] for image_id in own}) for own in valid] == [
        [10, 11, 12, 15, 16],
        [3, 8, 9, 19],
        [0, 1, 4, 11, 13, 18],
    ]


@pytest.mark.parametrize("name", ["valid", "VAL", "Validation", "dev"])
def test_the_organisers_images_validate_by_any_usual_name(name: str):
    catalog = catalog_of([""] * 4).assign(given=["train", name, "train", "train"])
    assert sides(split_of(catalog, "given", 0)) == ({"p0", "p2", "p3"}, {"p1"})


def test_two_sequences_can_still_be_split():
    valid_of = [sides(split_of(catalog_of(["a"] * 6 + ["b"] * 6), "sequence", index))[1] for index in (0, 1)]
    assert [len(valid) for valid in valid_of] == [6, 6]
    assert not valid_of[0] & valid_of[1]


def test_sequences_are_chosen_so_that_a_rare_class_stays_on_both_sides():
    sequences = [f"s{number // 5:02d}" for number in range(200)]
    present = np.zeros((200, 4), bool)
    present[:, 0] = True
    present[[7, 120], 1] = True  # in two sequences only
    present[[30, 90, 150], 2] = True
    present[44, 3] = True  # in one: it must not be lost from training
    for index in range(4):
        train, valid = sides(split_of(catalog_of(sequences), "sequence", index, present))
        for rare in (1, 2):
            images = {f"p{number}" for number in np.flatnonzero(present[:, rare])}
            assert images & train
            assert images & valid
        assert "p44" in train


@pytest.mark.parametrize("sequences", [[""] * 20, ["one"] * 20])
def test_a_sequence_split_without_sequences_is_refused(sequences: list[str]):
    with pytest.raises(UserError, match=r"at least 2 sequences[\s\S]*SPLIT\.BY=slice or"):
        split_of(catalog_of(sequences), "sequence", 0)


def test_five_folds_validate_every_image_once_and_the_next_five_differ():
    ids = [str(number) for number in range(103)]
    folds = [set(kfold_split(ids, index)[1]) for index in range(10)]
    for five in (folds[:5], folds[5:]):
        assert sorted(id for fold in five for id in fold) == sorted(ids)
        assert {len(fold) for fold in five} == {20, 21}
    assert folds[0] != folds[5]


def test_stratified_folds_share_out_the_sequences_of_a_rare_class():
    sequences = [f"s{number // 6:02d}" for number in range(300)]
    rare_sequences = {f"s{number:02d}" for number in range(10)}  # neighbours: folds in file order would get them all
    present = np.array([[True, name in rare_sequences] for name in sequences])
    ids = [f"p{number}" for number in range(300)]
    per_fold = []
    for index in range(5):
        valid = stratified_split(ids, sequences, present, index)[1]
        per_fold.append(len({sequences[int(id[1:])] for id in valid} & rare_sequences))
    assert per_fold == [2] * 5


def test_stratified_folds_need_as_many_sequences_and_name_the_way_out():
    with pytest.raises(UserError, match=r"only 3\.[\s\S]*SPLIT\.BY=sequence"):
        split_of(catalog_of(["a", "b", "c"] * 10), "stratified", 0)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=25),
    num_folds=st.integers(2, 20),
    seed=st.integers(0, 9),
)
def test_folds_of_sequences_validate_every_image_once_and_keep_sequences_whole(
    sizes: list[int], num_folds: int, seed: int
):
    sequences = [f"s{number:02d}" for number, size in enumerate(sizes) for _ in range(size)]
    catalog = catalog_of(sequences)
    present = np.random.default_rng(seed).random((len(sequences), 3)) < 0.2
    if len(sizes) < num_folds:
        with pytest.raises(UserError, match=f"need {num_folds} sequences or more, but there are only {len(sizes)}"):
            make_split(catalog, present, "sequence", 0, num_folds)
        return
    sequence_of = dict(zip(catalog["id"], sequences, strict=True))
    folds = [sides(make_split(catalog, present, "sequence", index, num_folds)) for index in range(num_folds)]
    assert sorted(image_id for _, valid in folds for image_id in valid) == sorted(catalog["id"])
    for train, valid in folds:
        assert valid and not {sequence_of[image_id] for image_id in train} & {
            sequence_of[image_id] for image_id in valid
        }
    # No fold can be smaller than the sequences allow: without its largest sequence it is below an equal share.
    totals = [len(valid) for _, valid in folds]
    assert max(totals) <= len(sequences) / num_folds + max(sizes)  # without its last sequence no fold is above a share


@pytest.mark.parametrize("by", ["kfold", "stratified", "sequence"])
@pytest.mark.parametrize("num_folds", [2, 3, 10])
def test_each_kind_of_folds_is_a_partition_of_like_parts(by: str, num_folds: int):
    catalog = catalog_of([f"s{number // 5:02d}" for number in range(300)])
    present = np.random.default_rng(1).random((300, 4)) < 0.3
    valid = [sides(make_split(catalog, present, by, index, num_folds))[1] for index in range(num_folds)]
    assert sorted(image_id for own in valid for image_id in own) == sorted(catalog["id"])
    apart = 5 if by == "stratified" else 0  # one sequence: it is after like shares of the classes first
    assert {abs(len(own) - 300 // num_folds) for own in valid} <= {0, apart}


@pytest.mark.parametrize("by", ["kfold", "stratified"])
def test_five_folds_are_the_folds_of_a_config_that_says_nothing(by: str):
    catalog = catalog_of([f"s{number // 5:02d}" for number in range(103)])
    present = np.ones((103, 2), bool)
    for index in (0, 4, 7):
        own = make_split(catalog, present, by, index, 5)
        pd.testing.assert_frame_equal(own, make_split(catalog, present, by, index))


def test_a_class_of_two_sequences_is_in_two_folds_so_that_training_never_lacks_it():
    sequences = [f"s{number // 5:02d}" for number in range(60)]
    present = np.zeros((60, 2), bool)
    present[:, 0] = True
    present[[0, 5], 1] = True  # s00 and s01, neighbours
    for index in range(3):
        train, _ = sides(make_split(catalog_of(sequences), present, "sequence", index, 3))
        assert {"p0", "p5"} & train


def test_three_folds_of_camvid_are_its_three_sequences():
    catalog = catalog_of(["0001TP"] * 62 + ["0006R0"] * 101 + ["0016E5"] * 305)
    present = np.ones((468, 2), bool)
    assert sorted(len(sides(make_split(catalog, present, "sequence", index, 3))[1]) for index in range(3)) == [
        62,
        101,
        305,
    ]
    with pytest.raises(UserError, match=r"need 5 sequences or more, but there are only 3.*\nGive --folds 2 to 3"):
        make_split(catalog, present, "sequence", 0, 5)


def test_images_without_a_sequence_are_refused():
    with pytest.raises(UserError, match=r"5 of 20 images are of no sequence\.\nSEQUENCE_COLUMN"):
        make_split(catalog_of(["a"] * 15 + [""] * 5), np.ones((20, 2), bool), "sequence", 0, 2)


def test_as_many_sequences_as_stratified_folds_are_a_fold_each():
    valid = [sides(split_of(catalog_of(list("abcde") * 6), "stratified", index))[1] for index in range(5)]
    assert sorted(map(sorted, valid)) == [sorted(f"p{5 * row + index}" for row in range(6)) for index in range(5)]


def test_stratified_folds_treat_images_without_sequence_one_by_one():
    train, valid = sides(split_of(catalog_of([""] * 50), "stratified", 0))
    assert (len(train), len(valid)) == (40, 10)


@pytest.mark.parametrize("by", ["slice", "kfold"])
def test_too_few_images_are_refused(by: str):
    with pytest.raises(UserError, match="images"):
        split_of(catalog_of(["a", "b"]), by, 0)


@settings(max_examples=80, deadline=None)
@given(
    num=st.integers(1, 12),
    num_sequences=st.integers(0, 4),
    by=st.sampled_from(["slice", "sequence", "kfold", "stratified", "given"]),
    index=st.sampled_from([-30, 0, 1, 7]),
    num_folds=st.sampled_from([None, 2, 5]),
)
def test_what_a_refusal_advises_is_accepted(num: int, num_sequences: int, by: str, index: int, num_folds: int | None):
    if num_folds and (by in ("slice", "given") or (by == "sequence" and index >= num_folds)):
        return  # the config's own checks refuse these
    catalog = catalog_of([f"s{place % num_sequences}" if num_sequences else "" for place in range(num)])
    catalog, present = catalog.assign(given=""), np.ones((num, 2), bool)
    try:
        make_split(catalog, present, by, index, num_folds)
    except UserError as refused:
        ways = re.findall(r"DATASETS\.SPLIT\.BY=(\w+)(?: DATASETS\.SPLIT\.FOLDS=(\w+))?", str(refused))
        assert bool(ways) == (num > 1), refused
        for kind, typed in ways:
            folds = {"": num_folds, "null": None}.get(typed) if not typed.isdecimal() else int(typed)
            assert folds is None or kind == "kfold"
            make_split(catalog, present, kind, index, folds)


@pytest.mark.parametrize(
    ("sequences", "by", "num_folds", "advice"),
    [
        ([""], "slice", None, "No split leaves images for both training and validation; add images."),
        (["a"] * 3, "kfold", None, "These images can be split with {0}slice or {0}kfold {1}2."),
        (
            ["a", "b", "c"] * 10,
            "stratified",
            None,
            "These images can be split with {0}sequence or {0}slice or {0}kfold.",
        ),
        (
            *(["a", "b", "c"] * 10, "sequence", 5),
            "These images can be split with {0}kfold (optimistic scores: frames of a sequence are on both sides).",
        ),
    ],
)
def test_a_refusal_advises_what_can_be_typed(sequences: list[str], by: str, num_folds: int | None, advice: str):
    with pytest.raises(UserError) as refused:
        make_split(catalog_of(sequences), np.ones((len(sequences), 2), bool), by, 0, num_folds)
    assert str(refused.value).splitlines()[-1] == advice.format("DATASETS.SPLIT.BY=", "DATASETS.SPLIT.FOLDS=")


def test_a_split_that_needs_no_scikit_learn_does_not_wait_for_it(python_modules):
    assert "sklearn" not in python_modules("import pipeline.data.split")
