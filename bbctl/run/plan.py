"""What a run is going to do, worked out before anything is touched: order, batches, and what has to be refused.

Pure: hosts and facts in, plan out. The dry run prints it, the question shows it, the runner carries it out.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bbctl.capacity import Pool, Refusal, below, serves, shared_cause
from bbctl.model import Facts, Host, LockRecord, Service
from bbctl.redact import mask
from bbctl.run.playbook import Procedure, Step, Strategy


@dataclass(frozen=True, kw_only=True)
class Job:
    """What was asked for. `lease`: how long a drain is meant to last, seconds."""

    kind: str
    procedure: Procedure
    service: str
    reason: str = ""
    drain: bool = True
    force: bool = False
    lease: float | None = None

    @property
    def strategy(self) -> Strategy:
        return self.procedure.strategy

    @property
    def takes_out(self) -> bool:
        """Whether a host is out of service while this job works on it."""
        return self.procedure.has("stop", "kill") or (self.drain and self.procedure.has("drain"))

    @property
    def brings_back(self) -> bool:
        """Whether a host ends in service."""
        return self.procedure.has("undrain") or (self.procedure.has("start") and not self.drain)


@dataclass(frozen=True, kw_only=True)
class Target:
    """One host of a run with its service and what the first look found."""

    host: Host
    service: Service
    facts: Facts

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def down(self) -> bool:
        """Already out of service, whatever for: working on it costs nothing."""
        f = self.facts
        return f.status == "ok" and (
            f.vip == "out" or f.process in ("stopped", "hung") or (f.vip == "in" and not f.in_service)
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Batches in the order they will be taken; `skipped`: targets that are already as wanted."""

    job: Job
    targets: Mapping[str, Target]
    batches: tuple[tuple[str, ...], ...]
    skipped: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    pools: tuple[Pool, ...] = ()
    looked: Mapping[str, Facts] = field(default_factory=dict)  # targets and the rest of their pools

    @property
    def order(self) -> tuple[str, ...]:
        return tuple(name for batch in self.batches for name in batch)

    @property
    def refused(self) -> Refusal | None:
        """The first reason not to begin, if there is one that `--force` does not override."""
        return next((r for r in self.refusals if not (r.forced and self.job.force)), None)


# The steps of a job that only leads to its goal: one that does more on the way (takes a host out to put it back) is
# never done before it began.
TOWARDS: dict[str, frozenset[str]] = {
    "started": frozenset({"start", "started", "health", "undrain"}),
    "stopped": frozenset({"drain", "settle", "stop", "evidence", "kill"}),
    "drained": frozenset({"drain", "settle"}),
    "undrained": frozenset({"health", "undrain"}),
}


def already(job: Job, facts: Facts) -> bool:
    """Whether a host is already as this job would leave it. A restart never is."""
    steps = {step.kind for step in job.procedure.steps}
    if facts.status != "ok" or not steps <= TOWARDS.get(job.procedure.goal, frozenset()):
        return False
    match job.procedure.goal:
        case "started":
            return facts.process == "running" and facts.vip in ("in", "none")
        case "stopped":
            return facts.process == "stopped" and facts.vip in ("out", "none")
        case "drained":
            held = facts.lease  # none: it is out, and nobody has said why
            return facts.vip == "out" and job.lease is None and held is not None and held.until is None
        case "undrained":
            return facts.vip == "in"
    return False


def order(targets: Sequence[Target], *, first: Container[str] = ()) -> list[Target]:
    """Who cannot be reached first (the run may end before it touches anything), then who is down or out, then the rest.

    `first`: hosts that failed in an earlier life of the run; they stand with those that are down, in the order given.
    """
    return sorted(targets, key=lambda t: 0 if t.facts.status != "ok" else 1 if t.down or t.name in first else 2)


def batches(names: Sequence[str], strategy: Strategy) -> tuple[tuple[str, ...], ...]:
    """N at a time; with a canary the first host alone, whatever N is."""
    head, rest = (names[:1], names[1:]) if strategy.canary else (names[:0], names)
    cut = [tuple(rest[at : at + strategy.batch]) for at in range(0, len(rest), strategy.batch)]
    return tuple(b for b in (tuple(head), *cut) if b)


def make(
    job: Job,
    targets: Sequence[Target],
    *,
    pools: Sequence[Pool],
    looked: Mapping[str, Facts],
    run: str = "",
    first: Container[str] = (),
) -> Plan:
    """The plan. `looked` holds the facts of the targets and of their pools; `run` and `first`: of a run that is resumed."""
    done = {t.name for t in targets if already(job, t.facts) and _held(t, run) is None}  # a lock: it will change yet
    due = [t for t in order(targets, first=first) if t.name not in done]
    plan = Plan(
        job=job,
        targets={t.name: t for t in targets},
        batches=batches([t.name for t in due], job.strategy),
        skipped=tuple(t.name for t in targets if t.name in done),
        pools=tuple(pools),
        looked=looked,
    )
    return replace(plan, refusals=tuple(_refusals(plan, run)))


def _refusals(plan: Plan, run: str) -> list[Refusal]:
    found: list[Refusal] = []
    for name in plan.order:
        target = plan.targets[name]
        for why in (_host_key(target), _ambiguous(target), _held(target, run), _unfit(plan.job, target)):
            if why is not None:
                found.append(why)
    if plan.job.procedure.has("stop", "kill") and plan.batches:
        cause = shared_cause([f for f in plan.looked.values() if f.service == plan.job.service])
        found += [cause] if cause else []
    return found + _capacity(plan)


def _host_key(t: Target) -> Refusal | None:
    if t.facts.status != "host-key":
        return None
    return Refusal(code="host-key", host=t.name, message=f"{t.name}: {t.facts.error}", next=t.facts.next)


def _ambiguous(t: Target) -> Refusal | None:
    if not t.facts.ambiguous:
        return None
    named = "; ".join(f"{p.pid} {p.user} {mask(p.command)[:100]}" for p in t.facts.candidates)
    return Refusal(
        code="ambiguous",
        host=t.name,
        message=f"{t.name}: {t.facts.ambiguous}: {named}",
        next=f"bbctl status {t.host.short}",
    )


def _held(t: Target, run: str) -> Refusal | None:
    lock = t.facts.lock
    if lock is None or lock.left <= 0 or lock.run == run:
        return None
    return held(t.name, lock)


def held(host: str, lock: LockRecord) -> Refusal:
    """The refusal of a host that another run has locked: who, which run, at what, how long ago, why."""
    why = f', "{lock.reason}"' if lock.reason.strip() else ""
    return Refusal(
        code="locked",
        host=host,
        message=f'{host} is locked by {lock.holder} ({lock.run}, at "{lock.step}", seen {max(0, round(lock.age))} s ago{why})',
        next=f"bbctl runs show {lock.run} · ask {lock.operator.split('@')[0]}",
    )


# What each step needs to be told about its service, and what a service lacks without it.
NEEDS: dict[str, tuple[tuple[str, str], ...]] = {
    "stop": (("stop", "stop"), ("process", "process")),
    "kill": (("process", "process"),),
    "start": (("start", "start"), ("process", "process")),
}


def _unfit(job: Job, t: Target) -> Refusal | None:
    missing = [
        key for step in job.procedure.steps for attr, key in NEEDS.get(step.kind, ()) if not getattr(t.service, attr)
    ]
    if missing:
        return Refusal(
            code="service-incomplete",
            host=t.name,
            message=f"{t.name}: the service {t.service.name} has no `{missing[0]}` in the inventory",
            next="bbctl config check",
        )
    if job.procedure.goal == "started" and t.facts.process == "hung":
        return Refusal(
            code="hung", host=t.name, message=f"{t.name}: {job.service} hangs; it must be restarted, not started",
            next=f"bbctl restart {t.host.short}",
        )  # fmt: skip
    if job.procedure.goal in ("drained", "undrained") and not has_vip(t.service):
        return Refusal(
            code="no-vip",
            host=t.name,
            message=f"{t.name}: {job.service} has no VIP in the inventory",
            next="bbctl config check",
        )
    return None


def has_vip(service: Service) -> bool:
    return service.vip is not None and service.vip.drain is not None


def _capacity(plan: Plan) -> list[Refusal]:
    """The first batch that would take a pool below its minimum, everything before it having gone well."""
    found = []
    for pool in plan.pools if plan.job.takes_out else ():
        serving = {n for n in pool.hosts if n in plan.looked and serves(plan.looked[n])}
        for batch in plan.batches:
            taken = serving & set(batch)
            if taken and len(serving) - len(taken) < pool.least:
                found.append(below(pool, serving, taken))
                break
            good = {n for n in batch if n in pool.hosts and plan.looked[n].status == "ok"}
            serving = serving | good if plan.job.brings_back else serving - set(batch)
    return found


def steps_for(job: Job, step: Step, service: Service) -> str | None:
    """Why a step does not apply to a service at all; None where it does."""
    if step.kind in ("drain", "settle", "undrain"):
        if not has_vip(service):
            return "no VIP"
        if not job.drain:
            return "--no-drain"
    if step.kind == "started" and not (service.started and service.log):
        return "no `started` pattern in the inventory"
    if step.kind == "health" and service.health is None:
        return "no health check in the inventory"
    return None
