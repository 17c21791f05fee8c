"""The same works on RQ: each job enqueues the next, as its users do."""

from __future__ import annotations

import os
import time
from typing import Any

import redis
from rq import Queue

_connection = redis.Redis.from_url(os.environ["BENCH_REDIS"])
_queue = Queue("bench", connection=_connection)


def enqueue(function: Any, *args: Any) -> None:
    _queue.enqueue(function, *args, result_ttl=0)


def chain(length: int) -> None:
    enqueue(step, length)


def step(left: int) -> None:
    if left > 1:
        enqueue(step, left - 1)
    else:
        _connection.incr("done")


def fan(width: int, name: str) -> None:
    for _ in range(width):
        enqueue(part, width, name)


def part(width: int, name: str) -> None:
    if _connection.incr(f"fan:{name}") == width:
        enqueue(join)


def join() -> None:
    _connection.incr("done")


def stamp(sent: float) -> None:
    _connection.rpush("stamps", time.monotonic() - sent)
