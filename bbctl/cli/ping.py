"""`bbctl ping`: can they be logged in to?"""

from __future__ import annotations

import typer

from bbctl.cli.front import Call, Exclude, Label, Targets


def ping(ctx: typer.Context, target: Targets = None, exclude: Exclude = None, label: Label = None) -> int:
    """Log in to each host, and out again. No command is run.

    \b
    Examples:
      bbctl ping                 all hosts
      bbctl ping workers -o json
    """
    from bbctl.ssh.dial import Ahead
    from bbctl.targets import select

    call: Call = ctx.obj
    hosts = select(call.fleet, target, exclude=exclude, labels=label)
    ahead = Ahead(hosts[:32])

    from bbctl.cli.exec import over, run_on_all
    from bbctl.render import answers
    from bbctl.ssh.transport import Transport

    with Transport(call.fleet, ahead=ahead) as transport:
        rows, stopped = run_on_all(hosts, lambda host, _: transport.ping(host))
    call.show([answers.ping_row(r) for r in rows], lambda: answers.ping(rows), name="host")
    return over(rows, stopped)
