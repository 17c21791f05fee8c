"""The same works on Restate: one service whose steps are `run`s, served by `hypercorn bench.engine.peer_restate:app`.

A step is a durable `run` in the process of the handler: nothing is delivered between two. Its function is async, for a
plain one goes through a pool of threads; its serde is told, for otherwise the SDK reads the signature anew at each step.
"""

from __future__ import annotations

import os
import time

import restate  # type: ignore[import-not-found,unused-ignore]
from restate.serde import JsonSerde  # type: ignore[import-not-found,unused-ignore]

bench = restate.Service("bench")
ENDS = os.open(os.environ["BENCH_ENDS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
AS_JSON = restate.RunOptions(serde=JsonSerde())


async def step() -> None:
    return None


@bench.handler()  # type: ignore[untyped-decorator,unused-ignore]
async def chain(ctx: restate.Context, length: int) -> None:
    for _ in range(length):
        await ctx.run_typed("step", step, AS_JSON)
    os.write(ENDS, b".")


@bench.handler()  # type: ignore[untyped-decorator,unused-ignore]
async def fan(ctx: restate.Context, width: int) -> None:
    await restate.gather(*[ctx.run_typed("step", step, AS_JSON) for _ in range(width)])


async def write_stamp(sent: float) -> None:
    line = f"{time.monotonic() - sent}\n".encode()
    file = os.open(os.environ["BENCH_STAMPS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line)
    os.close(file)


@bench.handler()  # type: ignore[untyped-decorator,unused-ignore]
async def stamp(ctx: restate.Context, sent: float) -> None:
    await ctx.run_typed("stamp", write_stamp, AS_JSON, sent)


app = restate.app(services=[bench])
