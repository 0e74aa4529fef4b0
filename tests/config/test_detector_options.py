"""MODEL.OPTIONS of detectors."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pipeline.config.detector_options import read_options
from pipeline.config.ranges import Count, Share
from pipeline.errors import UserError


@dataclass(frozen=True)
class Options:
    depth: Count = 4
    shares: tuple[Share, ...] = (0.5,)
    kind: str = "plain"


def test_options_that_are_not_given_have_their_defaults():
    assert read_options(Options, {}, "Network") == Options()
    assert read_options(Options, {"DEPTH": 2}, "Network") == Options(depth=2)


def test_options_may_be_written_in_either_case_but_not_in_both():
    assert read_options(Options, {"kind": "deep"}, "Network") == read_options(Options, {"KIND": "deep"}, "Network")
    with pytest.raises(UserError, match=r"OPTIONS\.depth: given in upper and in lower case; keep DEPTH"):
        read_options(Options, {"DEPTH": 2, "depth": 3}, "Network")


def test_whole_numbers_become_those_of_the_options_type():
    shares = read_options(Options, {"SHARES": (0, 1, 1e-5)}, "Network").shares
    assert shares == (0.0, 1.0, 1e-5) and {type(share) for share in shares} == {float}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"DEPHT": 3}, r"OPTIONS\.DEPHT: Network has no such option; did you mean DEPTH\?"),
        ({"WIDTH_OF_ALL": 3}, r"OPTIONS\.WIDTH_OF_ALL: Network has no such option; it has DEPTH, SHARES, KIND"),
        ({"Depth": 3}, r"OPTIONS\.Depth: Network has no such option; did you mean DEPTH\?"),
        ({"DEPTH": "8"}, r"OPTIONS\.DEPTH: found the quoted text '8', expected an integer \(at least 1\)"),
        ({"DEPTH": True}, r"OPTIONS\.DEPTH: found 'true', expected an integer"),
        ({"DEPTH": 2.0}, r"OPTIONS\.DEPTH: found '2\.0', expected an integer"),
        ({"DEPTH": None}, r"OPTIONS\.DEPTH: found null, expected an integer"),
        ({"DEPTH": 0}, r"OPTIONS\.DEPTH: 0 is outside the allowed range \(at least 1\)"),
        ({"SHARES": (0.5, 2)}, r"OPTIONS\.SHARES: item 2: 2\.0 is outside the allowed range"),
        ({"SHARES": 0.5}, r"OPTIONS\.SHARES: found '0\.5', expected a list"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(options, message):
    with pytest.raises(UserError, match=message):
        read_options(Options, options, "Network")
