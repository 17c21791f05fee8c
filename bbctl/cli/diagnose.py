"""`bbctl diagnose`: what is wrong, with evidence and the next command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bbctl.cli.front import Call, Exclude, Label, Targets
from bbctl.errors import Failed

if TYPE_CHECKING:
    from bbctl.diagnose import Diagnosis
    from bbctl.enginecheck import Room

Bundle = Annotated[
    str | None, typer.Option("--bundle", metavar="FILE", help="All of it as a tar, secrets masked (.gz, .tgz: gzip).")
]


def diagnose(
    ctx: typer.Context, target: Targets = None, exclude: Exclude = None, label: Label = None, bundle: Bundle = None
) -> int:
    """What is wrong, since when, how that is known, and what to type next. Changes nothing. Exit 1 with findings.

    \b
    Examples:
      bbctl diagnose                          hosts, stores, workflows
      bbctl diagnose accounting-worker2       one host, and how its VIP stands
      bbctl diagnose workers --bundle /tmp/night.tgz
    """
    from bbctl import diagnose as diagnosing
    from bbctl.cli import knowing
    from bbctl.render import findings as screens
    from bbctl.settings import shipped
    from bbctl.ssh.transport import Transport
    from bbctl.targets import select

    call: Call = ctx.obj
    hosts = select(call.fleet, target, exclude=exclude, labels=label)
    rules = diagnosing.known_signatures(Path(call.settings.playbooks().value), shipped("playbooks"))
    asking, runs = _Asking(call), knowing.Asked(call)
    asking.start()
    with Transport(call.fleet) as transport:
        found = diagnosing.diagnose(transport, call.fleet, hosts, signatures=rules, runs=runs)
        asking.join()
        lost = None if bundle is None else _bundle(call, Path(bundle), found, asking.room, transport)
    # A host is asked about for what is wrong with *it*; the engine's troubles are told, and count where all was asked about.
    extra = () if target else asking.troubles
    call.show(
        {**_result(found, asking.room, extra), "bundle": {"path": bundle, "error": lost} if bundle else None},
        lambda: screens.diagnosis(found, extra, *_beside(found, asking, named=bool(target))),
    )
    return 1 if found.troubles or extra or lost else 0


class _Asking(Thread):
    """The stores, asked while the hosts are."""

    def __init__(self, call: Call) -> None:
        super().__init__(daemon=True, name="stores")
        self._call = call
        self.room: Room | None = None
        self.error: str | None = None

    def run(self) -> None:
        from bbctl import enginecheck
        from bbctl.errors import BbctlError

        settings = self._call.settings
        try:
            self.room = enginecheck.look(settings.stores(), settings.home(), expected=self._call.fleet.expected)
        except BbctlError as error:
            self.error = error.message

    @property
    def troubles(self) -> tuple[Any, ...]:
        return self.room.troubles if self.room else ()


def _beside(found: Diagnosis, asking: _Asking, *, named: bool) -> tuple[list[str], list[str]]:
    """What a person need not look at, in words; and where hosts were `named`, what troubles the engine meanwhile."""
    from bbctl.render import findings as screens

    boxes = [s for s in found.seen if s.machine is not None]
    words = (
        screens.machine_words(boxes[0].machine, boxes[0].facts.clock_offset)
        if len({s.host.name for s in boxes}) == 1
        else []
    )
    if asking.room is not None:
        words += [f"{s.name} ok" for s in asking.room.stores if s.state == "ok"]
        if asking.room.summary is not None:
            s = asking.room.summary
            words.append(f"queue {s.oldest:.1f} s · {s.stuck} stuck" + (f" · {s.late} late" if s.late else ""))
    troubles = asking.troubles if named else ()
    others = [f"[{t.finding.severity}] {t.finding.target}: {t.finding.title}" for t in troubles]
    return words, [*others, "bbctl diagnose says more"] if others else []


def _result(found: Diagnosis, room: Room | None, extra: Sequence[Any]) -> dict[str, Any]:
    from bbctl.render import findings as screens
    from bbctl.render import services as rows
    from bbctl.render.plain import stamp

    troubles = sorted([*extra, *found.troubles], key=lambda t: t.finding.severity)
    return {
        "findings": [screens.as_json(t.finding) for t in troubles],
        "site": found.site,
        "at": stamp(found.at),
        "seconds": round(found.seconds, 2),
        "hosts": [rows.status_row(s) for s in found.seen],
        "vips": [
            {"vip": p.vip, "in_service": p.serving, "hosts": p.members, "min_in_service": p.least}
            for p in found.pools.values()
        ],
        "stores": [{"name": s.name, "state": s.state, "error": s.error} for s in room.stores] if room else [],
        "engine": room.summary.as_json() if room and room.summary else None,
    }


def _bundle(call: Call, path: Path, found: Diagnosis, room: Room | None, transport: Any) -> str | None:
    """Write the bundle: what was found, and of every host the end of its log and how its process stands. Why it could not
    be written, or None: what was found is told all the same."""
    from importlib.metadata import version

    from bbctl import bundle
    from bbctl.remote import proof
    from bbctl.remote.shell import script
    from bbctl.ssh.fanout import fanout

    stand = {s.host.name: s.facts.proc for s in found.seen if s.facts.proc is not None}
    hosts = [s.host for s in found.seen if s.host.name in stand]
    ran = fanout(hosts, lambda h: transport.run(h, script(proof.stand(stand[h.name])), timeout=30.0, guard=True))
    files: dict[str, Any] = {
        "diagnosis.json": _result(found, room, room.troubles if room else ()),
        "about.json": {"bbctl": version("bbctl"), "operator": call.settings.operator()},
    }
    if call.fleet.source is not None:
        files["inventory.yml"] = call.fleet.source.read_text("utf-8", "replace")
    for seen in found.seen:
        where = f"hosts/{seen.host.name}"
        if seen.tail is not None and seen.tail.data:
            files[f"{where}/{seen.service.name}.log"] = seen.tail.data.decode("utf-8", "replace")
        if seen.host.name in ran:
            files[f"{where}/process.txt"] = ran[seen.host.name].out
    try:
        bundle.write(path, files)
    except Failed as error:
        call.say(f"no bundle: {error.message}")
        return error.message
    call.say(f"bundle   {path}, {len(files)} files, passwords and tokens masked")
    return None
