"""What is wrong, with proof and the next command: one look at hosts (and at the rest of their pools), judged by the checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bbctl import capacity, checks
from bbctl.checks import CHECKS, Case, Pool, Trouble
from bbctl.look import Seen, look_closely
from bbctl.model import Facts, Fleet, Host, HostRecord, RunRecord
from bbctl.signatures import Signature, read_folder
from bbctl.ssh.transport import Transport


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """`seen`: the hosts that were asked about; `pools` by (vip, service). `seconds`: how long the look took."""

    site: str
    troubles: tuple[Trouble, ...]
    seen: tuple[Seen, ...]
    pools: Mapping[tuple[str, str], Pool]
    at: float
    seconds: float


def diagnose(
    transport: Transport,
    fleet: Fleet,
    hosts: Sequence[Host],
    *,
    signatures: Sequence[Signature],
    runs: Callable[[], Sequence[RunRecord]] = tuple,
    names: Sequence[str] = tuple(CHECKS),
    deadline: float | None = None,
) -> Diagnosis:
    """Look and judge. Changes nothing; what a host does wrong is a finding, never an error. `runs`: earlier ones, newest first.
    A host that has not answered after `deadline` seconds counts as not answering."""
    began, at = time.monotonic(), time.time()
    found = look_closely(transport, _with_pools(fleet, hosts), known=fleet.hosts, deadline=deadline)
    pools = checks.pools(found)
    asked = {h.name for h in hosts}
    mine = [s for s in found if s.host.name in asked]
    earlier = before(runs(), fleet.source, at)
    alike = _alike(found)
    troubles: list[Trouble] = []
    known: set[str] = set()
    for seen in mine:
        vip = seen.service.vip
        case = Case(
            seen=seen,
            signatures=signatures,
            pool=pools.get((vip.name, seen.service.name)) if vip else None,
            before=earlier.get(seen.host.name),
            alike=alike.get(seen.service.name, 0),
        )
        troubles += checks.judge(case, names, first=seen.host.name not in known)
        known.add(seen.host.name)
    return Diagnosis(
        site=fleet.site,
        troubles=tuple(checks.in_order(troubles)),
        seen=tuple(mine),
        pools={key: pool for key, pool in pools.items() if any(_in(s, key) for s in mine)},
        at=at,
        seconds=time.monotonic() - began,
    )


def known_signatures(playbooks: Path, shipped: Path) -> list[Signature]:
    """The site's own where it has any, else the shipped ones. Raises ConfigError."""
    own = playbooks / "signatures"
    return read_folder(own if own.is_dir() else shipped / "signatures")


def _with_pools(fleet: Fleet, hosts: Sequence[Host]) -> list[Host]:
    """The hosts, and whoever shares a VIP with them: whether a host is missed depends on the others."""
    vips = {(s.vip.name, s.name) for h in hosts for s in h.services if s.vip and s.vip.drain}
    others = [h for h in fleet.hosts.values() if any(s.vip and (s.vip.name, s.name) in vips for s in h.services)]
    return list({h.name: h for h in [*hosts, *others]}.values())


def _alike(found: Sequence[Seen]) -> dict[str, int]:
    """Services that fail their health check with one same answer wherever they run, and on how many hosts."""
    services: dict[str, list[Facts]] = {}
    for seen in found:
        services.setdefault(seen.service.name, []).append(seen.facts)
    return {name: len(facts) for name, facts in services.items() if capacity.shared_cause(facts)}


def _in(seen: Seen, key: tuple[str, str]) -> bool:
    return seen.service.vip is not None and (seen.service.vip.name, seen.service.name) == key


def before(runs: Sequence[RunRecord], inventory: Path | None, now: float) -> dict[str, str]:
    """The last run that touched each host within a day, in words. A lab's hosts may bear the names of real ones; another
    machine may keep the same inventory elsewhere."""
    words: dict[str, str] = {}
    for run in runs:
        if now - run.started > 86400:
            break
        if run.elsewhere is None and run.inventory is not None and run.inventory != str(inventory):
            continue
        for row in run.hosts:
            if row.outcome != "untouched":
                words.setdefault(row.host, _run_words(run, row))
    return words


def _run_words(run: RunRecord, row: HostRecord) -> str:
    at = time.strftime("%H:%M", time.gmtime(run.started))
    last = row.step or (row.failure.step if row.outcome == "failed" and row.failure else None)
    return f"{at} UTC {run.operator} {run.kind} ({run.run}, {row.outcome}{f' at {last}' if last else ''})"
