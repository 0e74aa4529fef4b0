"""What is not finite is noticed, at once or one step later, and always before `settle` returns."""

from __future__ import annotations

import pytest
import torch

from pipeline.training.finite import FiniteWatch, NotFinite, refuse_not_finite

YES, NO = torch.tensor(True), torch.tensor(False)


def test_without_lag_the_step_itself_is_refused():
    watch = FiniteWatch(lags=False)
    watch.check(YES, "loss", 1)
    with pytest.raises(NotFinite) as caught:
        watch.check(NO, "loss", 2)
    assert (caught.value.what, caught.value.position) == ("loss", 2)


def test_with_lag_a_step_is_refused_at_the_next_one_by_its_own_name():
    watch = FiniteWatch(lags=True)
    watch.check(YES, "loss", 1)
    watch.check(NO, "loss", 2)
    with pytest.raises(NotFinite) as caught:
        watch.check(YES, "loss", 3)
    assert caught.value.position == 2


def test_settling_asks_for_the_answer_on_its_way_and_forgets_it():
    watch = FiniteWatch(lags=True)
    watch.check(NO, "loss", 1)
    with pytest.raises(NotFinite):
        watch.settle()
    watch.settle()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_checkpoint_names_the_first_number_that_is_not_finite(value):
    moments = {0: {"step": 3, "slow": torch.tensor([1.0, value])}}
    content = {"network": {"weight": torch.ones(2)}, "optimizer": {"state": moments}, "state": {"best": None}}
    with pytest.raises(NotFinite, match=r"optimizer\.state\.0\.slow is not finite"):
        refuse_not_finite(content)


def test_finite_content_and_whole_numbers_pass():
    refuse_not_finite({"a": [torch.ones(2), {"b": torch.tensor(3)}], "c": (torch.zeros(0),), "d": None, "e": "inf"})
