"""One host through its steps: lock proven, preflight, the playbook's steps in order, each written down before and after.

Ends with the host's outcome in the journal, whatever happens. A host that failed stays as the failed step left it: once
it is out of the VIP, out of the VIP.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from bbctl import defects
from bbctl.errors import BbctlError
from bbctl.model import HostOutcome
from bbctl.redact import mask
from bbctl.remote.logs import Tail
from bbctl.remote.process import uptime
from bbctl.run import plan as planning
from bbctl.run import preflight, steps
from bbctl.run.halt import Cut
from bbctl.run.holding import LockLost
from bbctl.run.journal import NotWritten
from bbctl.run.playbook import Step
from bbctl.run.watch import Place, identity
from bbctl.run.work import Done, StepFailed, Work, skipped

AGAIN = 1.0  # seconds before a step is tried again


def carry_out(w: Work, *, soak: float = 0.0) -> HostOutcome:
    """All steps on one host. `soak`: seconds that the host must stay good before it is done (a canary)."""
    outcome = _steps(w, soak)
    with suppress(NotWritten):  # the runner sees it in the journal, and ends the run
        if outcome == "interrupted":
            w.holding.keep(w.host)
        else:
            _unlock(w)
        w.journal.write("host", host=w.host.name, outcome=outcome, vip=_place(w, quick=outcome == "interrupted"))
    return outcome


def _steps(w: Work, soak: float) -> HostOutcome:
    procedure = w.job.procedure
    try:
        _one(w, "lock", lambda: Done(detail=f"ours, run {w.journal.run}"))
        _one(w, "preflight", lambda: _preflight(w))
        for at, step in enumerate(procedure.steps):
            _step(w, step, killed_later=any(s.kind == "kill" for s in procedure.steps[at + 1 :]))
        _prove(w)
        if soak:
            _one(w, "health", lambda: _soak(w, soak))
    except (Cut, NotWritten):  # what cannot be announced is not done
        return "interrupted"
    except StepFailed:
        return "failed"
    return procedure.goal


def _step(w: Work, step: Step, *, killed_later: bool) -> None:
    """One step of the playbook, with its conditions, its retries and what its failure means."""
    try:
        done = _one(w, step.kind, lambda: _judged(w, step), retries=step.retries, timeout=step.timeout)
    except StepFailed:
        if step.on_failure == "continue" and w.host.name not in w.holding.lost:
            return
        raise
    if done.outcome == "failed" and not killed_later:
        raise StepFailed(done.detail)


def _judged(w: Work, step: Step) -> Done:
    why = planning.steps_for(w.job, step, w.service)
    if why is None and step.when and not w.fact(step.when):
        why = f"not {step.when}"
    if why is None and step.unless and w.fact(step.unless):
        why = step.unless
    return steps.DO[step.kind](w, step.args) if why is None else skipped(why)


def _one(w: Work, name: str, do: Callable[[], Done], *, retries: int = 0, timeout: float | None = None) -> Done:
    """Write down the intent, say on the host which step is under way, do it, write down what came of it."""
    w.journal.write("intent", host=w.host.name, step=name)
    began, done, failure = w.now(), None, ""
    for attempt in range(retries + 1):
        w.deadline = None if timeout is None else w.now() + timeout
        try:
            if attempt:
                w.pause(AGAIN)
            if name != "lock":
                w.holding.advance(w.host, name)
            done = do()
            break
        except Cut:
            _cut(w, name, began)
        except (StepFailed, BbctlError) as error:
            if w.halt.now.is_set():  # whatever it waited for was taken from it
                _cut(w, name, began)
            failure = error.message if isinstance(error, BbctlError) else str(error)
            if isinstance(error, LockLost):
                break
        except Exception as error:
            failure = defects.told(w.journal.folder.parents[1], error)
            break
    w.deadline = None
    _write(w, name, began, done or Done("failed", failure))
    if done is None:
        raise StepFailed(failure)
    return done


def _cut(w: Work, name: str, began: float) -> NoReturn:
    _write(w, name, began, Done("failed", "interrupted"))
    raise Cut


def _write(w: Work, name: str, began: float, done: Done) -> None:
    w.journal.write(
        "step", host=w.host.name, step=name, outcome=done.outcome, seconds=w.now() - began, detail=mask(done.detail)
    )


def _preflight(w: Work) -> Done:
    found = preflight.check(w.transport, w.host, w.service, w.job, known=w.hosts)
    facts = found.seen.facts
    w.note(vip=facts.vip)
    if found.broken:
        raise StepFailed(found.broken)
    again = w.known.pop("again", False) and facts.health == "failing"  # it failed, and is not well by now: begin afresh
    if "old" not in w.known or again or w.left_over(facts.proc):
        w.old, w.launched, w.hung = identity(facts.proc), False, False
        came = "old" not in w.known and w.came_since(facts)
        w.old = None if came else w.old
        w.known.update(killing=None)
        w.note(old=w.old, up=uptime(facts.proc), launched=False, came=came, **_mark(w, found.seen.tail))
    if facts.process == "hung" and identity(facts.proc) == w.old:
        w.hung = True
        w.note(hung=True)
    w.served = w.job.procedure.goal == "restarted" and w.is_new(facts.proc) and facts.in_service
    return Done(detail=found.said)


def _mark(w: Work, tail: Tail | None) -> dict[str, Place]:
    """Where the log stands as its process is first seen: what a later life of this run finds behind it came since."""
    if tail is None or tail.state == "denied":
        return {}
    mark: Place = {"file": tail.file, "at": tail.end} if tail.state == "ok" else {"file": "-", "at": 0}
    w.watch.go_on(mark)
    return {"mark": mark}


def _prove(w: Work) -> None:
    """What the goal says is so: a playbook may have left out what would have made it true."""
    if w.job.procedure.goal == "stopped" and (proc := w.look().proc) is not None:
        raise StepFailed(f"process {proc.pid} still runs")
    if w.job.procedure.goal == "drained" and w.gate.place().state == "in":
        raise StepFailed("it is still in its VIP")


def _soak(w: Work, seconds: float) -> Done:
    until = w.now() + seconds
    while (left := until - w.now()) > 0 and not w.halt.soon.is_set():
        w.halt.pause(min(1.0, left))
        if w.new is not None:
            try:
                steps.same(w, w.look())
            except StepFailed as why:
                raise StepFailed(f"{why}; {steps.out_again(w)}") from None
    return Done(detail=f"soaked {w.now() - until + seconds:.0f}s")


def _unlock(w: Work) -> None:
    with suppress(NotWritten):  # the lock goes all the same: all is done here
        w.journal.write("intent", host=w.host.name, step="unlock")
    began = w.now()
    _write(w, "unlock", began, _let_go(w))


def _let_go(w: Work) -> Done:
    """What became of the lock: let go by us, or lost before."""
    answer = w.holding.release(w.host)
    lost = w.holding.lost.get(w.host.name)
    match answer.state:
        case "released":
            return Done(detail="it had run out; it is removed" if lost else "")
        case "none":
            return skipped(lost or "it was gone already: somebody removed it")
        case "lost":
            by = f"{answer.record.holder} ({answer.record.run})" if answer.record else "another"
            return skipped(lost or f"it was lost: {by} holds it now")
    return Done("failed", answer.detail or answer.state)


def _place(w: Work, *, quick: bool) -> str:
    """Where the host stands in its VIP at the end: asked, or, when there is no time, as it was last known."""
    last = str(w.known.get("vip", "unknown"))
    if quick or w.service.vip is None or w.service.vip.drain is None:
        return last if quick else "none"
    with suppress(StepFailed):
        return w.gate.place().state
    return last
