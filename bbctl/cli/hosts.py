"""`bbctl hosts`: who is in the inventory, and what a TARGET means."""

from __future__ import annotations

import typer

from bbctl.cli.front import Call, Exclude, Label, Targets


def hosts(ctx: typer.Context, target: Targets = None, exclude: Exclude = None, label: Label = None) -> None:
    """The hosts of the inventory, or those that a TARGET means.

    \b
    Examples:
      bbctl hosts                              all of them
      bbctl hosts workers -x '*1.snc1'         a group without one host
      bbctl hosts 'accounting-worker[1-2]'     a range; also {1-3} and {1,3}
      bbctl hosts -l rack=b -o name            by label, one name a line
    """
    from bbctl.render import inventory as screens
    from bbctl.targets import select

    call: Call = ctx.obj
    chosen = select(call.fleet, target, exclude=exclude, labels=label)
    call.show([screens.host_row(host) for host in chosen], lambda: screens.hosts(chosen))
