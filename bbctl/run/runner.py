"""The one way to do many steps on many hosts: look, plan, lock, batches, journal, unlock. Playbooks say what; this says how.

    look_and_plan → (the question) → carry_out → run record

Everything on a host goes through `bbctl.run.hostrun`. What ends a run early: a failure too many, a pool that would go below
its minimum, a wish to stop. Then the rest is untouched, and the record says so.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bbctl.capacity import Refusal, pools_of
from bbctl.errors import BbctlError
from bbctl.look import look
from bbctl.model import Facts, Fleet, Host, HostOutcome, RunOutcome, RunRecord
from bbctl.run import claims, hostrun, journal
from bbctl.run import plan as planning
from bbctl.run.halt import Cut, Halt
from bbctl.run.holding import Holding
from bbctl.run.journal import Journal, NotWritten
from bbctl.run.plan import Job, Plan, Target
from bbctl.run.work import Work
from bbctl.ssh.fanout import fanout
from bbctl.ssh.transport import Transport

MOMENT = 3.0  # seconds that a step may still take when the run was asked to stop at once


def look_and_plan(
    job: Job, hosts: Sequence[Host], *, fleet: Fleet, transport: Transport, run: str = "", first: Container[str] = ()
) -> Plan:
    """Look at the targets and the rest of their pools, once, and plan. `run`, `first`: see `plan.make`."""
    pools = pools_of(fleet.hosts, hosts, job.service)
    names = dict.fromkeys([*(h.name for h in hosts), *(n for pool in pools for n in pool.hosts)])
    looked = look_at(list(names), job, fleet=fleet, transport=transport)
    targets = [Target(host=h, service=s, facts=looked[h.name]) for h in hosts if (s := h.service(job.service))]
    return planning.make(job, targets, pools=pools, looked=looked, run=run, first=first)


def look_at(names: Sequence[str], job: Job, *, fleet: Fleet, transport: Transport) -> dict[str, Facts]:
    found = look(transport, [fleet.hosts[n] for n in names], known=fleet.hosts, service=job.service)
    return {f.host: f for f in found}


@dataclass(kw_only=True)
class Run:
    """One run being carried out. `known`: notes of an earlier life of it, by host."""

    plan: Plan
    journal: Journal
    fleet: Fleet
    transport: Transport
    halt: Halt
    operator: str
    known: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    holding: Holding = field(init=False)
    _hurry: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        name, _, machine = self.operator.partition("@")
        fields = {"operator": name, "machine": machine, "run": self.journal.run, "reason": self.plan.job.reason}
        self.holding = Holding(self.transport, token=self.journal.token, fields=fields)

    def carry_out(self) -> RunRecord:
        """The whole run, to its end in the journal. Raises nothing of what hosts do."""
        self.holding.start()
        try:
            outcome, error = self._locked()
        except NotWritten as failure:
            outcome, error = "failed", failure.as_json()
        finally:
            fanout(self.holding.hosts, self.holding.release)  # never reached: nothing was changed there
            self.holding.close()
        return self.end(outcome, error)

    def end(self, outcome: RunOutcome, error: Mapping[str, Any] | None = None) -> RunRecord:
        with suppress(NotWritten):
            self.journal.write("end", outcome=outcome, error=error, signal=self.halt.signal)
        return self.journal.record()

    def _locked(self) -> tuple[RunOutcome, Mapping[str, Any] | None]:
        for name in self.plan.skipped:
            self._outcome(name, "skipped")
        refusal, unreached = self._lock_all()
        if refusal is not None:
            return "refused", refusal.as_json()
        return self._batches(unreached)

    def _lock_all(self) -> tuple[Refusal | None, dict[str, str]]:
        """Every target's lock, in one order for all runs, so that of two that want the same hosts one gets them all."""
        unreached: dict[str, str] = {}
        old = journal.tokens(self.journal.events)[:-1]
        for name in sorted(self.plan.order):
            target = self.plan.targets[name]
            if target.facts.status != "ok":
                unreached[name] = f"{target.facts.status}: {target.facts.error}"
                continue
            answer = self.holding.acquire(target.host, old_tokens=old)
            if answer.state == "held" and answer.record is not None:
                return planning.held(name, answer.record), unreached
            if not answer.ours:
                more = f"; see bbctl unlock {target.host.short}" if answer.state == "unreadable" else ""
                unreached[name] = f"the lock could not be taken: {answer.detail or answer.state}{more}"
        return None, unreached

    def _batches(self, unreached: Mapping[str, str]) -> tuple[RunOutcome, Mapping[str, Any] | None]:
        strategy, outcomes = self.plan.job.strategy, dict[str, HostOutcome]()
        for number, batch in enumerate(self.plan.batches):
            if self._enough(outcomes, canary=number == 1 and strategy.canary):
                return "failed", None
            if number and strategy.pause:
                self.halt.rest(strategy.pause)
            if self.halt.soon.is_set():
                return "interrupted", None
            try:
                refusal = self._claim([n for n in batch if n not in unreached])
                if self.halt.now.is_set():
                    raise Cut
            except Cut:
                return "interrupted", None
            except BbctlError as error:
                return "failed", dict(error.as_json())
            if refusal is not None:
                return ("failed" if outcomes else "refused"), refusal.as_json()
            outcomes |= self._batch(batch, unreached, soak=strategy.soak if strategy.canary and number == 0 else 0.0)
            if self.journal.broken is not None:
                raise self.journal.broken
            if "interrupted" in outcomes.values():
                return "interrupted", None
        return ("failed" if "failed" in outcomes.values() else "done"), None

    def _enough(self, outcomes: Mapping[str, HostOutcome], *, canary: bool) -> bool:
        """Whether failures (or a failed canary) end the run here."""
        failed = sum(o == "failed" for o in outcomes.values())
        return failed > (0 if canary else self.plan.job.strategy.max_failures)

    def _claim(self, names: Sequence[str]) -> Refusal | None:
        if not self.plan.job.takes_out:
            return None
        return claims.claim(
            [self.plan.targets[n].host for n in names],
            self.plan.pools,
            run=self.journal.run,
            holding=self.holding,
            halt=self.halt,
            look=lambda hosts: look_at(hosts, self.plan.job, fleet=self.fleet, transport=self.transport),
            force=self.plan.job.force,
        )

    def _batch(self, batch: Iterable[str], unreached: Mapping[str, str], *, soak: float) -> dict[str, HostOutcome]:
        """Every host of a batch at the same time; the main thread only waits, so that signals reach it."""
        outcomes: dict[str, HostOutcome] = {}
        work = {}
        for name in batch:
            if name in unreached:
                outcomes[name] = self._not_reached(name, unreached[name])
            else:
                work[name] = self._work(name)
        if work:
            with ThreadPoolExecutor(len(work), thread_name_prefix="host") as pool:
                doing: dict[str, Future[HostOutcome]] = {
                    name: pool.submit(hostrun.carry_out, w, soak=soak) for name, w in work.items()
                }
                while wait_for(doing.values(), timeout=0.2).not_done:
                    self._abandon()
            outcomes |= {name: future.result() for name, future in doing.items()}
        return outcomes

    def _abandon(self) -> None:
        """Asked to stop at once, a host that is silent is not waited for: after a moment its connection is closed."""
        if self.halt.now.is_set():
            self._hurry = self._hurry or time.monotonic() + MOMENT
            if time.monotonic() > self._hurry:
                self.transport.abandon()

    def _not_reached(self, name: str, why: str) -> HostOutcome:
        self.journal.write("step", host=name, step="lock", outcome="failed", seconds=0.0, detail=why)
        return self._outcome(name, "failed")

    def _outcome(self, name: str, outcome: HostOutcome) -> HostOutcome:
        self.journal.write("host", host=name, outcome=outcome, vip=self.plan.targets[name].facts.vip)
        return outcome

    def _work(self, name: str) -> Work:
        target = self.plan.targets[name]
        return Work(
            host=target.host,
            service=target.service,
            job=self.plan.job,
            journal=self.journal,
            transport=self.transport,
            holding=self.holding,
            halt=self.halt,
            hosts=self.fleet.hosts,
            operator=self.operator,
            known=dict(self.known.get(name, {})),
        )


def exit_of(record: RunRecord, *, statuses: Iterable[str] = (), signal: int | None = None) -> int:
    """The exit code of a run. `statuses`: how the look found its targets; `signal`: what interrupted it."""
    if record.outcome == "done":
        return 0
    if record.outcome == "refused":
        return 3
    seen = set(statuses)
    if "host-key" in seen:
        return 3
    if record.outcome == "interrupted":
        return 128 + (signal or 2)
    return 4 if seen and seen <= {"unreachable", "auth-failed"} else 1
