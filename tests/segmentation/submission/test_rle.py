"""Run lengths: both ways, against pycocotools, against the slow way, and against any text."""

import random
from itertools import groupby

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from pipeline.config.competition import IGNORE, Convention
from pipeline.errors import UserError
from pipeline.segmentation.submission.rle import RleError, decode_classes, encode, parse_runs
from tests.segmentation.submission.scenes import CONVENTIONS, encode_binary

NUM_CLASSES = 4
conventions = st.sampled_from(list(CONVENTIONS.values()))
index_masks = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=13), elements=st.sampled_from([0, 1, 2, 3, IGNORE])
)


def decode(text: str, height: int, width: int, convention: Convention) -> np.ndarray:
    """Returns where the mask of one text has a pixel."""
    return decode_classes([text], height, width, convention) == 0


def encode_slowly(mask_HW, class_index, order, base):
    """The textbook way, a Python step per pixel."""
    runs, position = [], base
    for value, group in groupby(mask_HW.ravel(order="C" if order == "row" else "F").tolist()):
        length = len(list(group))
        runs += [position, length] if value == class_index else []
        position += length
    return " ".join(map(str, runs))


def special_masks():
    """Masks at which published encoders are known to fail."""
    for height, width in ((1, 1), (1, 7), (7, 1), (5, 8)):
        for value in (0, 1, IGNORE):
            yield np.full((height, width), value, np.uint8)
        for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
            mask_HW = np.full((height, width), IGNORE, np.uint8)
            mask_HW[y, x] = 1
            yield mask_HW
            yield np.where(mask_HW == 1, IGNORE, 1).astype(np.uint8)


@settings(max_examples=200)
@given(index_masks, conventions)
def test_decoding_gives_back_what_was_encoded_under_every_known_convention(mask_HW, convention):
    texts = encode(mask_HW, NUM_CLASSES, convention)
    assert np.array_equal(decode_classes(texts, *mask_HW.shape, convention), mask_HW)
    for index, text in enumerate(texts):
        assert np.array_equal(decode(text, *mask_HW.shape, convention), mask_HW == index)
        assert text == encode_binary(mask_HW == index, convention)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_empty_full_single_and_corner_pixel_masks_survive_both_ways(name):
    convention = CONVENTIONS[name]
    for mask_HW in special_masks():
        texts = encode(mask_HW, NUM_CLASSES, convention)
        assert np.array_equal(decode_classes(texts, *mask_HW.shape, convention), mask_HW)


@settings(max_examples=200)
@given(index_masks, st.sampled_from(["row", "column"]), st.sampled_from([0, 1]))
def test_the_text_is_the_one_of_the_slow_way(mask_HW, order, base):
    assert encode(mask_HW, NUM_CLASSES, Convention(order, base)) == [
        encode_slowly(mask_HW, index, order, base) for index in range(NUM_CLASSES)
    ]


def count_unlike_pycocotools(num_masks, seed):
    """How many of so many random masks have other runs than pycocotools gives them."""
    rng = np.random.default_rng(seed)
    num_unlike = 0
    for number in range(num_masks):
        shape = rng.integers(1, 24, size=2)
        mask_HW = (rng.random(shape) < rng.choice([0.0, 0.02, 0.5, 0.98, 1.0])).astype(np.uint8)
        if number % 3 == 0:  # larger things than noise
            mask_HW = np.repeat(np.repeat(mask_HW, 3, axis=0), 2, axis=1)
        num_unlike += not has_runs_of_pycocotools(mask_HW)
    return num_unlike


def has_runs_of_pycocotools(mask_HW):
    convention = Convention("column", base=1)
    runs = parse_runs(encode_binary(mask_HW, convention), mask_HW.size, convention)
    edges = np.stack([runs.starts, runs.starts + runs.lengths], axis=1).ravel()
    counts = np.diff(edges, prepend=0, append=mask_HW.size)
    if counts[-1] == 0:
        counts = counts[:-1]  # pycocotools writes no empty run at the end
    ours = coco.frPyObjects({"counts": counts.tolist(), "size": list(mask_HW.shape)}, *map(int, mask_HW.shape))
    return ours["counts"] == coco.encode(np.asfortranarray(mask_HW))["counts"]


def test_ten_thousand_masks_have_the_runs_of_pycocotools():
    assert count_unlike_pycocotools(10_000, seed=0) == 0


def test_relative_starts_are_read_as_the_siim_sample_code_reads_them():
    mask_HW = (np.random.default_rng(1).random((20, 30)) < 0.4).astype(np.uint8)
    numbers = np.array(encode_binary(mask_HW, Convention("column", relative=True, empty="-1")).split(), int)
    pixels, position = np.zeros(mask_HW.size, np.uint8), 0
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        position += start
        pixels[position : position + length] = 1
        position += length
    assert np.array_equal(pixels.reshape(30, 20).T, mask_HW)


def test_pixels_of_ignored_or_unknown_classes_are_in_no_text():
    assert encode(np.array([[7, 1, IGNORE, 0]], np.uint8), 2, Convention()) == ["3 1", "1 1"]


def test_numbers_of_any_length_are_written_in_full():
    mask_HW = np.zeros((1, 12_000_000), np.uint8)
    ones = [7, 8, 99, 1000, 1001, 10_000, 99_999, 9_999_999, 10_000_000, 11_000_009]
    mask_HW[0, ones] = 1
    assert encode(mask_HW, 2, Convention())[1] == "7 2 99 1 1000 2 10000 1 99999 1 9999999 2 11000009 1"
    assert encode(mask_HW[:, ::-1], 1, Convention(base=1))[0].endswith(" 11999994 7")


@pytest.mark.parametrize("mask", [np.zeros((2, 2), np.int64), np.zeros((2, 2, 1), np.uint8), np.zeros(4, np.uint8)])
def test_only_index_masks_are_encoded(mask):
    with pytest.raises(ValueError, match="uint8 or int32 array of shape"):
        encode(mask, 2, Convention())


@pytest.mark.parametrize(
    ("text", "base", "message"),
    [
        ("1", 0, "found 1 numbers; expected pairs of start and length"),
        ("0 2 5", 0, "found 3 numbers"),
        ("0 x", 0, "'x' is not a whole number"),
        ("0 1.5", 0, "'1.5' is not a whole number"),
        ("-1 2", 0, "'-1' is not a whole number"),
        ("0,2", 0, "'0,2' is not a whole number"),
        ("0 ٣", 0, "is not a whole number"),
        ("nan", 0, "'nan' is not a whole number"),
        ("0  2", 0, "found more than one space"),
        (" 0 2", 0, "found more than one space"),
        ("0 2 ", 0, "found more than one space"),
        ("0\t2", 0, "is not a whole number"),
        ("0 0", 0, "run 1 has length 0"),
        ("0 2 4 0", 0, "run 2 has length 0"),
        ("0 2", 1, "starts at pixel 0, but pixels are numbered from 1"),
        ("0 2 1 2", 0, "run 2 \\(start 1\\) overlaps run 1 \\(start 0\\)"),
        ("5 1 1 2", 0, "run 2 \\(start 1\\) starts before run 1 \\(start 5\\)"),
        ("10 3", 0, "run 1 ends at pixel 12; the last pixel is 11"),
        ("10 4", 1, "run 1 ends at pixel 13; the last pixel is 12"),
        ("0 13", 0, "13 is outside the image of 12 pixels"),
        ("99999999999999999999999 1", 0, "outside the image"),
        (None, 0, "found None; expected run lengths, or '' for an empty mask"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused_with_the_reason(text, base, message):
    with pytest.raises(RleError, match=message) as caught:
        decode(text, 3, 4, Convention(base=base))
    assert isinstance(caught.value, UserError)


@pytest.mark.parametrize(("text", "empty"), [("", "-"), ("-", ""), ("-1", "-"), ("", "-1")])
def test_an_empty_mask_is_accepted_in_the_words_of_the_competition_only(text, empty):
    assert not decode(empty, 3, 4, Convention(empty=empty)).any()
    with pytest.raises(RleError):
        decode(text, 3, 4, Convention(empty=empty))


def test_classes_that_share_a_pixel_are_refused_with_its_place():
    with pytest.raises(RleError, match="classes 0 and 2 both have the pixel x 1, y 2"):
        decode_classes(["0 10", "", "9 2"], 3, 4, Convention())
    with pytest.raises(RleError, match="classes 0 and 2 both have the pixel x 3, y 0"):
        decode_classes(["0 10", "", "9 2"], 3, 4, Convention("column"))


fragments = st.lists(
    st.sampled_from(
        ["0", "1", "5", "12", "13", "-1", "-", " ", "  ", "\t", "\n", ",", ".5", "e3", "9" * 25, "٣", "\0"]
    ),
    max_size=8,
).map("".join)


@settings(max_examples=500)
@given(st.one_of(st.text(max_size=30), fragments), conventions)
@example("\ud800", CONVENTIONS["AeroScapes"])
def test_any_text_is_a_mask_or_our_own_error(text, convention):
    try:
        mask_HW = decode(text, 3, 4, convention)
    except RleError as error:
        assert str(error)
    else:
        assert mask_HW.shape == (3, 4)
        assert mask_HW.dtype == bool


def read_spoilt(num_texts, seed):
    """How many of so many spoilt texts were read as a mask and how many refused; another error than ours goes on."""
    generator = random.Random(seed)
    signs = "0123456789 -.,;:+eE\t\n\r\0xn∞٣\ud800"
    names = list(CONVENTIONS)
    num_refused = 0
    for _ in range(num_texts):
        characters = list(generator.choice(["0 2 5 1 9 3", "1 12", "3 4 11 1", "-1", "-", "2 1 2 1"]))
        for _ in range(generator.randint(0, 4)):
            place = generator.randrange(len(characters) + 1)
            characters[place : place + generator.randint(0, 2)] = generator.choices(signs, k=generator.randint(0, 2))
        try:
            mask_HW = decode("".join(characters), 3, 4, CONVENTIONS[generator.choice(names)])
            assert (mask_HW.shape, mask_HW.dtype) == ((3, 4), bool)
        except RleError:
            num_refused += 1
    return num_texts - num_refused, num_refused


def test_fifty_thousand_spoilt_texts_are_a_mask_or_our_own_error():
    num_read, num_refused = read_spoilt(50_000, seed=2)
    assert num_read > 1_000
    assert num_refused > 10_000


@pytest.mark.parametrize("convention", [Convention("row", 0), Convention("column", 1), Convention("row", 1, True)])
def test_many_runs_are_written_some_at_a_time_with_the_same_text(convention, monkeypatch):
    mask = np.random.default_rng(0).integers(0, 3, (40, 70), dtype=np.uint8)
    whole = encode(mask, 4, convention)
    monkeypatch.setattr("pipeline.segmentation.submission.rle.RUNS_AT_ONCE", 100)
    assert encode(mask, 4, convention) == whole and len(whole[0].split()) > 600
