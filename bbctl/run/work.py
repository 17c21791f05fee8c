"""One host of a run, as its steps see it: who it is, how to ask it, how to change it, and what is known of it so far.

What a step learns that must survive a kill of bbctl (the process that was there at first, where in the log our own lines
begin, that it hung, what was killed) is noted in the journal before anything is done with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bbctl.drain import Gate
from bbctl.model import Facts, Host, Proc, Ran, Service
from bbctl.remote.process import TICKS, uptime
from bbctl.run.halt import Cut, Halt
from bbctl.run.holding import Holding
from bbctl.run.journal import Journal
from bbctl.run.plan import Job
from bbctl.run.watch import Glance, Watch, identity
from bbctl.ssh.transport import Session, Transport

UNSEEN = 20.0  # seconds that a host may be silent within a step before the step gives up


class StepFailed(Exception):
    """A step did not do what it is for; the text says why, for a person."""


@dataclass(frozen=True)
class Done:
    """How a step ended, and what to show of it."""

    outcome: str = "ok"
    detail: str = ""


def skipped(why: str) -> Done:
    return Done("skipped", why)


@dataclass
class Work:
    """`old`: the process that the run found here first (None: there was none); `hung`: it was proven to hang."""

    host: Host
    service: Service
    job: Job
    journal: Journal
    transport: Transport
    holding: Holding
    halt: Halt
    hosts: Mapping[str, Host]
    operator: str
    now: Callable[[], float] = time.monotonic
    known: dict[str, Any] = field(default_factory=dict)  # notes of an earlier life of this run
    old: list[Any] | None = None
    hung: bool = False
    deadline: float | None = None
    launches: dict[str, str] = field(init=False)  # verb → the last launch of its command, see `commands.launch`
    watch: Watch = field(init=False)
    new: list[Any] | None = None  # the process that must stay the same from its start to the end
    launched: bool = False
    served: bool = False  # the work was found done: a new process, in service

    def __post_init__(self) -> None:
        # A run that an older bbctl began gave its commands no names but its own.
        self.launches = dict(self.known.get("launches") or dict.fromkeys(("start", "stop"), self.journal.run))
        self.watch = Watch(self.host, self.service, self.ask, launches=self.launches, since=self.known.get("mark"))
        self.old = self.known.get("old")
        self.hung = bool(self.known.get("hung"))
        self.launched = bool(self.known.get("launched"))

    # -- asking

    def ask(self, text: str, timeout: float) -> Ran:
        return self.transport.run(self.host, text, timeout=timeout)

    def session(self) -> Session:
        return self.transport.open(self.host)

    def look(self, verb: str = "", *, starting: bool = False) -> Glance:
        """A glance that must succeed: a host that is silent for UNSEEN seconds, or two processes that match, fail the step.

        `starting`: one process whose pid file does not name it is not there yet; its start script may still write it.
        """
        began = self.now()
        self.watch.proven = tuple(known for known in (self.old, self.new) if known is not None)
        while True:
            seen = self.watch.glance(verb)
            if seen.error is None:
                break
            if self.now() - began > UNSEEN:
                raise StepFailed(f"nothing is known of the host any more: {seen.error}")
            self.pause(0.5)
        if seen.ambiguous and starting and len(seen.candidates) == 1:
            return replace(seen, ambiguous=None)
        if seen.ambiguous:
            raise StepFailed(f"{seen.ambiguous}: nothing is signalled")
        return seen

    @property
    def gate(self) -> Gate:
        """The host's way out of and into its VIP."""
        if self.service.vip is None or self.service.vip.drain is None:
            raise StepFailed("the service has no VIP")
        return Gate(transport=self.transport, hosts=self.hosts, host=self.host, drain=self.service.vip.drain)

    # -- changing

    def act(self, body: str, *, timeout: float = 15.0) -> Ran:
        """Run a text that changes the host, in the same remote step that proves our lock. Raises LockLost.

        A text may be run twice without harm: it is sent anew where the connection broke before its answer was here."""
        until = self.now() + timeout
        while (ran := self.once(body, timeout=timeout)).unanswered and self.now() < until:
            self.pause(1.0)
        return ran

    def once(self, body: str, *, timeout: float = 15.0) -> Ran:
        """`act` for a text that must not be run twice: whoever gets no answer has to look what became of it."""
        if self.halt.now.is_set():
            raise Cut
        return self.holding.run(self.host, body, timeout=self.limit(timeout))

    # -- noting, waiting

    def note(self, **facts: Any) -> None:
        self.known.update(facts)
        self.journal.write("note", host=self.host.name, **facts)

    def pause(self, seconds: float) -> None:
        """Wait within a step. Raises Cut (asked twice to stop), StepFailed at the step's own deadline."""
        self.halt.pause(self.limit(seconds))
        if self.deadline is not None and self.now() >= self.deadline:
            raise StepFailed("its timeout is over")

    def limit(self, seconds: float) -> float:
        return seconds if self.deadline is None else max(0.1, min(seconds, self.deadline - self.now()))

    # -- knowing

    def first_seen(self, seen: Glance) -> None:
        """Note the process that is here before anything is done, once in a run's life."""
        if "old" not in self.known:
            self.old = identity(seen.proc)
            self.note(old=self.old, up=uptime(seen.proc))

    def replaced(self, seen: Glance) -> bool:
        """The process is not the one that the run found, nor was there beside it: what was to be done is done."""
        return self.is_new(seen.proc)

    def is_new(self, proc: Proc | None) -> bool:
        """See `replaced`. Where the run found none, whoever started one has done what a restart is for."""
        if proc is None:
            return False
        if self.old is None:
            return self.launched or ("old" in self.known and self.job.procedure.goal == "restarted")
        return identity(proc) != self.old and not self.left_over(proc)

    def came_since(self, facts: Facts) -> bool:
        """A resumed restart finds a process that began after the run had, and is well: somebody restarted what it had not
        come to."""
        proc, since = facts.proc, self.journal.acting_since
        well = facts.process == "running" and facts.health != "failing"
        young = proc is not None and since is not None and proc.age < since - 1.0
        return well and young and self.job.procedure.goal == "restarted"

    def left_over(self, proc: Proc | None) -> bool:
        """Another process than the one that the run found, and as old as that: a child of it, say, that outlived it."""
        if proc is None or self.old is None or identity(proc) == self.old or proc.boot != self.old[2]:
            return False
        return proc.ticks / TICKS < float(self.known.get("up") or 0.0)

    def fact(self, name: str) -> bool:
        """A fact that `when` and `unless` ask for, at this moment."""
        if name in ("in", "out"):
            return self.gate.place().state == name
        seen = self.look()
        if name == "hung":
            return self.hung and seen.proc is not None and identity(seen.proc) == self.old
        return seen.process == name


Args = Mapping[str, Any]
