"""Who may ask: the Client-Id and token of a request, and how often a client may come.

`compatible` asks for the token where the original Backbeat did (signals and decisions), `strict` on every route but
health and heartbeat. A refusal says nothing about why.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping

from engine import workflows
from engine.errors import NotFound
from engine.params import UUID
from engine.runtime import Runtime
from engine.trouble import TooOften, Unauthorized

TOKEN = re.compile(r"\s*token\s+(?:token\s*=\s*)?\"?([^\s\",]+)\"?\s*", re.IGNORECASE)


class Gate:
    def __init__(
        self, rt: Runtime, *, strict: bool, rate: float = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rt = rt
        self.strict = strict
        self.rate = Rate(rate, clock) if rate > 0 else None

    def admit(self, auth: str, headers: Mapping[bytes, str]) -> str:
        """The client's id, or "" on a route that is open. Unauthorized, TooOften, StoreDown."""
        if auth == "always" or (auth == "open" and not self.strict):
            return ""
        client = headers.get(b"client-id", "").lower()
        if not UUID.fullmatch(client):
            raise Unauthorized
        if self.strict or auth == "token":
            said = TOKEN.fullmatch(headers.get(b"authorization", ""))
            if said is None or not workflows.check_token(self.rt, client, said[1]):
                raise Unauthorized
        else:
            try:
                workflows.get_client(self.rt, client)
            except NotFound:
                raise Unauthorized from None
        if self.rate is not None:
            self.rate.take(client)
        return client


class Rate:
    """A bucket for each client: `rate` requests a second, twice that at once."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self.rate = rate
        self.clock = clock
        self.lock = threading.Lock()
        self.buckets: dict[str, tuple[float, float]] = {}  # client: tokens left, when that was

    def take(self, client: str) -> None:
        with self.lock:
            now = self.clock()
            left, then = self.buckets.get(client, (2 * self.rate, now))
            left = min(2 * self.rate, left + (now - then) * self.rate)
            if left < 1:
                raise TooOften((1 - left) / self.rate)
            self.buckets[client] = (left - 1, now)
