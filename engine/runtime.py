"""The bundle everything needs, and the only place where it is built."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.change import Change
from engine.client import Poster
from engine.events import Context
from engine.hints import Hints
from engine.ids import token
from engine.model import ClientRecord, Node
from engine.registry import DEFAULT, Registry
from engine.settings import Settings
from engine.store import Store
from engine.together import Together

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

    def __post_init__(self) -> None:
        self._reading = Together(self._read)
        self._writing = Together(self._write)

    def context(self) -> Context:
        return Context(self.store.now(), token(), random.random())

    def node(self, id: str) -> Node | None:
        """A node with its history. What many threads want at once is one trip."""
        return self._reading.ask(id)

    def commit(self, change: Change) -> bool:
        """Whether it won. What many threads commit at once is one command, with one flush of the journal."""
        return self._writing.ask(change)

    def _read(self, wanted: Sequence[str]) -> list[Node | None]:
        if len(wanted) == 1:
            return [self.store.node(wanted[0])]
        found = self.store.by_ids(wanted, history=True)
        return [found[id].copy() if id in found else None for id in wanted]

    def _write(self, changes: Sequence[Change]) -> list[bool]:
        """Of two changes of one node the second is not tried: it was made from what the first replaces."""
        firsts: dict[str, Change] = {}
        for change in changes:
            firsts.setdefault(change.id, change)
        lost = self.store.update(list(firsts.values()))
        return [firsts[change.id] is change and change.id not in lost for change in changes]

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
