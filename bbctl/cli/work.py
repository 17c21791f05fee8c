"""`bbctl work`: workers, until a signal ends them."""

from __future__ import annotations

import os
import signal
from importlib.metadata import version
from typing import Annotated

import typer

from bbctl.cli.engine import engine_settings, runtime, say_troubles, translated
from bbctl.cli.front import Call
from engine.loading import tried
from engine.supervisor import Supervisor

ENDS = {signal.SIGTERM: 0, signal.SIGINT: 130, signal.SIGHUP: 129}


def work(
    ctx: typer.Context,
    processes: Annotated[int, typer.Option(metavar="N", min=1, max=256, help="Worker processes.")] = 2,
    imports: Annotated[
        list[str] | None, typer.Option("--import", metavar="MODULE", help="Load Python handlers; may be repeated.")
    ] = None,
) -> int:
    """Workers: they deliver to clients, run Python handlers, timers, retries, the healer and the periodic jobs. Any number
    may run, on any number of hosts. SIGTERM: what is under way may end (10 s), the rest is left to others.

    \b
    Examples:
      bbctl work
      bbctl work --processes 4
      bbctl work --import invoicing.activities
    """
    call: Call = ctx.obj
    if imports:
        with translated():
            tried(imports)
    with runtime(call) as rt:
        rt.store.open()  # what is wrong with the stores is said here, once, not by each worker
        say_troubles(call, rt, "workers wait until it is mended: bbctl stores status")
    supervisor = Supervisor(
        engine_settings(call), processes=processes, modules=imports or [], version=version("bbctl"), say=call.say
    )
    if call.output in ("json", "yaml"):
        call.show({"pid": os.getpid(), "processes": processes}, lambda: None)
    call.say(f"{processes} workers; Ctrl-C or SIGTERM ends them")
    ended = supervisor.run()
    return ENDS.get(signal.Signals(ended), 0) if ended else 0
