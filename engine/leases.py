"""Keeps what a worker holds while it works, from a thread of its own: a handler that takes long must not lose its claim."""

from __future__ import annotations

import logging
import threading
import time

from engine.errors import EngineError
from engine.runtime import Runtime

log = logging.getLogger("engine.leases")


class Leases:
    """Renews what is held, every third of a lease.

    A handler past its own `timeout` is taken for hung: it loses its claim, and another worker may run it.
    """

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._held: dict[str, str] = {}
        self._until: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._thread.start()

    def set(self, held: dict[str, str]) -> None:
        self._held = held

    def busy_until(self, at: float | None) -> None:
        self._until = at

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._rt.settings.lease / 3):
            held, until = self._held, self._until
            if held and (until is None or time.monotonic() < until):
                try:
                    self._rt.store.renew(held)
                except EngineError as error:
                    log.warning("leases not renewed: %s", error.message)
