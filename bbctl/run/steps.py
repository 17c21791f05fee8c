"""What each kind of step does on one host. A step looks before it acts: what is done already is skipped, never done twice.

Every function takes the work on one host and the step's own words and gives `Done`, or raises StepFailed with the cause.
Whatever changes the host goes through `Work.act`, which proves the lock in the same remote step.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping

from bbctl import evidence as saving
from bbctl import health as asking
from bbctl.durations import format_duration
from bbctl.errors import Failed
from bbctl.model import Health, Proc
from bbctl.redact import mask
from bbctl.remote import lease, process
from bbctl.remote import service as commands
from bbctl.remote.shell import script
from bbctl.run.watch import Glance, identity
from bbctl.run.work import Args, Done, StepFailed, Work, skipped
from bbctl.ssh.transport import NotLoggedIn

LOOK = 0.4  # seconds between two glances
QUICK = 0.15  # the same while a process is about to appear: one that dies at once must be seen
UNFIT = 3  # answers in a row, none of them good, that keep a host out of its VIP
GONE = 10.0  # seconds for a process to be gone after KILL


def drain(w: Work, args: Args) -> Done:
    place = w.gate.place()
    w.note(vip=place.state)
    if place.state == "out":
        _lease(w)
        return skipped("already out of the VIP")
    if w.served:
        w.note(settle=False)
        return skipped("in service by a new process: nothing is left to do")
    w.note(settle=True, vip="unknown")  # whoever resumes must still wait until it is drained
    w.gate.leave(w.act)
    w.note(vip="out")
    _lease(w)
    return Done(detail="out of the VIP" + (f" for {format_duration(w.job.lease)}" if w.job.lease else ""))


def _lease(w: Work) -> None:
    """A host that is drained for its own sake says by whom, why and how long; any other drain ends with its run."""
    if w.job.procedure.goal == "drained":
        text = lease.write(
            w.host.lock, operator=w.operator, run=w.journal.run, reason=w.job.reason, seconds=w.job.lease
        )
        if (ran := w.act(text)).status != "ok":
            raise StepFailed(f"out of the VIP, but the lease could not be written: {ran.err.strip() or ran.error}")


def settle(w: Work, args: Args) -> Done:
    if not w.known.get("settle"):
        return skipped("it was out already")
    if w.service.process is not None and w.look().proc is None:
        return skipped("no process, nothing to wait for")
    if "for" in args:
        w.pause(float(args["for"]))
        detail = f"waited {format_duration(float(args['for']))}"
    else:
        detail = w.gate.settle(w.pause)
    w.note(settle=False)
    return Done(detail=detail)


def stop(w: Work, args: Args) -> Done:
    seen = w.look("stop")
    w.first_seen(seen)
    if seen.proc is None:
        return skipped("not running")
    if w.replaced(seen):
        return skipped(f"already replaced by process {seen.proc.pid}")
    if w.hung or seen.process == "hung":
        _hung(w)
        return skipped(f"already hung: {_last_word(seen)}")
    name = f"{w.service.name}.stop"
    if seen.command.state != "running":  # a resumed run may find its own stop command still at work
        _launch(w, "stop", w.service.stop)
    began = w.now()
    while True:
        w.pause(LOOK)
        seen, spent = w.look("stop"), w.now() - began
        _tell(w, seen)
        if seen.command.failed:
            left = f"process {seen.proc.pid} is untouched" if seen.proc else "the process is gone"
            raise StepFailed(f"the stop command {_how(seen.command)}; {left}")
        if seen.proc is None:  # what the command still has to do is part of the stop
            if seen.command.state == "running" and spent < w.service.stop_timeout:
                continue
            _end_stop(w, name, seen)
            return Done(detail=f"stopped in {format_duration(spent)}")
        if identity(seen.proc) != w.old:
            raise StepFailed(f"process {seen.proc.pid} appeared while it stopped: somebody else is at work here")
        if seen.process == "hung" or spent >= w.service.stop_timeout:
            _hung(w)
            _end_stop(w, name, seen)
            why = _last_word(seen) if seen.process == "hung" else f"still there after {format_duration(spent)}"
            return Done("failed", f"hangs: {why}")


def _end_stop(w: Work, name: str, seen: Glance) -> None:
    if seen.command.state == "running":
        w.act(commands.end(w.host.lock, name, launch=w.launches["stop"], spare=seen.proc, run_as=w.service.run_as))


def _hung(w: Work) -> None:
    if not w.hung:
        w.hung = True
        w.note(hung=True)


def _tell(w: Work, seen: Glance) -> None:
    """Whoever watches sees what the log says of the stop, once a word."""
    line, after = seen.verdict.line, w.service.hang and w.service.hang.after
    if seen.verdict.word == "stopping" and line and after and (found := re.search(after, line, re.IGNORECASE)):
        said = mask(line[found.start() :].strip()[:160])
        if w.known.get("says") != said:
            w.note(says=said)


def _last_word(seen: Glance) -> str:
    said = (seen.verdict.line or "").strip()
    return f'last word "{said[:160]}"' if said else "it answers no stop"


def evidence(w: Work, args: Args) -> Done:
    seen = w.look()
    paths = saving.capture(
        w.session(), w.host, w.service, seen.proc, w.journal.folder / w.host.name,
        dumps=int(args["dumps"]), every=float(args["every"]), log_lines=int(args["log_lines"]),
        act=w.act, wait=w.halt.pause, timeout=w.limit(60.0),
    )  # fmt: skip
    w.note(evidence=[str(p) for p in paths])
    return Done(detail=saving.summary(paths))


def kill(w: Work, args: Args) -> Done:
    seen = w.look()
    proc = seen.proc
    if proc is None:
        if pid := w.known.get("killing"):
            w.note(killed_pid=pid, killing=None)
            return Done(detail=f"{pid}, gone")
        return Done(detail="gone by itself")
    if w.replaced(seen):
        return skipped(f"already replaced by process {proc.pid}")
    if w.old is not None and identity(proc) != w.old:
        raise StepFailed(f"process {proc.pid} is not the one that was found: nothing is signalled")
    name = str(args["signal"])
    w.note(killing=proc.pid)
    _signal(w, proc, name)
    w.note(killed_pid=proc.pid, killing=None)
    limit, began = (GONE if name == "KILL" else w.service.stop_timeout), w.now()
    while (seen := w.look()).proc is not None and identity(seen.proc) == identity(proc):
        if w.now() - began > limit:
            said = process.understand_signal(w.ask(script(process.wait_gone(proc, 0)), 10.0).stdout)
            why = process.asleep(proc, said.detail) or f"look: {process.look_at(w.host.short, proc.pid)}"
            raise StepFailed(f"{name} was sent {format_duration(limit)} ago, and it still lives; {why}")
        w.pause(QUICK)
    if seen.proc is not None and w.left_over(seen.proc):
        raise StepFailed(f"{name} {proc.pid}, gone; but its child {seen.proc.pid} lives on: a resume goes on with that")
    return Done(detail=f"{name} {proc.pid}, gone")


def _signal(w: Work, proc: Proc, name: str) -> None:
    """Prove who it is and signal it, in one remote step. StepFailed where it is not the one, or may not be signalled."""
    ran = w.act(process.signal(proc, name, become=process.become(w.host.ssh.user, proc)))
    said = process.understand_signal(ran.stdout)
    if said.outcome not in ("sent", "gone", "zombie"):
        why = said.detail or ran.err.strip() or ran.error or said.outcome
        raise StepFailed(f"{name} {proc.pid} was not sent ({said.outcome}): {why}")


def start(w: Work, args: Args) -> Done:
    seen = w.look("start")
    w.first_seen(seen)
    if seen.proc is not None:
        if w.replaced(seen) or w.job.procedure.goal == "started":
            w.new = identity(seen.proc)
            return skipped(f"process {seen.proc.pid} runs")
        raise StepFailed(f"process {seen.proc.pid} is still there")
    if seen.command.state != "running":  # a resumed run may find its own start command still at work
        w.watch.begin_here()
        w.note(launched=True, mark=w.watch.place)
        _launch(w, "start", w.service.start)
    w.launched = True
    began = w.now()
    while True:
        seen = w.look("start", starting=True)
        if seen.command.failed:
            raise StepFailed(f"the start command {_how(seen.command)}")
        if seen.proc is not None:
            return Done(detail=_appeared(w, seen))
        if seen.command.state == "exit" and not (w.service.started and w.service.log):
            _still_time(w, began, "no process appeared")
        elif seen.command.state == "exit":
            return Done(detail="the start command ended well")
        _still_time(w, began, "the start command has not ended, and no process appeared")
        w.pause(QUICK)


def _appeared(w: Work, seen: Glance) -> str:
    assert seen.proc is not None
    w.new = identity(seen.proc)
    return f"process {seen.proc.pid}"


def _still_time(w: Work, began: float, why: str) -> None:
    if w.now() - began > w.service.start_timeout:
        raise StepFailed(f"{why} within {format_duration(w.service.start_timeout)}")


def started(w: Work, args: Args) -> Done:
    if w.served or (not w.launched and not w.replaced(w.look())):
        return skipped("it was running")
    began = w.now()
    while True:
        seen = same(w, w.look("start", starting=w.new is None))
        if seen.verdict.word == "started":
            at = f'"{_said(seen.verdict.line or "", w.service.started)}"'
            return Done(detail=f"process {w.new[0] if w.new else '?'}: {at}")
        if w.known.get("came") and (done := _untold(w, seen)):
            return done
        _still_time(w, began, f"the log did not say `{w.service.started}`")
        w.pause(LOOK if w.new else QUICK)


def _untold(w: Work, seen: Glance) -> Done | None:
    """A process that another started before this run looked at it: its log may not tell any more. StepFailed where nothing
    else could prove the start; None where a dated log may still tell."""
    who = f"process {seen.proc.pid if seen.proc else '?'} was not launched by this run, and before it looked"
    if w.service.health is not None:
        return skipped(f"{who}; its log does not tell of it, its health does")
    if seen.dated:
        return None
    raise StepFailed(
        f"{who}; the lines of {w.service.log} bear no date, so none can be told to be its own: `{w.service.started}` "
        "proves nothing, and there is no `health` to ask (log_time, or health, in the inventory would tell)"
    )


def _said(line: str, pattern: str | None) -> str:
    """What a line of the log says, from the words that were waited for on: what stands before them is the logger's."""
    found = re.search(pattern or "", line, re.IGNORECASE)
    return line[found.start() if found else 0 :].strip()[:120]


def same(w: Work, seen: Glance) -> Glance:
    """The new process must stay the same from its start to the end, and its start command must not fail."""
    if seen.command.failed:
        raise StepFailed(f"the start command {_how(seen.command)}")
    if w.new is None:
        w.new = identity(seen.proc)
    elif seen.proc is None:
        raise StepFailed(f"process {w.new[0]} ended by itself; see {w.service.log or 'its log'}")
    elif identity(seen.proc) != w.new:
        raise StepFailed(f"process {w.new[0]} ended, process {seen.proc.pid} came up in its place")
    return seen


def health(w: Work, args: Args) -> Done:
    check = w.service.health
    assert check is not None
    times, interval = int(args.get("times", check.times)), float(args.get("interval", check.interval))
    limit, began, good, last = float(args.get("timeout", check.timeout)), w.now(), 0, "no answer"
    verb = "start" if w.launched else ""
    while True:
        answer = _ask_health(w, check)
        if (found := same(w, w.look(verb))).proc is None:
            raise StepFailed("there is no process")
        good, last = (good + 1, last) if answer.state == "ok" else (0, answer.detail)
        if good >= times:
            assert found.proc is not None
            return Done(detail=f"{good} of {times} OK in a row, process {found.proc.pid}")
        if w.now() - began > limit:
            raise StepFailed(f"not healthy {times} times in a row within {format_duration(limit)}: {last}")
        w.pause(interval)


def _ask_health(w: Work, check: Health) -> asking.Asked:
    """One answer. A connection that is lost on the way is no answer: it is opened anew, as long as there is time."""
    try:
        return asking.ask(w.session(), w.host, check)
    except NotLoggedIn as error:
        return asking.Asked(state="unknown", detail=error.message)


def undrain(w: Work, args: Args) -> Done:
    before = w.gate.place()
    if before.state == "in":
        w.note(vip="in")
        w.act(lease.remove(w.host.lock))  # no later look shall take it for drained on purpose
        return skipped("already in the VIP")
    if why := _unfit(w):
        raise StepFailed(f"{why}; it stays out of the VIP")
    w.note(vip="unknown")  # true of whoever is killed in the act
    try:
        w.gate.enter(w.act)
        w.note(vip="in")
        w.act(lease.remove(w.host.lock))
        if w.gate.drain.kind != "haproxy":  # HAProxy was seen to serve; of the others only the time is known
            w.pause(w.gate.drain.settle)
        if w.new is not None and same(w, w.look()).proc is None:
            raise StepFailed("there is no process")
    except (StepFailed, Failed) as why:
        raise StepFailed(f"{why}; {out_again(w)}") from None
    return Done(detail="serving")


def _unfit(w: Work) -> str | None:
    """Why the host would not serve, now: what was proven may be a while ago, or was never asked."""
    if w.service.process is not None:
        seen = w.look()
        if w.new is not None:
            same(w, seen)
        if seen.process in ("stopped", "hung"):
            return "there is no process" if seen.proc is None else f"process {seen.proc.pid} hangs"
    if (check := w.service.health) is None:
        return None
    for again in range(UNFIT):
        answer = _ask_health(w, check)
        if answer.state == "ok":
            return None
        if again < UNFIT - 1:
            w.pause(check.interval)
    return f"not healthy: {answer.detail}"


def out_again(w: Work) -> str:
    """A host that failed stays out of the VIP."""
    try:
        w.gate.leave(w.act)
    except Failed as failed:
        return failed.message
    w.note(vip="out")
    return "out of the VIP again"


def _launch(w: Work, verb: str, argv: tuple[str, ...]) -> None:
    """Launch a command under a name that no earlier launch had, known to whoever resumes before it can run."""
    name = f"{w.service.name}.{verb}"
    w.launches[verb] = f"{w.journal.run}.{secrets.token_hex(4)}"
    w.note(launches=dict(w.launches))
    ran = w.once(commands.launch(w.host.lock, name, argv, launch=w.launches[verb], run_as=w.service.run_as))
    if ran.unanswered and w.look(verb).command.state != "none":
        return  # it had begun when the connection broke
    if ran.status != "ok" or not ran.stdout.startswith(b"launched"):
        raise StepFailed(f"the command could not be launched: {ran.err.strip() or ran.out.strip() or ran.error}")


def _how(command: commands.Command) -> str:
    how = f"ended with {command.exit}" if command.state == "exit" else "was killed from outside"
    return how + (f": {command.last_line}" if command.last_line else "")


DO: Mapping[str, Callable[[Work, Args], Done]] = {
    "drain": drain,
    "settle": settle,
    "stop": stop,
    "evidence": evidence,
    "kill": kill,
    "start": start,
    "started": started,
    "health": health,
    "undrain": undrain,
}
