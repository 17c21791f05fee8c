"""`bbctl doctor`: is this machine ready, and is the inventory true?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from bbctl.cli.front import Call, Exclude, Label, Targets


def doctor(ctx: typer.Context, target: Targets = None, exclude: Exclude = None, label: Label = None) -> int:
    """Logins, keys, paths, sudo, the VIP, clocks, stores, and how often the inventory's patterns fit the real logs.

    Changes nothing. Exit 1 where something will fail at night.

    \b
    Examples:
      bbctl doctor                 a new ops box, or a changed inventory
      bbctl doctor workers -o json
    """
    from bbctl import doctor as examination
    from bbctl.render import doctor as screens
    from bbctl.run import playbook
    from bbctl.settings import shipped
    from bbctl.ssh.transport import Transport
    from bbctl.targets import select

    call: Call = ctx.obj
    hosts = select(call.fleet, target, exclude=exclude, labels=label)
    book = playbook.load(playbook.find("restart", [Path(call.settings.playbooks().value), shipped("playbooks")]))
    with Transport(call.fleet) as transport:
        found = examination.examine(
            call.fleet, hosts, restart=playbook.proven(book), stores=call.settings.stores(), transport=transport
        )
    call.show([asdict(c) for c in found], lambda: screens.doctor(found), name="check")
    return 1 if any(c.state == "wrong" for c in found) else 0
