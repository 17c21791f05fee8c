"""The copyist of one run: a small process beside it that copies its record to MongoDB, so that other machines can read it.

`python -m bbctl.copyist` reads one JSON object on stdin (so that no password is in a command line): home, run, mongo. It only
reads the journal, so no run waits for it or fails with it; it outlives a bbctl that is killed, and so can tell that it was.
Once the run is over it copies what earlier runs could not, deletes what is too old or too much, and ends; where MongoDB
does not answer it gives up.
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    os.nice(10)  # before the imports, which cost more than all the rest: the run comes first

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bbctl.errors import BbctlError, StoreDown
from bbctl.run import journal
from bbctl.settings import Stores
from bbctl.stores import copies

LOOK = 0.5  # seconds between two looks at the journal
LONGEST = 20.0  # seconds between two attempts where MongoDB does not answer; at first LOOK
BEAT = 20.0  # seconds after which a run that goes on is told again
SETTLE = 0.5  # seconds for whoever carried the run out to write its last line of the audit
LATE = 5.0  # seconds after the run in which MongoDB may still answer
EARLIER = 200  # runs that are looked at for what was never copied


def follow(runs: copies.HostRuns, home: Path, run: str) -> bool:
    """Copy a run as it goes on, until its process lets it go. Whether its end was copied. Raises where it cannot be read."""
    folder = home / "runs" / run
    told: tuple[int, bool] | None = None
    told_at = 0.0
    over: float | None = None
    again, pause = 0.0, LOOK
    while True:
        events, held = journal.load(folder)
        if not held and over is None:
            over = time.monotonic()
            again, pause = 0.0, LOOK
            time.sleep(SETTLE)
            continue
        late = told != (len(events), held) or (held and time.monotonic() - told_at > BEAT)
        if late and time.monotonic() >= again:
            try:
                _keep(runs, home, folder, events, held=held)
                told, told_at, pause = (len(events), held), time.monotonic(), LOOK
            except StoreDown:
                again, pause = time.monotonic() + pause, min(2 * pause, LONGEST)
        done = told == (len(events), held)
        if over is not None and (done or time.monotonic() - over > LATE):
            return done
        time.sleep(LOOK)


def catch_up(runs: copies.HostRuns, home: Path, run: str) -> None:
    """Copy earlier runs of this inventory whose end MongoDB never heard of. Raises StoreDown."""
    inventory = journal.read(home / "runs" / run).inventory
    folders = sorted((home / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime)[-EARLIER:]
    for folder in folders:
        with suppress(OSError, BbctlError):
            if _marked(folder) != _size(folder):
                events, held = journal.load(folder)
                if not held and events[0].get("inventory") == inventory:
                    _keep(runs, home, folder, events, held=False)


def _keep(runs: copies.HostRuns, home: Path, folder: Path, events: list[journal.Event], *, held: bool) -> None:
    size = _size(folder)
    copies.keep(runs, journal.fold(events, held=held), home)
    if not held:
        (folder / "copied").write_text(str(size))


def _size(folder: Path) -> int:
    return (folder / "journal.jsonl").stat().st_size


def _marked(folder: Path) -> int | None:
    """How much of a run's journal was there when its end was copied."""
    with suppress(OSError, ValueError):
        return int((folder / "copied").read_text())
    return None


def main() -> int:
    said: dict[str, Any] = json.load(sys.stdin)
    home = Path(said["home"])
    os.umask(0o077)
    with suppress(OSError, BbctlError):  # a copy is nobody's duty: the journal is the truth
        url = copies.url_of(Stores(mongo=said["mongo"], redis=said["redis"]), home)
        if url is None:
            return 0
        with copies.opened(url) as runs:
            if follow(runs, home, said["run"]):
                catch_up(runs, home, said["run"])
                copies.prune(runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
