"""What a command says while it waits: a person at a terminal is told for what, a script is not."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bbctl.render import screen

if TYPE_CHECKING:
    from bbctl.cli.front import Call

SILENT = 2.0  # seconds that a wait needs no words
LOOK = 0.2
ERASE = "\r\x1b[K"


@contextmanager
def while_electing(call: Call, election: Callable[[], str | None], limit: float) -> Iterator[None]:
    """Within, a wait for a primary that takes longer than SILENT is one line on a terminal's stderr, gone when it is over.

    `election`: the replica set whose primary is waited for at this moment, if any; `limit`: seconds that it may take.
    """
    if call.output in ("json", "yaml") or not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(election, limit, over), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(election: Callable[[], str | None], limit: float, over: threading.Event) -> None:
    since: float | None = None
    shown = False
    while not over.wait(LOOK):
        name = election()
        since = None if name is None else since or time.monotonic()
        if since is None and shown:
            screen.err(ERASE, end="")
        elif since is not None and not shown and time.monotonic() - since > SILENT:
            line = f"no primary in {screen.safe(str(name))}: waiting for an election, at most {limit:.0f} s"
            screen.err(line, end="")
            shown = True
        shown = shown and since is not None
    if shown:
        screen.err(ERASE, end="")
