"""`bbctl status`: process, health and VIP of every service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from bbctl.cli.front import Call, Exclude, Label, ServiceName, Targets
from bbctl.errors import Interrupted

if TYPE_CHECKING:
    from bbctl.look import Seen
    from bbctl.model import Host
    from bbctl.ssh.transport import Transport

EVERY = 2.0  # seconds between two looks of --watch

Watch = Annotated[bool, typer.Option("-w", "--watch", help="Look again and again, until Ctrl-C.")]


def status(
    ctx: typer.Context, target: Targets = None, exclude: Exclude = None, label: Label = None, service: ServiceName = None,
    watch: Watch = False,
) -> int:  # fmt: skip
    """Process, health and VIP of every service. Changes nothing. Exit 1 where anything is not fine, or out of its VIP.

    \b
    Examples:
      bbctl status                        the whole fleet
      bbctl status workers -w             live
      bbctl status workers -o json        for programs
    """
    from bbctl.look import fine, look_closely
    from bbctl.render import services as screens
    from bbctl.ssh.fanout import exit_over
    from bbctl.ssh.transport import Transport
    from bbctl.targets import select

    call: Call = ctx.obj
    hosts = select(call.fleet, target, exclude=exclude, labels=label)
    if service is not None:
        hosts = [h for h in hosts if h.service(service)] or _none_has(service)
    with Transport(call.fleet) as transport:
        if watch:
            return _watch(call, transport, hosts, service)
        found = look_closely(transport, hosts, known=call.fleet.hosts, service=service)
    call.show([screens.status_row(s) for s in found], lambda: screens.status(found), name="host")
    return exit_over(["ok" if fine(s) else _word(s) for s in found])


def _word(seen: Seen) -> str:
    return "failed" if seen.facts.status == "ok" else seen.facts.status


def _none_has(service: str) -> list[Host]:
    from bbctl.errors import UsageError

    raise UsageError(f"none of these hosts has a service {service!r}", code="no-service", next="bbctl hosts")


def _watch(call: Call, transport: Transport, hosts: Sequence[Host], service: str | None) -> int:
    """Look and show until interrupted: in place on a terminal, else one line of JSON (or one table) a look."""
    from bbctl.look import look_closely
    from bbctl.render import plain
    from bbctl.render import services as screens

    try:
        while True:
            began = time.time()
            found = look_closely(transport, hosts, known=call.fleet.hosts, service=service)
            if call.output in ("json", "yaml"):
                for seen in found:
                    plain.line({"at": plain.stamp(began), **screens.status_row(seen)})
            else:
                screens.watched(found, began)
            time.sleep(max(0.2, EVERY - (time.time() - began)))
    except KeyboardInterrupt:
        return 130
    except Interrupted as ended:
        return ended.exit
