"""What the engine can be told: one frozen record. It reads nothing; the doors fill it from flags, environment and files."""

from __future__ import annotations

from dataclasses import dataclass


def place(url: str) -> str:
    """The servers in a store's URL, without user, password and options; the same for every kind of store."""
    head, _, options = url.partition("://")[2].partition("?")
    if "@" in options:  # a bare ? in the password, or an @ in an option: who could tell
        return "?"
    hosts = head.rpartition("@")[2]
    return hosts if hosts.startswith("/") else hosts.partition("/")[0]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Durations are seconds. `redis_url` None works without hints: the clock alone finds what is due."""

    mongo_url: str
    redis_url: str | None = None
    database: str | None = None
    """None: the database in the URL's path, else `backbeat`."""
    prefix: str = "bbctl"
    """Begins every key we write in Redis."""

    lease: float = 10.0
    """How long a claim holds without renewal; renewed at a third of it."""
    period: float = 1.0
    """How often every worker looks for what is due, give or take 20 %."""
    store_timeout: float = 5.0
    """Deadline of one call to the database."""
    hint_timeout: float = 0.25
    post_timeout: float = 30.0
    """Our deadline for one POST to a client that names none of its own."""
    connect_timeout: float = 3.0
    max_answer: int = 1 << 20
    """Bytes of a client's answer that are read."""
    post_threads: int = 32
    """POSTs and slow handlers under way at once, per worker process."""

    pop: int = 16
    """Hints taken at once where few wait: with more one worker would take them all."""
    hold: int = 64
    """Nodes a worker process holds at once."""
    slice: float = 0.020
    """Seconds of handlers in one round, before it is committed."""
    slow: float = 0.050
    """A handler that takes longer of late runs in the pool, so that it holds up nobody."""
    grace: float = 10.0
    """How long a leaving worker waits for what is under way."""
    sweep_period: float = 60.0
