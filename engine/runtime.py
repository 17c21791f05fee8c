"""The bundle everything needs, and the only place where it is built."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from engine.client import Poster
from engine.events import Context
from engine.hints import Hints
from engine.ids import token
from engine.model import ClientRecord
from engine.registry import DEFAULT, Registry
from engine.settings import Settings
from engine.store import Store

REMEMBERED = 1.0
"""Seconds a client's record is believed."""


@dataclass
class Runtime:
    """Safe for threads. Make it in the process that uses it, after any fork."""

    settings: Settings
    store: Store
    hints: Hints
    poster: Poster
    handlers: Registry
    _clients: dict[str, tuple[float, ClientRecord | None]] = field(default_factory=dict)

    def context(self) -> Context:
        return Context(self.store.now(), token(), random.random())

    def client(self, id: str) -> ClientRecord | None:
        """A client's record, at most a second old."""
        at = time.monotonic()
        known = self._clients.get(id)
        if known is None or at - known[0] > REMEMBERED:
            known = (at, next(iter(self.store.clients({"_id": id})), None))
            self._clients[id] = known
        return known[1]

    def post_timeout(self, client: ClientRecord | None) -> float:
        """Our deadline for one post to it, seconds."""
        own = client.timeout if client is not None else None
        return own or self.settings.post_timeout

    def forget_client(self, id: str) -> None:
        self._clients.pop(id, None)

    def close(self) -> None:
        self.poster.close()
        self.hints.close()
        self.store.close()


def open_runtime(settings: Settings, *, handlers: Registry | None = None) -> Runtime:
    """Connects to nothing yet: the first call does. `handlers`: the Python handlers, those of engine.handlers if None."""
    return Runtime(
        settings=settings,
        store=Store(settings),
        hints=Hints(settings.redis_url, prefix=settings.prefix, timeout=settings.hint_timeout),
        poster=Poster(connect_timeout=settings.connect_timeout, max_answer=settings.max_answer),
        handlers=DEFAULT if handlers is None else handlers,
    )
