"""Being asked to stop: at once, deferred, twice, by the clock."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from pipeline.engine.stopping import REASONS, SIGNALS, Stop


@pytest.fixture
def stop():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where `nohup` has started the tests
    hook = sys.unraisablehook
    stop = Stop()
    stop.listen()
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)
    sys.unraisablehook = hook


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize(("number", "reason"), REASONS.items())
def test_a_signal_interrupts_at_once_where_nothing_is_deferred(stop, number, reason):
    with pytest.raises(KeyboardInterrupt) as caught:
        send(number)
    assert str(caught.value) == reason == stop.reason


def test_a_deferred_signal_only_requests_and_the_second_interrupts(stop):
    with pytest.raises(KeyboardInterrupt), stop.deferred():
        send(signal.SIGTERM)
        assert stop.requested and stop.reason == "asked to end (SIGTERM)"
        send(signal.SIGINT)


def test_after_a_deferred_stretch_signals_interrupt_again(stop):
    with stop.deferred():
        pass
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


@pytest.mark.parametrize("first", SIGNALS)
def test_a_terminal_that_is_closed_asks_once_however_many_signals_come_of_it(stop, first):
    with stop.deferred():
        send(first)
        send(signal.SIGHUP)
    send(signal.SIGHUP)
    assert stop.reason == REASONS[first]


def test_what_nohup_starts_goes_on_when_the_terminal_is_closed(stop):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop.listen()
    send(signal.SIGHUP)
    assert not stop.requested
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGTERM)


def test_the_time_budget_requests_a_stop():
    stop = Stop(budget_s=0.02)
    assert not stop.requested
    time.sleep(0.03)
    assert stop.requested and stop.reason == "the time budget is used up"


def test_the_first_signal_after_the_budget_is_still_the_first(stop):
    stop.deadline = 0.0
    with stop.deferred():
        assert stop.requested
        send(signal.SIGTERM)
    assert stop.reason == "asked to end (SIGTERM)"


def test_without_a_budget_nothing_is_requested():
    assert not Stop().requested


def test_a_signal_where_python_drops_exceptions_is_kept_without_a_traceback(stop, capsys):
    class Closing:
        def __del__(self):
            send(signal.SIGTERM)

    closing = Closing()
    del closing
    assert stop.requested and stop.reason == "asked to end (SIGTERM)"
    assert capsys.readouterr().err == ""
