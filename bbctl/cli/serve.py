"""`bbctl serve`: the HTTP API of the engine, until a signal ends it."""

from __future__ import annotations

import os
import re
import signal
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Annotated

import typer

from bbctl.cli.engine import runtime, say_troubles
from bbctl.cli.front import Call
from bbctl.errors import UsageError
from engine import api

SIZE = re.compile(r"([1-9]\d{0,11})(?:([KMG])B?)?", re.IGNORECASE)
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
LARGEST = 15 << 20  # a document of the store holds 16 MB
WITHOUT_MONGO = "requests are answered 503 until it is mended: bbctl stores status"
ENDS = {signal.SIGTERM: 0, signal.SIGINT: 130, signal.SIGHUP: 129}


def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0 takes a free one.")] = 8080,
    heartbeat: Annotated[
        Path | None, typer.Option(metavar="FILE", help="/heartbeat.txt answers 200 only while FILE is there.")
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(metavar="compatible|strict", help="Token on signals and decisions, or on every route."),
    ] = None,
    max_body: Annotated[str, typer.Option(metavar="SIZE", help="A larger body is refused (413).")] = "1M",
    rate: Annotated[
        float, typer.Option(metavar="N", min=0, help="Requests a second for each client; 0: no limit.")
    ] = 0,
    threads: Annotated[int, typer.Option(metavar="N", min=1, max=512, help="Requests worked on at once.")] = 32,
) -> int:
    """The HTTP API, as clients of Backbeat know it. SIGTERM: requests under way are answered, then it ends with 0.

    \b
    Examples:
      bbctl serve
      bbctl serve --host 0.0.0.0 --port 80 --auth strict --heartbeat public/heartbeat.txt
      bbctl serve --port 0 -o json
    """
    call: Call = ctx.obj
    strict = call.settings.auth(host=host, flag=auth) == "strict"
    serving = api.Serving(
        strict=strict,
        heartbeat=heartbeat.absolute() if heartbeat else None,
        max_body=_size(max_body),
        rate=rate,
        threads=threads,
        version=version("bbctl"),
    )
    try:
        listener = api.listen(host, port)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot listen on {host} port {port}: {why}", next="bbctl serve --port 0") from None
    with listener, runtime(call, lasting=True) as rt:
        where = _url(listener.getsockname())
        said = {"url": where, "pid": os.getpid(), "auth": "strict" if strict else "compatible"}

        def ready() -> None:
            if call.output in ("json", "yaml"):
                call.show(said, lambda: None)
            call.say(f"serving {where} ({said['auth']}); Ctrl-C or SIGTERM ends it")
            Thread(target=say_troubles, args=(call, rt, WITHOUT_MONGO), daemon=True).start()

        ended = api.serve(rt, serving, listener=listener, ready=ready)
    return ENDS.get(signal.Signals(ended), 0) if ended else 0


def _size(text: str) -> int:
    found = SIZE.fullmatch(text.strip())
    size = int(found[1]) * UNITS[(found[2] or "").upper()] if found else 0
    if not 1 <= size <= LARGEST:
        raise UsageError(f"--max-body {text}: expected a size such as 500K or 1M, at most {LARGEST >> 20}M")
    return size


def _url(address: tuple[str, int]) -> str:
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
