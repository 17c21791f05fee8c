"""The checks: what can be wrong with a host or the engine, and how one look at it is judged. Pure; the table comes first.

One word, one thing: a check's name is its finding's id, its entry in the runbook and its key in a page. `state` comes from
thresholds, the severity (the runbook's legend, 1 to 5) from what it costs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bbctl import signatures
from bbctl.durations import format_duration
from bbctl.look import Seen
from bbctl.model import Finding, Host, Service
from bbctl.redact import mask
from bbctl.remote import lease
from bbctl.remote.logs import Line
from bbctl.signatures import Hit, Signature

State = Literal["ok", "warning", "critical", "unknown"]
Judge = Callable[["Case"], Iterator["Trouble"]]

FULL, NEARLY = 0.95, 0.90  # share of a file system in use
LEAST = 50 << 20  # bytes free below which a file system that is mostly in use counts as full
SKEW, FAR = 2.0, 30.0  # seconds that a host's clock may be off


@dataclass(frozen=True, kw_only=True)
class Trouble:
    state: State
    finding: Finding


@dataclass(frozen=True, kw_only=True)
class Case:
    """One service of one host, all that is known of it. `pool`: who of its VIP is in service, and the minimum; `alike`: on so
    many hosts, and on no less than all, its health fails with one same answer (0: not so)."""

    seen: Seen
    signatures: Sequence[Signature] = ()
    pool: Pool | None = None
    before: str | None = None  # the last run on this host, in words
    alike: int = 0

    @property
    def host(self) -> Host:
        return self.seen.host


@dataclass(frozen=True, kw_only=True)
class Pool:
    vip: str
    serving: int
    members: int
    least: int

    def __str__(self) -> str:
        return f"{self.serving} of {self.members} in service, minimum {self.least}"


@dataclass(frozen=True, kw_only=True)
class Check:
    """`judge` None: the engine is asked, not a host."""

    severity: int
    about: str
    runbook: str
    judge: Judge | None = None
    scope: Literal["host", "service", "engine"] = "service"


# -- what can be wrong -----------------------------------------------------------------------------------------


def _host_down(case: Case) -> Iterator[Trouble]:
    f = case.seen.facts
    if f.status == "ok":
        return
    next = (f.next if f.status == "host-key" else None) or f"bbctl ping {case.host.short}"
    title = {
        "host-key": "its host key was refused", "timeout": "it does not answer", "failed": "it could not be looked at",
    }.get(f.status, "it cannot be logged in to")  # fmt: skip
    state: State = "critical"
    if case.seen.late:
        state, title = "unknown", "it was not looked at to the end"
    yield _trouble(state, "host-down", case, title, since=None, said={"login": f"{f.status}: {f.error}"}, next=next)


def _process_missing(case: Case) -> Iterator[Trouble]:
    f, service = case.seen.facts, case.seen.service
    restart = f"bbctl restart {case.host.short}"
    if f.status == "ok" and f.process == "stopped":
        last = next((x for x in reversed(case.seen.lines) if x.dated), None)
        said = {"process": "none matches", "log": f'last word "{last.text.strip()[:160]}"' if last else "says nothing"}
        yield _trouble(
            "critical",
            "process-missing",
            case,
            f"{service.name} is down",
            since=last.latest if last and _says_stop(service, last.text) else None,
            said=said,
            next=restart,
        )
    elif f.status == "ok" and f.error and service.process is not None and f.process == "unknown":
        title = (
            f"{service.name} cannot be told from other processes"
            if f.ambiguous
            else f"{service.name} cannot be looked for"
        )
        named = {str(p.pid): f"{p.user} · up {p.age:.0f}s · {mask(p.command)[:120]}" for p in f.candidates}
        said = {"process": f.error if not named else f.ambiguous or "", **named}
        yield _trouble(
            "unknown", "process-missing", case, title, since=None, said=said, next=f"bbctl status {case.host.short}"
        )


def _says_stop(service: Service, line: str) -> bool:
    """Whether a log's last line dates the end: after a crash it may be hours old."""
    patterns = (service.stopped, service.hang.after if service.hang else None)
    return any(p is not None and re.search(p, line, re.IGNORECASE) for p in patterns)


def _hung_stop(case: Case) -> Iterator[Trouble]:
    f = case.seen.facts
    if f.process != "hung" or f.proc is None:
        return
    said = {
        "log": f'last word "{(f.hung_line or "").strip()[-160:]}"',
        "process": f"{f.proc.pid} {f.proc.user} · up {format_duration(f.proc.age)} · health {f.health}",
    }
    title = f"{case.seen.service.name} hangs while stopping"
    yield _trouble(
        "critical", "hung-stop", case, title, since=f.hung_since, said=said, next=f"bbctl restart {case.host.short}"
    )


def _health_failing(case: Case) -> Iterator[Trouble]:
    f = case.seen.facts
    if f.status == "ok" and f.process in ("running", "unknown") and f.health == "failing" and not f.error:
        said, next = {"health": case.seen.health_detail[:200]}, f"bbctl logs {case.host.short}"
        if case.alike:
            said["cause"] = f"shared: all {case.alike} hosts answer so, a restart heals nothing"
            next = "bbctl stores status"
        if f.proc is not None:
            said["process"] = f"{f.proc.pid} {f.proc.user} · up {format_duration(f.proc.age)}"
        title = f"{case.seen.service.name} runs and is not healthy"
        yield _trouble("critical", "health-failing", case, title, since=None, said=said, next=next)


def _drained(case: Case) -> Iterator[Trouble]:
    f, held = case.seen.facts, case.seen.facts.lease
    if f.status != "ok" or f.vip in ("in", "none"):
        return
    undrain = f"bbctl undrain {case.host.short}"
    if f.vip == "unknown":
        words = {"vip": f.vip_error or "no answer"}
        title, status = "its place in the VIP is unknown", f"bbctl status {case.host.short}"
        yield _trouble("unknown", "drained", case, title, since=None, said=words, next=status)
        return
    state: State = "warning"
    title, said = "it is out of the VIP", dict[str, str]()
    if held is not None:
        title += ", and its lease is over" if held.over else ", on purpose"
        said["lease"] = lease.words(held)
        if held.until is not None and not held.over:
            state = "ok"  # out on purpose, by somebody, for a while that is not over: no reason to wake anybody
    if f.lock is not None and f.lock.left > 0:
        said["lock"] = f'{f.lock.holder} ({f.lock.run}, at "{f.lock.step}", seen {f.lock.age:.0f} s ago)'
        undrain = f"bbctl runs show {f.lock.run}"
    elif f.process != "running" or f.health == "failing":
        undrain = f"bbctl restart {case.host.short}"
    yield _trouble(
        state,
        "drained",
        case,
        title,
        since=None if held is None else held.until if held.over else held.since,
        said=said or {"vip": "out"},
        next=undrain,
    )


def _signatures(check: str) -> Judge:
    def judge(case: Case) -> Iterator[Trouble]:
        f = case.seen.facts
        rules = [s for s in case.signatures if s.check == check]
        for hit in signatures.find(rules, own_lines(case.seen), case.seen.machine.now if case.seen.machine else 0.0):
            if hit.signature.name == "hornetq-hang" and (f.process == "hung" or f.process == "stopped"):
                continue  # the process itself says it better
            yield _hit(case, hit)

    return judge


def _hit(case: Case, hit: Hit) -> Trouble:
    rule = hit.signature
    said = {"log": hit.last.text.strip()[:200], "seen": f"{hit.count} times" if hit.count > 1 else "once"}
    if rule.about:
        said["known"] = rule.about
    next = (rule.next or "bbctl logs {host}").replace("{host}", case.host.short)
    found = _trouble(
        "critical" if rule.severity <= 3 else "warning",
        rule.check,
        case,
        rule.title,
        since=hit.first.latest,
        said=said,
        next=next,
    )
    return Trouble(state=found.state, finding=_with_severity(found.finding, rule.severity))


def _disk_full(case: Case) -> Iterator[Trouble]:
    box = case.seen.machine
    disks = {d.mount: d for d in box.disks.values()} if box else {}
    for mount, disk in disks.items():
        small = disk.free < LEAST and disk.used > 0.8
        if disk.used >= NEARLY or small or disk.inodes == 0:
            state: State = "critical" if disk.used >= FULL or small or disk.inodes == 0 else "warning"
            said = {"disk": f"{mount} {disk.used:.0%} used, {disk.free >> 20} MB free"}
            paths = [p for p, d in (box.disks if box else {}).items() if d.mount == mount]
            said["holds"] = ", ".join(sorted(set(paths)))
            title = f"{mount} is {'full' if state == 'critical' else 'nearly full'}"
            yield _trouble(
                state, "disk-full", case, title, since=None, said=said, next=f"bbctl exec {case.host.short} -- df -h"
            )


def _clock_skew(case: Case) -> Iterator[Trouble]:
    off = case.seen.facts.clock_offset
    if case.seen.facts.status == "ok" and abs(off) > SKEW:
        state: State = "critical" if abs(off) > FAR else "warning"
        title = f"its clock is {abs(off):.1f} s {'ahead' if off > 0 else 'behind'}"
        said = {"clock": f"{off:+.1f} s against this machine"}
        yield _trouble(
            state, "clock-skew", case, title, since=None, said=said, next=f"bbctl exec {case.host.short} -- date -u"
        )


CHECKS: dict[str, Check] = {
    "host-down": Check(
        severity=3, about="can the host be logged in to", runbook="host_down", judge=_host_down, scope="host"
    ),
    "process-missing": Check(
        severity=3, about="is there one process that is the service", runbook="restart_jboss", judge=_process_missing
    ),
    "hung-stop": Check(severity=3, about="does it hang in its stop", runbook="restart_jboss", judge=_hung_stop),
    "health-failing": Check(
        severity=3, about="does it answer its health check", runbook="health_failing", judge=_health_failing
    ),
    "deadlock": Check(
        severity=3, about="does its log name a deadlock", runbook="deadlock", judge=_signatures("deadlock")
    ),
    "log-signature": Check(
        severity=3,
        about="does its log show a known trouble",
        runbook="log_signature",
        judge=_signatures("log-signature"),
    ),
    "disk-full": Check(
        severity=3, about="is there room where it writes", runbook="disk_full", judge=_disk_full, scope="host"
    ),
    "drained": Check(severity=4, about="is it in its VIP", runbook="drained", judge=_drained),
    "clock-skew": Check(severity=5, about="is its clock right", runbook="clock_skew", judge=_clock_skew, scope="host"),
    "store-down": Check(severity=1, about="do MongoDB and Redis answer", runbook="store_down", scope="engine"),
    "queue-latency": Check(severity=2, about="does work that is due wait", runbook="queue_latency", scope="engine"),
    "workflow-stuck": Check(severity=2, about="do all workflows go on", runbook="workflow_stuck", scope="engine"),
}


# -- judging ---------------------------------------------------------------------------------------------------


def judge(case: Case, names: Sequence[str] = tuple(CHECKS), *, first: bool = True) -> list[Trouble]:
    """What the host's checks find wrong. A host that was not reached is judged by `host-down` alone; what concerns the
    host as a whole is judged with its `first` service only."""
    wanted = [CHECKS[n] for n in names if CHECKS[n].judge is not None and (first or CHECKS[n].scope == "service")]
    if case.seen.facts.status != "ok":
        wanted = [c for c in wanted if c is CHECKS["host-down"]]
    return [trouble for check in wanted if check.judge for trouble in check.judge(case)]


def own_lines(seen: Seen) -> Sequence[Line]:
    """The lines of the log that are the process's own: since its start, or, of one that is gone, since the last start."""
    if seen.facts.proc is not None:
        return [x for x in seen.lines if x.latest is not None and x.latest >= seen.facts.proc.started]
    started = seen.service.started
    if started is None:
        return seen.lines
    pattern = re.compile(started, re.IGNORECASE)
    last = max((at for at, x in enumerate(seen.lines) if pattern.search(x.text)), default=0)
    return seen.lines[last:]


def pools(found: Sequence[Seen]) -> Mapping[tuple[str, str], Pool]:
    """How the VIPs stand, by (vip, service), as far as all their members were looked at."""
    groups: dict[tuple[str, str], list[Seen]] = {}
    for seen in found:
        if seen.service.vip is not None and seen.service.vip.drain is not None:
            groups.setdefault((seen.service.vip.name, seen.service.name), []).append(seen)
    return {
        key: Pool(
            vip=key[0], serving=sum(s.facts.in_service for s in all_of), members=len(all_of),
            least=max(s.service.vip.min_in_service for s in all_of if s.service.vip),
        )
        for key, all_of in groups.items()
    }  # fmt: skip


def in_order(troubles: Sequence[Trouble]) -> list[Trouble]:
    """The most expensive first, then the table's order, then by target."""
    rank = {name: at for at, name in enumerate(CHECKS)}
    return sorted(troubles, key=lambda t: (t.finding.severity, rank.get(t.finding.id, 99), t.finding.target))


def engine_trouble(name: str, state: State, *, target: str, title: str, said: Mapping[str, str], next: str) -> Trouble:
    """A trouble of the engine or its stores, for whoever asked them."""
    check = CHECKS[name]
    evidence = tuple((label, mask(text)) for label, text in said.items())
    finding = Finding(
        id=name, severity=check.severity, target=target, title=title, since=None, evidence=evidence, runbook=check.runbook,
        next=next,
    )  # fmt: skip
    return Trouble(state=state, finding=finding)


def _trouble(
    state: State, name: str, case: Case, title: str, *, since: float | None, said: Mapping[str, str], next: str
) -> Trouble:
    check = CHECKS[name]
    evidence = dict(said)
    if case.pool is not None and name not in ("disk-full", "clock-skew"):
        facts = case.seen.facts
        unfit = facts.vip == "in" and not facts.in_service  # nobody took it out, and it does not serve
        evidence["vip"] = f"{case.pool}; this host is {facts.vip}{', and not one of them' if unfit else ''}"
    if case.before:
        evidence["before"] = case.before
    return Trouble(
        state=state,
        finding=Finding(
            id=name, severity=check.severity, target=case.host.name, title=title, since=since,
            evidence=tuple((label, mask(text)) for label, text in evidence.items()), runbook=check.runbook, next=next,
        ),
    )  # fmt: skip


def _with_severity(finding: Finding, severity: int) -> Finding:
    return replace(finding, severity=severity)
