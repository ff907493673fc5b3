"""What a signal does to a launch."""

import os
import signal
from platform.run.launch import Interrupted, signals

import pytest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_raised_with_its_number(number: signal.Signals) -> None:
    with pytest.raises(Interrupted, match=number.name) as caught, signals():
        os.kill(os.getpid(), number)
    assert caught.value.number == number


@pytest.mark.parametrize("made", [KeyboardInterrupt, SystemError])
def test_what_a_library_makes_of_a_signal_is_still_the_signal(made: type[BaseException]) -> None:
    # Ray's waiting calls raise a KeyboardInterrupt of their own.
    with pytest.raises(Interrupted) as caught, signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Interrupted:
            raise made from None
    assert caught.value.number == signal.SIGTERM


def test_an_error_without_a_signal_stays_what_it_is() -> None:
    with pytest.raises(SystemError), signals():
        raise SystemError


def test_a_second_signal_is_not_caught() -> None:
    with pytest.raises(Interrupted), signals():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_handlers_of_before_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with signals():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
