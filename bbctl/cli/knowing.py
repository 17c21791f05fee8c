"""What is known of a run: here from its journal; of one made elsewhere, what MongoDB, if it answers, and its locks know."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bbctl.cli import copying
from bbctl.cli.front import Call
from bbctl.cli.running import next_for
from bbctl.errors import BbctlError, StoreDown, UsageError
from bbctl.model import RunRecord
from bbctl.run import elsewhere, journal
from bbctl.ssh.transport import Transport
from bbctl.stores import listening

if TYPE_CHECKING:
    from bbctl.run.elsewhere import Answers

T = TypeVar("T")

MOMENT = 1.0  # seconds in which a MongoDB must accept a connection: what is known here does not wait for it any longer


def record(call: Call, run: str) -> RunRecord:
    """The record of a run, by its id or the beginning of it. UsageError where nobody knows it."""
    try:
        return journal.read(journal.find(call.settings.home(), run))
    except UsageError as unknown:
        if unknown.code != "unknown-run":
            raise
        return _elsewhere(call, run, unknown)


def folder(call: Call, run: str) -> Path:
    """Where the journal of a run lies, to go on with it. UsageError names the machine of one that was made elsewhere."""
    try:
        return journal.find(call.settings.home(), run)
    except UsageError as unknown:
        if unknown.code != "unknown-run":
            raise
        found = _elsewhere(call, run, unknown)
        where = found.elsewhere.machine if found.elsewhere else "another machine"
        said = f"run {found.run} was made by {found.operator} on {where}: its journal is there"
        raise UsageError(said, code="run-elsewhere", next=next_for(found)) from None


def every(call: Call) -> tuple[list[RunRecord], str | None]:
    """All runs, newest first: those of this home, and those of others as MongoDB has them; and why none of these is known,
    where it does not answer."""
    mine = journal.every(call.settings.home())
    known = {run.run for run in mine}
    found, why = _copies(call, None)
    others = [run for run in found if run.run not in known]
    return sorted([*mine, *others], key=lambda r: (r.started, r.run), reverse=True), why


class Asked(threading.Thread):
    """The same, asked while something else is done."""

    def __init__(self, call: Call) -> None:
        super().__init__(daemon=True, name="runs")
        self._call = call
        self._found: list[RunRecord] = []
        self.start()

    def run(self) -> None:
        with suppress(BbctlError):  # whoever looks at hosts is told of these, not of journals
            self._found = every(self._call)[0]

    def __call__(self) -> list[RunRecord]:
        self.join()
        return self._found


def _elsewhere(call: Call, run: str, unknown: BbctlError) -> RunRecord:
    found, why = _copies(call, run)
    exact = [r for r in found if r.run == run] or found
    if len(exact) > 1:
        raise UsageError(f"{run} could be {', '.join(r.run for r in exact)}", next="bbctl runs list")
    copy = exact[0] if exact else None
    if copy is not None and copy.outcome != "running":
        return copy
    answers = _locks(call, copy, run)
    told = elsewhere.by_locks(run, answers) if copy is None else elsewhere.alive(copy, answers)
    if told is None:
        unknown.message += f", nor on any host; {why}" if why else ""
        raise unknown
    return told


def _locks(call: Call, copy: RunRecord | None, run: str) -> Answers:
    if not call.fleet.hosts:
        return {}
    hosts = tuple(row.host for row in copy.hosts) if copy is not None else ()
    with Transport(call.fleet) as transport:
        return elsewhere.ask(transport, call.fleet, copy.run if copy is not None else run, hosts)


def heads(call: Call) -> tuple[list[tuple[int, str]], str | None]:
    """Number and hash of lines of this home's audit, as MongoDB remembers them; and why none, where it does not answer."""
    home = call.settings.home()
    return _asked(call, [], lambda copies, url: copies.heads(url, home))


def _copies(call: Call, run: str | None) -> tuple[list[RunRecord], str | None]:
    """What MongoDB knows of the runs that begin so (None: of the last ones)."""
    return _asked(call, [], lambda copies, url: copies.newest(url) if run is None else copies.named(url, run))


def _asked(call: Call, nothing: T, ask: Callable[[Any, str], T]) -> tuple[T, str | None]:
    """MongoDB's answer where one is named, or the embedded one is up. Never raises: why it knows nothing is told."""
    home, stores = call.settings.home(), call.settings.stores()
    if not copying.to(stores, home):
        return nothing, None
    if stores.mongo is not None and (why := listening.nobody(stores.mongo, within=MOMENT)):
        return nothing, why
    from bbctl.stores import copies  # the driver's import, only where there may be somebody to ask

    try:
        url = copies.url_of(stores, home)
        return (ask(copies, url), None) if url is not None else (nothing, None)
    except StoreDown as error:
        return nothing, error.message
