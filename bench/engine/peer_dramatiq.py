"""The same works on Dramatiq, run as `dramatiq -p 2 -t 8`."""

from __future__ import annotations

import os
import time

import dramatiq  # type: ignore[import-not-found,unused-ignore]
import redis
from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found,unused-ignore]
from dramatiq.middleware import GroupCallbacks  # type: ignore[import-not-found,unused-ignore]
from dramatiq.rate_limits.backends import RedisBackend  # type: ignore[import-not-found,unused-ignore]

_connection = redis.Redis.from_url(os.environ["BENCH_REDIS"])
dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS"]))
dramatiq.get_broker().add_middleware(GroupCallbacks(RedisBackend(url=os.environ["BENCH_REDIS"])))


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
def fan(width: int) -> None:
    parts = dramatiq.group(part.message() for _ in range(width))
    parts.add_completion_callback(join.message())
    parts.run()


@dramatiq.actor
def part() -> None:
    return None


@dramatiq.actor
def counted_fan(width: int, name: str) -> None:
    for _ in range(width):
        counted_part.send(width, name)


@dramatiq.actor
def counted_part(width: int, name: str) -> None:
    if _connection.incr(f"fan:{name}") == width:
        join.send()


@dramatiq.actor
def join() -> None:
    _connection.incr("done")


@dramatiq.actor
def stamp(sent: float) -> None:
    _connection.rpush("stamps", time.monotonic() - sent)


def submit(work: str, count: int, size: int) -> None:
    for place in range(count):
        if work == "stamp":
            stamp.send(time.monotonic())
            time.sleep(0.01)
        elif work == "fan":
            fan.send(size)
        elif work == "counted_fan":
            counted_fan.send(size, str(place))
        else:
            chain.send(size)


if __name__ == "__main__":  # the submitting side: lines of WORK COUNT SIZE, each answered when all is sent
    import sys

    for line in sys.stdin:
        work, count, size = line.split()
        submit(work, int(count), int(size))
        print("sent", flush=True)
