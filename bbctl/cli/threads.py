"""`bbctl threads`: thread dumps, deadlocks named."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bbctl.cli.front import Call, Exclude, Label, Reason, ServiceName, Targets

if TYPE_CHECKING:
    from bbctl.threads import Dumped

Count = Annotated[int, typer.Option("--dumps", metavar="N", min=1, max=20, help="So many, two seconds apart.")]


def threads(
    ctx: typer.Context, target: Targets = None, service: ServiceName = None, dumps: Count = 1, exclude: Exclude = None,
    label: Label = None, reason: Reason = None,
) -> int:  # fmt: skip
    """Thread dumps of the service on every host, saved here. Exit 1 where one names a deadlock, or none was had.

    \b
    Examples:
      bbctl threads accounting-worker2 --service jboss
      bbctl threads workers --dumps 3         what moves between them, and what does not
    """
    from bbctl.cli.audited import act
    from bbctl.cli.kill import check_words
    from bbctl.render import services as screens
    from bbctl.ssh.fanout import exit_over, fanout
    from bbctl.ssh.transport import Transport
    from bbctl.targets import select
    from bbctl.threads import take

    call: Call = ctx.obj
    hosts = select(call.fleet, target, exclude=exclude, labels=label, needed=True)
    check_words(hosts, service, None)
    names = {h.name: service or next(s.name for s in h.services if s.process) for h in hosts}
    folder = (
        call.settings.home() / "evidence" / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-t-{secrets.token_hex(4)}"
    )
    with (
        act(call, targets={"hosts": [h.name for h in hosts]}, reason=reason or "") as outcome,
        Transport(call.fleet) as transport,
    ):
        found = list(fanout(hosts, lambda h: take(transport, h, names[h.name], folder, count=dumps)).values())
        outcome["result"] = {d.host.name: d.status for d in found}
    rows = [_row(one) for one in found]
    call.show(rows, lambda: screens.threads(rows), name="host")
    ends = ["failed" if one.deadlocks else one.status for one in found]
    return 3 if "refused" in ends else exit_over(ends)


def _row(one: Dumped) -> dict[str, Any]:
    return {
        "host": one.host.name,
        "pid": one.pid,
        "files": [str(path) for path in one.files],
        "deadlocks": [ring.as_json() for ring in one.deadlocks],
        "outcome": one.status,
        "status": one.status,
        "error": one.error,
    }
