"""One look at services on hosts: a single exec a host asks everything, its health is asked beside it. Changes nothing.

The look takes a service of a host to its Facts: process, hang, health, VIP, lock, clock, room on disks. `look_closely` keeps
what they were concluded from, for those who show evidence.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bbctl import dumps, hang, health
from bbctl.drain import Gate
from bbctl.model import Facts, Health, Host, LockRecord, Ran, Service, VipState
from bbctl.remote import lease, lock, logs, machine, process, vip
from bbctl.remote.sections import apart, together
from bbctl.remote.shell import script
from bbctl.ssh.fanout import fanout
from bbctl.ssh.transport import NotLoggedIn, Session, Transport

WITHIN = 15.0  # seconds for one host, login apart
AGAIN = 0.3  # seconds between two looks at processes that would be ambiguous

DEEP = 8 << 20  # bytes of a log that are read where a thread dump fills its end

NO_SERVICE = Service(name="")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Facts, and what they were concluded from. `service` is NO_SERVICE on a host without any."""

    host: Host
    service: Service
    facts: Facts
    machine: machine.Machine | None = None
    lines: tuple[logs.Line, ...] = ()
    tail: logs.Tail | None = None
    verdict: hang.Verdict = hang.NOTHING
    health_detail: str = ""
    late: bool = False  # the time for all hosts was over: nothing is known of this one, not even that it is silent


def look(
    transport: Transport, hosts: Sequence[Host], *, known: Mapping[str, Host], service: str | None = None
) -> list[Facts]:
    """Facts of every service of these hosts (or of the one named), in their order. `known`: the inventory's hosts."""
    return [s.facts for s in look_closely(transport, hosts, known=known, service=service)]


def look_closely(
    transport: Transport, hosts: Sequence[Host], *, known: Mapping[str, Host], service: str | None = None,
    deadline: float | None = None,
) -> list[Seen]:  # fmt: skip
    """As `look`, with what the facts were concluded from. A host that cannot be looked at is a fact too: nothing raises.
    After `deadline` seconds in all, a host that has not answered counts as `timeout`."""
    eye = _Eye(transport=transport, known=known, service=service)
    seen = fanout(hosts, eye.host, deadline=deadline)
    return [one for host in hosts for one in seen.get(host.name) or _late(host, service, deadline)]


def _late(host: Host, service: str | None, deadline: float | None) -> list[Seen]:
    error = f"no answer within the {deadline:g}s for all hosts"
    return [
        Seen(host=host, service=s, facts=_blind(host, s, "timeout", error), late=True)
        for s in services_of(host, service)
    ]


def services_of(host: Host, service: str | None) -> tuple[Service, ...]:
    """The services that a look at a host is about: the one that is named, else all, else NO_SERVICE."""
    return tuple(s for s in host.services if service in (None, s.name)) or (NO_SERVICE,)


@dataclass(frozen=True, kw_only=True)
class _Eye:
    """One look's means. `answers`: what each HAProxy said, asked once however many hosts stand behind it."""

    transport: Transport
    known: Mapping[str, Host]
    service: str | None
    answers: dict[tuple[str | None, str | None], _Once] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def host(self, host: Host) -> list[Seen]:
        services = services_of(host, self.service)
        began = time.monotonic()
        try:
            session = self.transport.open(host)
        except NotLoggedIn as error:
            facts = [_blind(host, s, error.status, error.message, error.next) for s in services]
            return [Seen(host=host, service=s, facts=f) for s, f in zip(services, facts, strict=True)]
        marker = secrets.token_hex(8)
        sent = time.time()
        ran = session.run(script(together(_parts(host, services), marker=marker)), timeout=WITHIN, guard=True)
        said = apart(ran.stdout, marker=marker)
        if "." not in said and "lock" not in said:
            return [Seen(host=host, service=s, facts=_unanswered(host, s, ran)) for s in services]
        try:
            found = [self._service(session, host, s, said, (sent, time.time())) for s in services]
        except ValueError as error:
            return [Seen(host=host, service=s, facts=_blind(host, s, "failed", str(error))) for s in services]
        spent = time.monotonic() - began
        return [replace(one, facts=replace(one.facts, seconds=spent)) for one in found]

    def _service(
        self, session: Session, host: Host, service: Service, said: Mapping[str, bytes], span: tuple[float, float]
    ) -> Seen:
        """What was found of one service. Raises ValueError where the host's answer is not whole."""
        box = machine.understand(said["machine"])
        place = self._place(host, service, said)
        facts = Facts(
            host=host.name,
            service=service.name,
            status="ok",
            vip=place.state,
            vip_error=place.error,
            serving=place.serving,
            lock=_lock(said["lock"]),
            lease=lease.understand(said.get("lease", b""), now=box.now) if place.state == "out" else None,
            clock_offset=box.now - min(max(box.now, span[0]), span[1]),
            pidfd=box.pidfd,
            disk_free={path: disk.free for path, disk in box.disks.items()},
        )
        seen = Seen(host=host, service=service, facts=facts, machine=box)
        if service.log and f"log {service.name}" in said:
            seen = _with_log(seen, said[f"log {service.name}"], box)
        if service.process is not None:
            seen = self._with_process(session, seen, said)
        if service.health is not None:
            seen = _with_health(session, seen, service.health)
        return seen

    def _with_process(self, session: Session, seen: Seen, said: Mapping[str, bytes]) -> Seen:
        service = seen.service
        assert service.process is not None
        listed = process.understand(said["procs"])
        found = choose(listed, service, said.get(f"pidfile {service.name}"))
        if found.ambiguous:
            time.sleep(AGAIN)
            listed, found = find(session, service)
        if found.ambiguous:
            error = f"{found.ambiguous}: {process.describe(found.candidates)}"
            facts = replace(seen.facts, ambiguous=found.ambiguous, candidates=found.candidates, error=error)
            return replace(seen, facts=facts)
        if found.proc is None:
            if service.process.user not in listed.users.values():
                error = f"there is no user {service.process.user} on this host"
                return replace(seen, facts=replace(seen.facts, error=error))
            return replace(seen, facts=replace(seen.facts, process="stopped"))
        verdict = hang.judge(seen.lines, service=service, started=found.proc.started, now=listed.now)
        if verdict.word is None and seen.tail is not None and _drowned(seen.tail):
            seen = _deeper(session, seen)
            verdict = hang.judge(seen.lines, service=service, started=found.proc.started, now=listed.now)
        facts = replace(
            seen.facts,
            process="hung" if verdict.hung else "running",
            proc=found.proc,
            candidates=found.candidates,
            hung_since=verdict.since if verdict.hung else None,
            hung_line=verdict.line if verdict.hung else None,
        )
        return replace(seen, facts=facts, verdict=verdict)

    def _place(self, host: Host, service: Service, said: Mapping[str, bytes]) -> vip.Place:
        if service.vip is None or service.vip.drain is None:
            return vip.Place(state="none")
        drain = service.vip.drain
        if drain.kind == "file":
            return vip.understand_file(said[f"vip {service.name}"], drain.path or "")
        gate = Gate(transport=self.transport, hosts=self.known, host=host, drain=drain)
        return gate.place(self._once(gate)) if drain.kind == "haproxy" else gate.place()

    def _once(self, gate: Gate) -> Callable[[str], str]:
        with self.guard:
            return self.answers.setdefault((gate.drain.host, gate.drain.socket), _Once(gate.haproxy))


class _Once:
    """A question that several threads have: the first asks, all get its answer or its error."""

    def __init__(self, ask: Callable[[str], str]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._answer: str | Exception | None = None

    def __call__(self, words: str) -> str:
        with self._lock:
            if self._answer is None:
                try:
                    self._answer = self._ask(words)
                except Exception as error:
                    self._answer = error
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def find(session: Session, service: Service) -> tuple[process.Listing, process.Found]:
    """Which process is the service, now: processes alone, one exec. Raises ValueError where the host does not answer."""
    assert service.process is not None
    marker = secrets.token_hex(8)
    parts = {"procs": process.listing([service.process.user])}
    if service.process.pidfile:
        parts["pidfile"] = process.pidfiles([service.process.pidfile])
    ran = session.run(script(together(parts, marker=marker)), timeout=WITHIN, guard=True)
    said = apart(ran.stdout, marker=marker)
    if "procs" not in said:
        raise ValueError(ran.error or "the host's answer is not whole")
    listed = process.understand(said["procs"])
    return listed, choose(listed, service, said.get("pidfile"))


def choose(listed: process.Listing, service: Service, pidfile: bytes | None) -> process.Found:
    """`process.choose` with the pid file's answer as the host gave it."""
    assert service.process is not None
    return process.choose(listed, service.process, pid_said(service, pidfile))


def pid_said(service: Service, answer: bytes | None) -> str | None:
    """What the pid file of a service says: None where it names no such file, empty where it cannot be known."""
    if service.process is None or service.process.pidfile is None:
        return None
    return next(iter(process.understand_pidfiles(answer or b"")), "")


def _parts(host: Host, services: Sequence[Service]) -> dict[str, str]:
    parts = {"machine": machine.facts(_paths(host, services))}
    if users := [s.process.user for s in services if s.process]:
        parts["procs"] = process.listing(users)
    for s in services:
        if s.process and s.process.pidfile:
            parts[f"pidfile {s.name}"] = process.pidfiles([s.process.pidfile])
        if s.log:
            parts[f"log {s.name}"] = logs.tail(s.log, run_as=s.run_as)
        if s.vip and s.vip.drain and s.vip.drain.kind == "file":
            parts[f"vip {s.name}"] = vip.file_state(s.vip.drain.path or "")
    parts["lease"] = lease.read(host.lock)
    parts["lock"] = lock.read(host.lock)
    return parts


def _paths(host: Host, services: Sequence[Service]) -> list[str]:
    """What a run writes to: logs, pid files, heartbeat files, the lock, /tmp. Their folders."""
    files: list[str | None] = [host.lock.path]
    for s in services:
        files += [s.log, s.process.pidfile if s.process else None, s.vip.drain.path if s.vip and s.vip.drain else None]
    return ["/tmp", *(f.rpartition("/")[0] or "/" for f in files if f)]  # noqa: S108 - the host's, where scripts write


def _lock(answer: bytes) -> LockRecord | None:
    return lock.understand(answer).record


def _with_log(seen: Seen, answer: bytes, box: machine.Machine) -> Seen:
    tail = logs.understand(answer)
    zone = logs.Zone(zone=logs.zone_of(seen.service.log_zone, box.zone), now=box.now, form=seen.service.log_time)
    facts = replace(seen.facts, log_size=tail.size if tail.state == "ok" else None)
    return replace(seen, facts=facts, tail=tail, lines=tuple(logs.lines(tail, zone)))


def _drowned(tail: logs.Tail) -> bool:
    """A thread dump fills the end of the log: what the process said last stands in front of it."""
    return tail.start > 0 and (dumps.BEGIN.encode() in tail.data or dumps.END.encode() in tail.data)


def _deeper(session: Session, seen: Seen) -> Seen:
    ask = logs.tail(seen.service.log or "", run_as=seen.service.run_as, window=DEEP)
    ran = session.run(script(ask), timeout=WITHIN, guard=True)
    return _with_log(seen, ran.stdout, seen.machine) if ran.ok and seen.machine else seen


def _with_health(session: Session, seen: Seen, question: Health) -> Seen:
    asked = health.ask(session, seen.host, question)
    facts = replace(seen.facts, health=asked.state, health_answer=asked.answer)
    return replace(seen, facts=facts, health_detail=asked.detail)


def _blind(host: Host, service: Service, status: Any, error: str, next: str | None = None) -> Facts:
    where: VipState = "unknown" if service.vip is not None and service.vip.drain is not None else "none"
    return Facts(host=host.name, service=service.name, status=status, error=error, next=next, vip=where)


def _unanswered(host: Host, service: Service, ran: Ran) -> Facts:
    status = ran.status if ran.status != "ok" else "failed"
    return _blind(host, service, status, ran.error or "the host's answer is not whole")


def fine(seen: Seen) -> bool:
    """Nothing that a person would act on: logged in, the process runs, health is OK, and the host is in its VIP."""
    f, service = seen.facts, seen.service
    return (
        f.status == "ok"
        and not f.error
        and (f.process == "running" or service.process is None)
        and (f.health == "ok" or service.health is None)
        and f.vip in ("in", "none")
    )
