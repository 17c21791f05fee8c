"""Hints in Redis: ids of nodes that are due, so that a worker need not wait for its next look.

Losing, repeating or forging one changes nothing. Nothing here raises or waits: with Redis gone a breaker opens for a
second at a time, and the workers' own clock finds what is due.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from engine.errors import BadRequest
from engine.failpoint import failpoint
from engine.settings import place

BREAKER = 1.0
T = TypeVar("T")


def connect(url: str, timeout: float) -> redis.Redis:
    """A connection that gives up at once: redis-py's own retries would cost a second a call with Redis dead."""
    try:
        return redis.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            client_name="bbctl",
        )
    except ValueError as error:
        raise BadRequest("redis_url", f"the Redis URL is not valid: {error}") from None


class Hints:
    """Safe for threads. `ok` tells whether Redis answered the last time."""

    def __init__(self, url: str | None, *, prefix: str, timeout: float) -> None:
        self.key = f"{prefix}:hints"
        self._timeout = timeout
        self._redis = connect(url, timeout) if url else None
        self._waiting: redis.Redis | None = None
        self._url = url
        self._open_until = 0.0
        self.ok = url is not None
        self._why = ""

    def push(self, ids: Iterable[str]) -> None:
        wanted = list(dict.fromkeys(ids))
        if wanted:
            failpoint("hint.before")
            self._try(lambda client: client.rpush(self.key, *wanted), None)
            failpoint("hint.after")

    def pop(self, few: int, most: int) -> list[str]:
        """`few`, or a quarter of what waits where that is more; never above `most`, nor above half of what waits.

        With large pieces at the end one worker would still have much when all others have none; with small ones each
        round does less, and costs the database as much.
        """
        waiting = self.depth()
        if not waiting:
            return []
        count = min(most, max(few, waiting // 4), (waiting + 1) // 2)
        return _words(self._try(lambda client: client.lpop(self.key, count), None))

    def wait(self, seconds: float) -> list[str]:
        """Blocks until a hint is there, and takes that one; [] after `seconds`.

        With Redis gone it sleeps for as long, at most a breaker's time.
        """
        if self._url is None or time.monotonic() < self._open_until:
            time.sleep(min(seconds, BREAKER))
            return []
        if self._waiting is None:
            self._waiting = connect(self._url, self._timeout + seconds + 1.0)
        waiting = self._waiting
        got = self._try(lambda _: waiting.blpop([self.key], timeout=max(seconds, 0.01)), None)
        return _words([got[1]]) if got else []

    def sentinel(self) -> bool | None:
        """Is the key that we once left still there? It is left anew if not. None if Redis does not answer."""
        left = self._try(lambda client: [client.set(f"{self.key}:sentinel", 1, nx=True)], None)
        return None if left is None else not left[0]

    def depth(self) -> int:
        found: Any = self._try(lambda client: client.llen(self.key), 0)
        return int(found)

    def ping(self) -> bool:
        return bool(self._try(lambda client: client.ping(), False, force=True))

    def trouble(self) -> str | None:
        """None where Redis answers or none is used; else which one does not and why, in one line without a secret."""
        if self._url is None or self.ping():
            return None
        return f"Redis {place(self._url)}: {self._why}"

    def _try(self, ask: Callable[[redis.Redis], T], otherwise: T, *, force: bool = False) -> T:
        if self._redis is None or (not force and time.monotonic() < self._open_until):
            return otherwise
        try:
            answer = ask(self._redis)
        except (redis.RedisError, OSError) as error:
            self._open_until = time.monotonic() + BREAKER
            self.ok = False
            self._why = _cause(error)
            return otherwise
        self.ok = True
        return answer

    def close(self) -> None:
        for client in (self._redis, self._waiting):
            if client is not None:
                client.close()


def _cause(error: Exception) -> str:
    if isinstance(error, redis.AuthenticationError):
        return "it refuses our credentials"
    return (str(error).splitlines() or [type(error).__name__])[0][:300].removesuffix(".")


def _words(found: Any) -> list[str]:
    if not found:
        return []
    return [item.decode("ascii", "replace") if isinstance(item, bytes) else str(item) for item in found]
