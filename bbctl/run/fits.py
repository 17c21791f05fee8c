"""Do the patterns of a service fit its real logs? Counted for a rehearsal and for `doctor`; before a run only asked whether.

A wrong `stopped` turns a slow clean stop into a kill -9, a wrong `started` fails every restart.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping

from bbctl.look import Seen
from bbctl.model import Host, Service
from bbctl.remote import patterns
from bbctl.remote.sections import apart, together
from bbctl.remote.shell import script
from bbctl.run.playbook import Procedure
from bbctl.ssh.transport import Transport

QUICK = 3  # seconds that a run spends on one pattern: what is not known by then is no warning

Hits = Mapping[str, int | None]


def needed(procedure: Procedure) -> tuple[str, ...]:
    """The patterns that a procedure is judged by."""
    stops = ("stopped", "hang.after") if procedure.has("stop") else ()
    return (*stops, "started") if procedure.has("started") else stops


def count(transport: Transport, host: Host, service: Service, names: Iterable[str]) -> Hits:
    """How many lines of the last weeks fit each pattern (None: could not be counted), by its name in the inventory."""
    return _ask(transport, host, service, _wanted(service, names), seconds=patterns.SECONDS, first=False)


def met(transport: Transport, seen: Seen, names: Iterable[str]) -> Hits:
    """Whether any line fits (1 or 0), as far as that can be seen in a moment (else None). A host that never hung proves
    nothing about the pattern of a hang: it is not asked about."""
    wanted = _wanted(seen.service, [name for name in names if name != "hang.after"])
    rare = {
        n: text for n, text in wanted.items() if not any(re.search(text, x.text, re.IGNORECASE) for x in seen.lines)
    }
    found = _ask(transport, seen.host, seen.service, rare, seconds=QUICK, first=True)
    return {name: found[name] if name in rare else 1 for name in wanted}


def warning(service: Service, name: str) -> str:
    """What a pattern without a hit is going to do."""
    means = {
        "started": "a start will not be seen",
        "stopped": "a slow clean stop may be taken for a hang",
        "hang.after": "a hang will only be seen after stop_timeout",
    }
    return f"`{name}` {_wanted(service, [name])[name]!r} fits no line of its log in {patterns.DAYS} days: {means[name]}"


def _wanted(service: Service, names: Iterable[str]) -> dict[str, str]:
    named = {"started": service.started, "stopped": service.stopped, "hang.after": service.hang and service.hang.after}
    return {name: pattern for name in names if (pattern := named[name])} if service.log else {}


def _ask(
    transport: Transport, host: Host, service: Service, wanted: Mapping[str, str], *, seconds: int, first: bool
) -> Hits:
    if not wanted:
        return {}
    marker = secrets.token_hex(8)
    parts = patterns.count(service.log or "", wanted, run_as=service.run_as, seconds=seconds, first=first)
    text = script(together(parts, marker=marker))
    ran = transport.run(host, text, timeout=seconds * len(wanted) + 10.0, guard=True)
    said = apart(ran.stdout, marker=marker)
    return {name: patterns.understand(said.get(name, b"")) for name in wanted}
