"""Keeps what a worker holds while it works, from a thread of its own: a handler that takes long must not lose its claim."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from engine.errors import EngineError
from engine.runtime import Runtime

log = logging.getLogger("engine.leases")


class Leases:
    """Renews what is held, every third of a lease.

    A handler past its own `timeout` is taken for hung: it loses its claim, and another worker may run it. One that holds up
    this worker with it is told to `hung`, a lease later: what is wrong, in a line.
    """

    hung: Callable[[str], None] | None = None

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._held: dict[str, str] = {}
        self._until: float | None = None
        self._who = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._thread.start()

    def set(self, held: dict[str, str]) -> None:
        self._held = held

    def busy_until(self, at: float | None, who: str = "") -> None:
        """Until then (monotonic) the handler `who` may hold up this worker; None: none does."""
        self._who, self._until = who, at

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._rt.settings.lease / 3):
            held, until = self._held, self._until
            if until is not None and time.monotonic() > until + self._rt.settings.lease and self.hung is not None:
                self.hung(f"the handler {self._who} runs longer than its timeout")
            if held and (until is None or time.monotonic() < until):
                try:
                    self._rt.store.renew(held)
                except EngineError as error:
                    log.warning("leases not renewed: %s", error.message)
