"""The same works on Dramatiq, run as `dramatiq -p 2 -t 8`."""

from __future__ import annotations

import os
import time

import dramatiq  # type: ignore[import-not-found,unused-ignore]
import redis
from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found,unused-ignore]

_connection = redis.Redis.from_url(os.environ["BENCH_REDIS"])
dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS"]))


@dramatiq.actor
def chain(length: int) -> None:
    step.send(length)


@dramatiq.actor
def step(left: int) -> None:
    if left > 1:
        step.send(left - 1)
    else:
        _connection.incr("done")


@dramatiq.actor
def fan(width: int, name: str) -> None:
    for _ in range(width):
        part.send(width, name)


@dramatiq.actor
def part(width: int, name: str) -> None:
    if _connection.incr(f"fan:{name}") == width:
        join.send()


@dramatiq.actor
def join() -> None:
    _connection.incr("done")


@dramatiq.actor
def stamp(sent: float) -> None:
    _connection.rpush("stamps", time.monotonic() - sent)


if __name__ == "__main__":  # the submitting side: WORK COUNT SIZE
    import sys

    work, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for place in range(count):
        if work == "stamp":
            stamp.send(time.monotonic())
            time.sleep(0.01)
        elif work == "fan":
            fan.send(size, str(place))
        else:
            chain.send(size)
