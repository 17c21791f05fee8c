"""Is this machine ready, and is the inventory true? Asked of the real hosts and stores on a quiet day; nothing is changed.

Every finding is a `Checked` with one of three words: `ok`, `warning` (works, but know this) and `wrong` (will fail at night).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bbctl.model import Fleet, Host, Ran, Service
from bbctl.ranges import fold
from bbctl.remote import patterns
from bbctl.run import preflight
from bbctl.run.plan import Job
from bbctl.run.playbook import Procedure
from bbctl.settings import Stores
from bbctl.ssh.fanout import fanout
from bbctl.ssh.transport import Transport
from bbctl.stores import look as storelook

State = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """`check` names what was looked at, `detail` what was found, `next` the command to type where it is not ok."""

    check: str
    state: State
    detail: str
    next: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """A service on a host, what preflight found for it, and how often each pattern fits its logs (None: not counted)."""

    host: Host
    service: Service
    broken: str | None
    remarks: tuple[str, ...]
    clock: float
    hits: Mapping[str, int | None]


def examine(
    fleet: Fleet, hosts: Sequence[Host], *, restart: Procedure, stores: Stores, transport: Transport
) -> list[Checked]:
    """Everything, in the order of the path: login, permissions, patterns, clocks, stores. Never raises for what it finds."""
    logins = fanout(hosts, transport.ping)
    inside = [h for h in hosts if logins[h.name].ok]
    pairs = [p for some in fanout(inside, lambda h: _pairs(h, fleet, restart, transport)).values() for p in some]
    return [*_ssh(hosts, logins), *_paths(pairs), *_patterns(pairs), *_clocks(pairs), *_stores(stores)]


def _pairs(host: Host, fleet: Fleet, restart: Procedure, transport: Transport) -> list[_Pair]:
    found = []
    for service in host.services:
        job = Job(kind="restart", procedure=restart, service=service.name)
        seen = preflight.check(transport, host, service, job, known=fleet.hosts, count=True)
        found.append(
            _Pair(
                host=host,
                service=service,
                broken="; ".join(why for why in (seen.broken, seen.barred) if why) or None,
                remarks=seen.remarks,
                clock=seen.seen.facts.clock_offset,
                hits=seen.hits,
            )
        )
    return found


def _ssh(hosts: Sequence[Host], logins: Mapping[str, Ran]) -> list[Checked]:
    found = []
    good = [h for h in hosts if logins[h.name].ok]
    if good:
        users = ", ".join(sorted({h.ssh.user for h in good}))
        found.append(Checked(check="ssh", state="ok", detail=f"{len(good)} of {len(hosts)} hosts as {users}"))
    for host in hosts:
        ran = logins[host.name]
        if not ran.ok:
            way = (ran.next if ran.status == "host-key" else None) or f"bbctl ping {host.name}"
            found.append(
                Checked(check="ssh", state="wrong", detail=f"{host.name}: {ran.status}: {ran.error}", next=way)
            )
    return found


def _paths(pairs: Sequence[_Pair]) -> list[Checked]:
    good = [p for p in pairs if p.broken is None]
    found = []
    if good:
        what = "lock, commands, disks, sudo, VIP, process"
        found.append(Checked(check="paths", state="ok", detail=f"{what}: as the inventory says, on {_names(good)}"))
    for pair in pairs:
        where = f"{pair.host.name} {pair.service.name}"
        if pair.broken is not None:
            way = f"bbctl restart {pair.host.name} --service {pair.service.name} --rehearse"
            found.append(Checked(check="paths", state="wrong", detail=f"{where}: {pair.broken}", next=way))
        found += [Checked(check="paths", state="warning", detail=f"{where}: {remark}") for remark in pair.remarks]
    return found


def _patterns(pairs: Sequence[_Pair]) -> list[Checked]:
    """Over all hosts of a service: one host that never hung proves nothing about the pattern of a hang."""
    found = []
    for name in dict.fromkeys(p.service.name for p in pairs if p.hits):
        mine = [p for p in pairs if p.service.name == name]
        for pattern in dict.fromkeys(key for p in mine for key in p.hits):
            counts = [p.hits[pattern] for p in mine if pattern in p.hits]
            known = [c for c in counts if c is not None]
            text = f"{name} {pattern}: {sum(known)} hits in {patterns.DAYS} days"
            state: State = "ok" if sum(known) else "wrong" if pattern == "started" else "warning"
            if not known:
                state, text = "warning", f"{name} {pattern}: the logs could not be searched"
            more = "" if state == "ok" else "; is the pattern right? A wrong one is found out at the next restart"
            way = None if state == "ok" else f"bbctl logs {mine[0].host.name} --service {name} -n 500"
            found.append(Checked(check="patterns", state=state, detail=text + more, next=way))
    return found


def _clocks(pairs: Sequence[_Pair]) -> list[Checked]:
    off = {p.host.name: p.clock for p in pairs if abs(p.clock) > 2.0}
    if not pairs:
        return []
    if not off:
        return [Checked(check="clock", state="ok", detail="every clock within 2 s of this one")]
    return [
        Checked(check="clock", state="warning", detail=f"{name} is {by:+.0f} s from here: its log times are its own")
        for name, by in off.items()
    ]


def _stores(stores: Stores) -> list[Checked]:
    if not stores.named:
        return [Checked(check="stores", state="ok", detail="none is named: workflow commands use the embedded ones")]
    found = []
    for store in storelook.named(stores):
        bad = store.state not in ("ok", "none")
        state: State = "ok" if not bad else "wrong" if store.state in ("down", "unusable") else "warning"
        way = "bbctl stores status" if bad else None
        found.append(
            Checked(
                check=store.name,
                state=state,
                detail=f"{store.state}: {store.error}" if store.error else store.state,
                next=way,
            )
        )
        policy = store.facts.get("policy", "noeviction")
        if policy != "noeviction":
            text = f"maxmemory-policy {policy} may drop jobs; harmless here, delays only"
            found.append(Checked(check=store.name, state="warning", detail=text))
    return found


def _names(pairs: Sequence[_Pair]) -> str:
    return fold(sorted({p.host.name for p in pairs}))
