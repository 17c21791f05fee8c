"""Signals while a run is carried out: however fast they come, each is heard, and none cuts into the telling of another."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from bbctl.run.halt import Halt, listening


def test_a_signal_in_the_middle_of_telling_of_another_is_heard_and_told_after_it() -> None:
    halt, telling, told, nested = Halt(), threading.Lock(), list[int](), list[int]()

    def say(times: int) -> None:
        if not telling.acquire(blocking=False):  # as a stream that is being written to
            nested.append(times)
            return
        if times == 1:
            os.kill(os.getpid(), signal.SIGINT)
        told.append(times)
        telling.release()

    with listening(halt, say):
        os.kill(os.getpid(), signal.SIGTERM)
        assert halt.now.wait(5)
    assert (told, nested, halt.signal) == ([1, 2], [], signal.SIGTERM)


def test_a_signal_is_heard_while_the_main_thread_sleeps_and_another_gets_it() -> None:
    halt, said = Halt(), list[int]()
    with listening(halt, said.append):
        signal.raise_signal(signal.SIGTERM)
        assert halt.soon.wait(5)
        other = threading.Timer(0.3, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT))
        other.start()
        assert halt.now.wait(5)  # no handler of Python's runs before this is over
        other.join()
    assert said == [1, 2]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("I/O operation on closed file")])
def test_a_terminal_that_is_gone_does_not_make_it_deaf(error: Exception) -> None:
    halt = Halt()

    def say(times: int) -> None:
        raise error

    with listening(halt, say):
        os.kill(os.getpid(), signal.SIGHUP)
        assert halt.soon.wait(5)
        os.kill(os.getpid(), signal.SIGINT)
        assert halt.now.wait(5)
    assert halt.signal == signal.SIGHUP
