"""How a run is asked to stop. Once: finish this host, then stop. Twice: at once.

The handlers live only while a run is carried out; before and after, a signal ends bbctl as it ends any command.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Cut(Exception):
    """Asked twice: whoever waits or acts gives up at once. The runner writes down where the host stands."""


class Halt:
    """The wish to stop, as every part of a run sees it. `signal` is the first one's number, None while nobody asked.
    `now`: what is set when it was asked twice (a transport's `stop`)."""

    def __init__(self, now: threading.Event | None = None) -> None:
        self.signal: int | None = None
        self.soon = threading.Event()
        self.now = now or threading.Event()

    def ask(self, number: int) -> None:
        """One more wish to stop."""
        if self.soon.is_set():
            self.now.set()
        self.signal = self.signal or number
        self.soon.set()

    def pause(self, seconds: float) -> None:
        """Wait inside a step. Raises Cut as soon as it was asked twice."""
        if self.now.wait(max(0.0, seconds)):
            raise Cut

    def rest(self, seconds: float) -> None:
        """Wait between hosts: ends early at the first wish to stop."""
        self.soon.wait(max(0.0, seconds))


@contextmanager
def listening(halt: Halt, say: Callable[[int], None]) -> Iterator[None]:
    """Signals become wishes while this lasts; `say` is told how many there were. Only the main thread can listen."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    # Python runs a handler when the main thread comes by, which may be asleep for long if the signal came just before it
    # lay down; and a handler cuts into whatever that thread does, with its locks held. So the number goes over a wire, from
    # within the system's own handler, to a thread that only listens.
    wire, end = socket.socketpair()
    end.setblocking(False)

    def listen() -> None:
        while number := wire.recv(1)[0]:
            if number not in SIGNALS:
                continue
            halt.ask(number)
            with suppress(Exception):  # whatever becomes of the telling, a terminal that is gone: no reason to be deaf
                say(2 if halt.now.is_set() else 1)

    listener = threading.Thread(target=listen, name="signals", daemon=True)
    listener.start()
    wire_before = signal.set_wakeup_fd(end.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wire_before)
        end.send(b"\0")
        listener.join(1.0)
        if not listener.is_alive():
            wire.close()
            end.close()
